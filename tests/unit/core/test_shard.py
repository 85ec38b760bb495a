"""Cutting campaigns into shards, and shards into halves."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.campaign import recipe_at
from farm.core.fingerprint import engine_digest
from farm.core.matrix import count, runs
from farm.core.proof import sample
from farm.core.records import NewShard
from farm.core.renderer_states import LOST, RENDERER_EDGES
from farm.core.shard import (
    LINKS,
    MAX_LINKS,
    MAX_RENDERS,
    MAX_SECONDS,
    MAX_SHARDS,
    PROOF_SECONDS,
    SHARD_EDGES,
    Bisect,
    Poisoned,
    Ranges,
    Requeue,
    after_lost_lease,
    contains,
    cut,
    halves,
    minus,
    ordinals_of,
    ranges_of,
    size_of,
)
from farm.core.work import unet_steps_at
from schemas.campaign import ResolvedCampaign
from schemas.recipe import Output, Upscale
from schemas.rendition import Rendition
from schemas.style import Checks, StrengthMode
from tests.unit.core.samples import block, campaign, campaigns, ordinals, ranges, style


@given(campaigns, st.floats(0.001, 5), st.floats(0.01, 60))
def test_shards_tile_the_campaign_in_order_each_within_one_engine_key(
    of: ResolvedCampaign, seconds: float, target: float
) -> None:
    shards = cut(of, lambda _: seconds, target)
    assert [shard.todo[0][0] for shard in shards] == [0, *(shard.todo[0][1] for shard in shards[:-1])]
    assert shards[-1].todo[0][1] == count(of)
    assert {len(shard.todo) for shard in shards} == {1}
    assert {shard.state for shard in shards} == {"ready"}
    for shard in shards:
        check_engine_key(of, shard)


@given(campaigns, st.floats(0.001, 5))
def test_a_shard_says_what_step_its_seconds_rest_on(of: ResolvedCampaign, step: float) -> None:
    for shard in cut(of, lambda recipe: max(recipe.unet_steps, 1) * step, 30.0):
        assert shard.step_seconds == pytest.approx(step)


def check_engine_key(of: ResolvedCampaign, shard: NewShard) -> None:
    recipes = [recipe_at(of, ordinal) for ordinal in ordinals_of(shard.todo)]
    assert {engine_digest(recipe.engine_key) for recipe in recipes} == {shard.engine_key}
    assert {recipe.checkpoint for recipe in recipes} == {shard.checkpoint}


@given(campaigns, st.floats(0.001, 5), st.floats(0.01, 60))
def test_shards_are_no_longer_than_the_target_and_of_nearly_equal_width(
    of: ResolvedCampaign, seconds: float, target: float
) -> None:
    most = max(1, -(-count(of) // MAX_SHARDS), round(target / seconds))
    most = min(most, MAX_RENDERS, max(1, int(MAX_SECONDS / seconds)))
    shards = cut(of, lambda _: seconds, target)
    for run in runs(of):
        widths = [size_of(shard.todo) for shard in shards if run.lo <= shard.todo[0][0] < run.hi]
        assert sum(widths) == run.hi - run.lo
        assert max(widths) <= most
        assert max(widths) - min(widths) <= 1
        assert len(widths) == -(-(run.hi - run.lo) // most), "no more shards than the target asks for"


@given(campaigns, st.floats(0.001, 5), st.floats(0.01, 60), st.data())
def test_with_a_proof_shards_still_tile_the_campaign_and_only_the_proof_is_ready(
    of: ResolvedCampaign, seconds: float, target: float, data: st.DataObject
) -> None:
    proof = data.draw(st.sets(st.integers(0, count(of) - 1), min_size=1))
    shards = cut(of, lambda _: seconds, target, proof=sorted(proof))
    parts = [ordinal for shard in shards for ordinal in ordinals_of(shard.todo)]
    assert sorted(parts) == list(range(count(of)))
    ready = {ordinal for shard in shards if shard.state == "ready" for ordinal in ordinals_of(shard.todo)}
    assert ready == proof
    assert {shard.state for shard in shards} <= {"ready", "held"}
    for shard in shards:
        check_engine_key(of, shard)
        assert shard.todo == ranges_of(ordinals_of(shard.todo)), "sorted, disjoint, in the fewest parts"


@given(campaigns, st.floats(0.1, 5))
def test_the_shards_of_a_proof_are_small(of: ResolvedCampaign, seconds: float) -> None:
    for shard in cut(of, lambda _: seconds, 60.0, proof=range(count(of))):
        renders = size_of(shard.todo)
        assert renders == 1 or renders * seconds <= PROOF_SECONDS + seconds / 2


def test_a_sample_of_a_large_campaign_is_cut_with_the_rest() -> None:
    of = campaign(block(styles=10, strengths=5, sources=1000, variants=20))
    proof = sample(of, None)
    shards = cut(of, lambda _: 1.0, 30.0, proof=proof)
    assert sum(size_of(shard.todo) for shard in shards) == count(of)
    assert sum(size_of(shard.todo) for shard in shards if shard.state == "ready") == len(proof)
    assert len(shards) <= MAX_SHARDS + 2 * len(runs(of))


@pytest.mark.parametrize("variants", [1, 3_999, 4_000, 4_001, 8_000, 10_000])
@pytest.mark.parametrize("sources", [1, 7, 1_000])
def test_large_campaigns_have_larger_shards_not_more(variants: int, sources: int) -> None:
    of = campaign(block(styles=3, sources=sources, variants=variants))
    shards = cut(of, lambda _: 1.0, 1.0)
    widest = max(size_of(shard.todo) for shard in shards)
    assert len(shards) <= MAX_SHARDS + len(runs(of)) or widest == MAX_RENDERS
    assert widest <= MAX_RENDERS
    assert sum(size_of(shard.todo) for shard in shards) == count(of)


def test_no_shard_outlives_the_links_in_its_order() -> None:
    shards = cut(campaign(block(sources=1_000, variants=100)), lambda _: 60.0, 30.0)
    assert max(size_of(shard.todo) for shard in shards) * 60.0 <= MAX_SECONDS


def test_no_shard_outlives_its_links_though_every_picture_is_made_again() -> None:
    strict = (style(checks=Checks(structure=1, rerolls=8), strength_mode=StrengthMode.NOISE),)
    every = block(sources=1_000, variants=1_000).model_copy(update={"styles": strict})
    renditions = Output(renditions=(Rendition(name="large", size="128x128"),))
    for output in (Output(), renditions):
        of = campaign(every).model_copy(update={"output": output})
        steps = recipe_at(of, 0).unet_steps
        shards = cut(of, lambda recipe: recipe.unet_steps * 0.05, 30.0)
        longest = max(size_of(shard.todo) for shard in shards)
        assert longest * (steps + 8 * 30) * 0.05 <= MAX_SECONDS < (longest + 1) * (steps + 8 * 30) * 0.05


def test_a_render_that_costs_nothing_does_not_break_the_cut() -> None:
    assert len(cut(campaign(block(variants=100)), lambda _: 0.0, 30.0)) == 1


@given(ordinals)
def test_ranges_hold_exactly_their_ordinals_in_the_fewest_parts(numbers: set[int]) -> None:
    found = ranges_of(sorted(numbers, reverse=True))
    assert ordinals_of(found) == sorted(numbers)
    assert size_of(found) == len(numbers)
    assert all(lo < hi for lo, hi in found)
    assert all(before[1] < after[0] for before, after in pairwise(found)), "neighbours are joined"
    assert all(contains(found, number) == (number in numbers) for number in range(-1, 62))


@given(st.lists(st.integers(0, 5)))
def test_an_ordinal_that_is_named_twice_is_held_once(numbers: list[int]) -> None:
    assert ordinals_of(ranges_of(numbers)) == sorted(set(numbers))


@given(ranges, st.lists(st.integers(-5, 65)))
def test_minus_takes_out_what_is_there_and_nothing_else(held: Ranges, gone: Sequence[int]) -> None:
    left = minus(held, gone)
    assert set(ordinals_of(left)) == set(ordinals_of(held)) - set(gone)
    assert minus(left, gone) == left


@given(ranges.filter(lambda held: size_of(held) > 1))
def test_halves_are_two_equal_parts_of_the_whole(held: Ranges) -> None:
    first, second = halves(held)
    assert ordinals_of(first) + ordinals_of(second) == ordinals_of(held)
    assert 0 <= size_of(second) - size_of(first) <= 1
    assert first


def test_the_first_losses_say_nothing_of_a_shard() -> None:
    for width in (1, 2, 500):
        assert [after_lost_lease(lost=lost, width=width) for lost in (1, 2)] == [Requeue()] * 2


def test_a_shard_that_goes_on_losing_renderers_is_halved_until_one_render_is_left() -> None:
    assert [after_lost_lease(lost=lost, width=2) for lost in range(3, 12)] == [Bisect()] * 9


def test_a_single_render_is_given_up_after_twice_the_patience() -> None:
    found = [after_lost_lease(lost=lost, width=1) for lost in range(1, 9)]
    assert found == [Requeue()] * 5 + [Poisoned()] * 3


@given(st.integers(1, 4000), st.data())
def test_the_render_that_kills_is_found_and_only_it_is_given_up(width: int, data: st.DataObject) -> None:
    """Every renderer that gets the poisoned render dies; whoever gets another part lives."""
    poison = data.draw(st.integers(0, width - 1))
    todo, lost = ranges_of(range(width)), 0
    while True:
        lost += 1
        match after_lost_lease(lost=lost, width=size_of(todo)):
            case Requeue():
                continue
            case Bisect():
                todo = next(half for half in halves(todo) if contains(half, poison))
            case Poisoned():
                break
    assert ordinals_of(todo) == [poison]
    assert lost <= max(6, 3 + width.bit_length() + 1)


def test_a_shard_ends_done_or_cancelled_and_never_begins_again() -> None:
    states = {state for edge in SHARD_EDGES for state in edge}
    assert states == {"held", "ready", "leased", "done", "cancelled"}
    assert not [edge for edge in SHARD_EDGES if edge[0] == "done"]
    assert {to for frm, to in SHARD_EDGES if frm == "cancelled"} == {"done"}
    assert {frm for frm, to in SHARD_EDGES if to == "leased"} == {"ready"}, "what is held is not rendered"


def test_every_state_of_a_renderer_can_end() -> None:
    states = {state for edge in RENDERER_EDGES for state in edge}
    assert {frm for frm, to in RENDERER_EDGES if to == LOST} == states - {LOST}


def test_an_order_holds_so_many_links_however_many_renditions_a_render_has() -> None:
    made = tuple(Rendition(name=f"r{n}", aspect="1:1") for n in range(12))
    of = campaign(block(variants=1000)).model_copy(update={"output": Output(renditions=made)})
    widths = [size_of(shard.todo) for shard in cut(of, lambda _: 0.001, 30.0)]
    assert max(widths) * (LINKS + len(made)) <= MAX_LINKS
    assert sum(widths) == 1000


def test_a_render_costs_what_its_tiles_cost_too() -> None:
    """A render of 64x64 that is made twice as large is rendered again in nine tiles of that size."""
    plain, large = Output(), Output(renditions=(Rendition(name="x2", size="128x128"),), upscale=Upscale(steps=8))
    one = block(strengths=1)
    steps = []
    for output in (plain, large):
        of = campaign(one).model_copy(update={"output": output})
        assert max(1, recipe_at(of, 0).unet_steps) == unet_steps_at(of, 0)
        steps.append(recipe_at(of, 0).unet_steps)
    assert steps[1] - steps[0] == 9 * 8


@pytest.mark.parametrize(("mode", "steps"), [(StrengthMode.NOISE, [30, 30]), (StrengthMode.DIFFUSERS, [3, 15])])
def test_strength_as_noise_takes_all_steps_whatever_it_is(mode: StrengthMode, steps: list[int]) -> None:
    one = block().model_copy(update={"styles": (style(strength_mode=mode),), "strengths": (0.1, 0.5)})
    of = campaign(one)
    assert [unet_steps_at(of, n) for n in range(2)] == steps
    assert [recipe_at(of, n).unet_steps for n in range(2)] == steps
