"""A campaign's states, and its renders written out."""

from itertools import product

import pytest

from farm.core.campaign import BEGINS, EDGES, ENDED, may_move, recipe_at, resumed
from schemas.campaign import CampaignState, ResolvedBlock, ResolvedSource
from tests.unit.core.samples import block, campaign, style

S = CampaignState


def test_what_has_ended_stays_ended() -> None:
    assert {S.DONE, S.CANCELLED} == ENDED
    assert not [edge for edge in EDGES if edge[0] in ENDED]


def test_every_state_is_reached_and_every_open_one_can_end() -> None:
    assert {to for _, to in EDGES} | BEGINS == set(S)
    for state in set(S) - ENDED:
        reached = {state}
        while more := {to for frm, to in EDGES if frm in reached} - reached:
            reached |= more
        assert reached & ENDED, state


def test_moves_are_exactly_the_edges() -> None:
    assert {(frm, to) for frm, to in product(S, S) if may_move(frm, to)} == EDGES


@pytest.mark.parametrize("state", S)
def test_nothing_moves_to_where_it_is(state: CampaignState) -> None:
    assert not may_move(state, state)


def test_a_cancel_cannot_be_taken_back() -> None:
    assert [to for to in S if may_move(S.CANCELLING, to)] == [S.CANCELLED]


def test_only_what_awaits_approval_cannot_be_paused() -> None:
    """Nothing of it is under way, so there would be nothing to pause."""
    assert {frm for frm, to in EDGES if to is S.PAUSED} == {S.ACTIVE, S.PROOFING}


@pytest.mark.parametrize("has_held", [True, False])
def test_what_was_paused_goes_on_where_it_was(has_held: bool) -> None:
    state = resumed(has_held)
    assert state is (S.PROOFING if has_held else S.ACTIVE)
    assert may_move(S.PAUSED, state)
    assert may_move(state, S.PAUSED)


def test_the_rest_of_a_campaign_begins_by_approval_only() -> None:
    """From awaiting approval nothing leads to rendering but the one edge that a team asks for."""
    assert {to for frm, to in EDGES if frm is S.AWAITING_APPROVAL} == {S.ACTIVE, S.CANCELLING}


def test_a_source_brings_its_own_prompt_and_variables() -> None:
    own = ResolvedSource(sha256="1" * 64, name="a", prompt="shoe {sku}", variables={"sku": "A1"})
    common = ResolvedSource(sha256="2" * 64, name="b", prompt=None, variables={"sku": "B2"})
    of = campaign(
        ResolvedBlock(
            styles=(style(prompt="anime, {prompt}", negative_prompt="no {sku}"),),
            sizes=(None,),
            sources=(own, common),
            prompts=("a {sku}",),
            strengths=(None, 0.9),
            variants=1,
        )
    )
    recipes = [recipe_at(of, ordinal) for ordinal in range(4)]
    assert [r.prompt for r in recipes] == ["anime, shoe A1"] * 2 + ["anime, a B2"] * 2
    assert [r.negative_prompt for r in recipes] == ["no A1"] * 2 + ["no B2"] * 2
    assert [r.strength for r in recipes] == [0.5, 0.9] * 2, "a strength that is left out is the style's"
    assert {r.size for r in recipes} == {"64x48"}, "so is a size"


def test_an_axis_that_is_given_beats_the_style() -> None:
    of = campaign(block(sizes=2, strengths=2))
    assert [(r.size, r.strength) for r in (recipe_at(of, n) for n in range(4))] == [
        ("64x64", 0.01),
        ("64x64", 0.02),
        ("72x64", 0.01),
        ("72x64", 0.02),
    ]
