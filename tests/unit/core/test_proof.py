"""Which renders stand for a campaign."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.matrix import cell_at, count
from farm.core.proof import sample
from schemas.campaign import ResolvedCampaign
from tests.unit.core.samples import block, campaign, campaigns


def looks(of: ResolvedCampaign, ordinals: tuple[int, ...]) -> Counter[tuple[int, ...]]:
    cells = [cell_at(of, ordinal) for ordinal in ordinals]
    return Counter((cell.block, cell.style, cell.size, cell.strength) for cell in cells)


def all_looks(of: ResolvedCampaign) -> int:
    return sum(len(b.styles) * len(b.sizes) * len(b.strengths) for b in of.blocks)


@given(campaigns)
def test_without_a_number_every_style_size_and_strength_is_shown_once(of: ResolvedCampaign) -> None:
    found = looks(of, sample(of, None))
    assert len(found) == all_looks(of)
    assert set(found.values()) == {1}


@given(campaigns, st.integers(1, 300))
def test_a_sample_is_sorted_without_repeats_and_as_large_as_it_can_be(of: ResolvedCampaign, renders: int) -> None:
    found = sample(of, renders)
    assert len(found) == min(renders, count(of))
    assert all(before < after for before, after in pairwise(found))
    assert 0 <= found[0] <= found[-1] < count(of)


@given(campaigns, st.integers(1, 300))
def test_of_any_number_as_many_looks_as_possible_are_shown(of: ResolvedCampaign, renders: int) -> None:
    found = looks(of, sample(of, renders))
    assert len(found) == min(renders, all_looks(of))


@given(campaigns, st.integers(1, 300))
def test_more_renders_are_shared_evenly_between_looks(of: ResolvedCampaign, renders: int) -> None:
    """A look is shown less often than another only when its block has no more of it."""
    found = looks(of, sample(of, renders))
    if len(found) < all_looks(of):
        return
    most = max(found.values())
    for (index, *_), times in found.items():
        b = of.blocks[index]
        rest = len(b.sources) * len(b.prompts) * b.variants
        assert times >= min(most - 1, rest)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 6))
def test_sources_prompts_and_variants_take_turns(styles: int, sources: int, prompts: int, variants: int) -> None:
    of = campaign(block(styles=styles, sources=sources, prompts=prompts, variants=variants))
    cells = [cell_at(of, ordinal) for ordinal in sample(of, None)]
    per_source = Counter(cell.source for cell in cells)
    assert len(per_source) == min(styles, sources)
    assert max(per_source.values()) == -(-styles // sources)
    assert len({cell.prompt for cell in cells}) >= min(styles, prompts)


def test_the_first_few_are_spread_over_all_sources() -> None:
    of = campaign(block(styles=8, sources=800))
    found = sorted(cell_at(of, ordinal).source for ordinal in sample(of, None))
    assert found[0] < 200
    assert found[-1] > 600
    assert max(after - before for before, after in pairwise(found)) < 300


def test_half_as_many_renders_as_looks_still_show_every_style_and_every_strength() -> None:
    of = campaign(block(styles=6, strengths=4, sources=50))
    cells = [cell_at(of, ordinal) for ordinal in sample(of, 12)]
    assert {cell.style for cell in cells} == set(range(6))
    assert {cell.strength for cell in cells} == set(range(4))


def test_a_number_smaller_than_the_number_of_blocks_is_spread_over_blocks() -> None:
    of = campaign(block(styles=5), block(styles=5, sources=3), block(styles=5))
    assert {cell_at(of, ordinal).block for ordinal in sample(of, 3)} == {0, 1, 2}


@pytest.mark.parametrize("renders", [None, 1, 500])
def test_a_campaign_of_ten_million_renders_is_sampled_like_a_small_one(renders: int | None) -> None:
    of = campaign(block(styles=10, strengths=10, sources=1000, variants=100), block(styles=3))
    found = sample(of, renders)
    assert len(found) == (103 if renders is None else renders)
    assert len(looks(of, found)) == min(len(found), 103)
