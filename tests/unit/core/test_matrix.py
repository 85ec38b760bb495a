"""A campaign is a number, and a number is a cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.campaign import recipe_at
from farm.core.matrix import Cell, begins, block_size, cell_at, count, ordinal_of, runs
from schemas.campaign import ResolvedCampaign
from tests.unit.core.samples import block, campaign, campaigns


@given(campaigns)
def test_every_ordinal_is_one_cell_and_back(of: ResolvedCampaign) -> None:
    cells = [cell_at(of, ordinal) for ordinal in range(count(of))]
    assert [ordinal_of(of, cell) for cell in cells] == list(range(count(of)))
    assert cells == sorted(set(cells)), "cells come in the order of their digits, each once"


@given(campaigns, st.data())
def test_every_cell_is_one_ordinal_and_back(of: ResolvedCampaign, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(of.blocks) - 1))
    drawn = of.blocks[number]
    axes = (drawn.styles, drawn.sizes, drawn.sources, drawn.prompts, drawn.strengths, range(drawn.variants))
    cell = Cell(number, *(data.draw(st.integers(0, len(axis) - 1)) for axis in axes))
    assert cell_at(of, ordinal_of(of, cell)) == cell


@given(campaigns)
def test_what_is_outside_a_campaign_has_no_cell(of: ResolvedCampaign) -> None:
    for ordinal in (-1, count(of), count(of) + 1):
        with pytest.raises(IndexError):
            cell_at(of, ordinal)
        with pytest.raises(IndexError):
            recipe_at(of, ordinal)


def test_a_digit_outside_its_axis_has_no_ordinal() -> None:
    of = campaign(block(styles=2, sources=3))
    for cell in (Cell(0, 2, 0, 0, 0, 0, 0), Cell(0, 0, 0, -1, 0, 0, 0), Cell(0, 0, 0, 0, 0, 0, 1)):
        with pytest.raises(IndexError):
            ordinal_of(of, cell)


@given(campaigns)
def test_blocks_follow_one_another_without_a_gap(of: ResolvedCampaign) -> None:
    assert begins(of)[0] == 0
    assert begins(of)[-1] == count(of) == sum(block_size(part) for part in of.blocks)
    for number, begin in enumerate(begins(of)[:-1]):
        assert cell_at(of, begin).digits == (0,) * 6
        assert cell_at(of, begin).block == number


@given(campaigns)
def test_runs_tile_the_campaign_and_share_their_weights(of: ResolvedCampaign) -> None:
    found = runs(of)
    assert [run.lo for run in found] == [0, *(run.hi for run in found[:-1])]
    assert found[-1].hi == count(of)
    for run in found:
        assert run.lo < run.hi
        assert len({recipe_at(of, ordinal).engine_key for ordinal in range(run.lo, run.hi)}) == 1
        cells = [cell_at(of, ordinal) for ordinal in range(run.lo, run.hi)]
        assert {(cell.block, cell.style, cell.size) for cell in cells} == {(run.block, run.style, run.size)}


def test_style_is_the_slowest_axis_and_variant_the_fastest() -> None:
    of = campaign(block(styles=2, sources=3, prompts=2, strengths=2, variants=2))
    assert [cell_at(of, n).variant for n in range(4)] == [0, 1, 0, 1]
    assert [cell_at(of, n).strength for n in range(4)] == [0, 0, 1, 1]
    assert cell_at(of, 4).prompt == 1
    assert cell_at(of, 8).source == 1
    assert cell_at(of, 24).style == 1
    assert cell_at(of, 23).style == 0
