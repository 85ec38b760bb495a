"""Deadlines: which campaigns must hurry, and which will be late whatever is done."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.budget import Purse, Unwarn, Warn
from farm.core.deadline import CODE, Demand, Forecast, forecast
from farm.core.ids import CampaignId, TeamId, show
from farm.core.records import SpentRow
from schemas.campaign import CampaignState, PausedBy
from schemas.order import Lane

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TEAM = TeamId(7)
HOUR = 3600.0


def demand(number: int, left: float, due: float | None = None, **changes: Any) -> Demand:
    """Campaigns stand in the order of their numbers. *due*: seconds from now."""
    deadline = None if due is None else NOW + timedelta(seconds=due)
    plain = Purse(
        CampaignId(number), TEAM, CampaignState.ACTIVE, None, Lane.BULK, 50, float(number), SpentRow(), None, deadline
    )
    return Demand(replace(plain, **changes), left)


def told(*demands: Demand, capacity: float = 1.0, most: float = 10.0) -> Forecast:
    return forecast(demands, capacity={TEAM: capacity}, most={TEAM: most}, now=NOW)


def warning(found: Forecast) -> Warn:
    (only,) = found.decisions
    assert isinstance(only, Warn)
    return only


def test_campaigns_are_through_one_after_the_other() -> None:
    found = told(demand(1, 100), demand(2, 50, due=HOUR), capacity=2.0)
    assert found.finish == {CampaignId(1): NOW + timedelta(seconds=50), CampaignId(2): NOW + timedelta(seconds=75)}
    assert (found.urgent, found.decisions) == ({}, ())


def test_priority_and_the_interactive_lane_stand_before_position() -> None:
    found = told(demand(1, 100), demand(2, 100, priority=60), demand(3, 100, lane=Lane.INTERACTIVE))
    assert sorted(found.finish, key=lambda campaign: found.finish[campaign]) == [3, 2, 1]


def test_who_would_be_late_goes_ahead_and_nobody_is_warned() -> None:
    found = told(demand(1, HOUR), demand(2, 600, due=1200))
    assert found.urgent == {CampaignId(2): 0}
    assert found.finish[CampaignId(2)] == NOW + timedelta(seconds=600)
    assert found.decisions == ()


def test_of_the_urgent_the_earliest_deadline_goes_first() -> None:
    found = told(demand(1, HOUR), demand(2, 600, due=3000), demand(3, 600, due=1300), demand(4, 600, due=2200))
    assert found.urgent == {CampaignId(3): 0, CampaignId(4): 1, CampaignId(2): 2}


def test_who_is_made_late_by_those_ahead_hurries_too() -> None:
    """In the queue the first is in time; behind the second it would not be."""
    found = told(demand(1, 1000, due=1200), demand(2, 500, due=600))
    assert found.urgent == {CampaignId(2): 0, CampaignId(1): 1}


def test_who_cannot_be_met_does_not_stand_in_the_way_of_those_who_can() -> None:
    found = told(demand(1, 9000), demand(2, 5000, due=600), demand(3, 500, due=700))
    assert found.urgent == {CampaignId(3): 0, CampaignId(2): 1}
    assert warning(found).campaign == 2


def test_a_warning_says_by_how_much_and_what_would_help() -> None:
    found = warning(
        told(demand(1, 0.5 * HOUR, due=2 * HOUR), demand(2, 6 * HOUR, due=2 * HOUR), capacity=2.0, most=8.0)
    )
    assert found.code == CODE
    assert found.detail == (
        "It will be done about 1 h 15 min after its deadline, although it goes as early as it can. "
        "What would help: 4 renderers instead of 2, about 42 % fewer renders or a later deadline."
    )
    assert found.data == {
        "late_seconds": 4500,
        "renderers": 2.0,
        "needed_renderers": 4,
        "most_renderers": 8.0,
        "pause": None,
        "fewer": 0.42,
    }


def test_it_names_the_campaign_whose_pause_would_help_and_the_limit_of_the_fleets() -> None:
    found = warning(
        told(demand(1, 900, due=1000), demand(2, 600, due=1100), demand(3, 100, due=150), capacity=1.0, most=1.0)
    )
    assert found.campaign == 1
    assert found.data["pause"] == show("cmp", 2)
    assert "pausing cmp_" in found.detail
    assert "2 renderers instead of 1 (the fleets give the team at most 1)" in found.detail


def test_a_deadline_that_has_passed_is_said_to_have() -> None:
    found = warning(told(demand(1, 600, due=-60)))
    assert found.detail == "Its deadline has passed, and it will be done in about 10 min. It needs a later deadline."


def test_without_any_renderer_it_says_so() -> None:
    found = told(demand(1, 600, due=60), capacity=0.0, most=0.0)
    assert found.finish == {}
    assert warning(found).detail.startswith("It will miss its deadline: its team gets no renderer.")
    assert warning(found).data["late_seconds"] is None


def test_before_the_first_renderer_runs_it_is_reckoned_with_all_of_them() -> None:
    assert told(demand(1, 6000, due=1000), capacity=0.0, most=10.0).decisions == ()


def test_what_is_paused_takes_no_time_and_is_not_warned_of() -> None:
    paused = {"state": CampaignState.PAUSED, "paused_by": PausedBy.BUDGET}
    found = told(demand(1, 9000, due=10, **paused), demand(2, 600, due=700))
    assert (found.decisions, found.urgent) == ((), {})
    assert set(found.finish) == {2}


def test_a_warning_ends_with_the_deadline_or_with_time_to_spare_and_not_at_the_edge() -> None:
    late = demand(1, 1010, due=1000, warnings=(CODE,))
    assert told(late).decisions == (), "told already"
    assert told(replace(late, left_seconds=980)).decisions == (), "not yet"
    assert told(replace(late, left_seconds=900)).decisions == (Unwarn(CampaignId(1), CODE),)
    assert told(demand(1, 1010, warnings=(CODE,))).decisions == (Unwarn(CampaignId(1), CODE),)


def test_what_has_nothing_left_waits_for_nobody() -> None:
    assert told(demand(1, 9000), demand(2, 0, due=60)).finish[CampaignId(2)] == NOW


def test_teams_do_not_stand_in_one_anothers_way() -> None:
    other = TeamId(8)
    mine, theirs = demand(1, 600, due=700), demand(2, 90_000, team=other)
    found = forecast([theirs, mine], capacity={TEAM: 1.0, other: 1.0}, most={}, now=NOW)
    assert (found.urgent, found.decisions) == ({}, ())


# What cannot go on yet

AWAITING = {"state": CampaignState.AWAITING_APPROVAL}


def test_what_awaits_approval_is_warned_of_as_if_it_were_approved_now() -> None:
    waiting = replace(demand(1, 0, due=1000, **AWAITING), held_seconds=1500.0)
    found = told(waiting)
    assert warning(found).detail.startswith("Even if its proof is approved now, it will be done about 8 min 20 s after")
    assert found.finish == {CampaignId(1): NOW + timedelta(seconds=1500)}
    assert found.urgent == {}
    assert told(replace(waiting, held_seconds=900.0)).decisions == ()
    warned = replace(waiting, held_seconds=600.0, purse=replace(waiting.purse, warnings=(CODE,)))
    assert told(warned).decisions == (Unwarn(CampaignId(1), CODE),)


def test_a_proof_counts_with_all_that_it_stands_for_and_behind_what_goes_before_that() -> None:
    proof = demand(2, 50, due=1200, state=CampaignState.PROOFING, lane=Lane.INTERACTIVE)
    before = demand(1, 600, due=700)
    assert told(before, proof).decisions == ()
    found = told(before, replace(proof, held_seconds=1000.0))
    assert (warning(found).campaign, found.finish[CampaignId(1)]) == (2, NOW + timedelta(seconds=650))


def test_what_awaits_approval_takes_nothing_from_others() -> None:
    waiting = replace(demand(1, 0, due=9000, **AWAITING), held_seconds=8000.0)
    found = told(waiting, demand(2, 600, due=700))
    assert (found.decisions, found.urgent) == ((), {})
    assert found.finish[CampaignId(2)] == NOW + timedelta(seconds=600)


def test_what_waits_for_its_hours_is_reckoned_from_their_beginning() -> None:
    night = replace(demand(1, 600, due=5 * HOUR), starts_in=5 * HOUR - 60)
    found = warning(told(night, capacity=5.0))
    assert found.detail.startswith("It waits for off-peak hours: it will be done about")
    assert told(replace(night, starts_in=4 * HOUR)).decisions == ()
    hopeless = warning(told(replace(night, starts_in=6 * HOUR)))
    assert hopeless.detail.endswith("It needs a later deadline.")
    assert hopeless.data["needed_renderers"] is None


def test_others_go_by_what_waits_for_its_hours_until_these_begin() -> None:
    night = replace(demand(1, 300), starts_in=1000.0)
    short, long = demand(2, 600), demand(3, 700)
    found = told(night, short, long)
    ends = [found.finish[CampaignId(n)] - NOW for n in (1, 2, 3)]
    assert [end.total_seconds() for end in ends] == [1300.0, 600.0, 1600.0]


# By hypothesis

queues = st.lists(st.tuples(st.integers(1, 500), st.none() | st.integers(-100, 1500)), min_size=1, max_size=5)


def demands_of(found: Sequence[tuple[int, int | None]]) -> list[Demand]:
    return [demand(n + 1, float(left), None if due is None else float(due)) for n, (left, due) in enumerate(found)]


def met(order: Sequence[Demand], capacity: float) -> int:
    spent, count = 0.0, 0
    for one in order:
        spent += one.left_seconds
        deadline = one.purse.deadline
        count += deadline is not None and NOW + timedelta(seconds=spent / capacity) <= deadline
    return count


def in_order(demands: Sequence[Demand], found: Forecast) -> list[Demand]:
    rest = len(found.urgent)
    return sorted(demands, key=lambda d: (found.urgent.get(d.purse.campaign, rest), d.purse.position))


@given(queues, st.sampled_from([0.5, 1.0, 3.0]))
def test_no_order_meets_more_deadlines(queue: list[tuple[int, int | None]], capacity: float) -> None:
    demands = demands_of(queue)
    found = told(*demands, capacity=capacity)
    best = max(met(order, capacity) for order in permutations(demands))
    assert met(in_order(demands, found), capacity) == best


@given(queues, st.sampled_from([0.5, 1.0, 3.0]))
def test_warned_is_exactly_who_is_late_in_the_best_order(queue: list[tuple[int, int | None]], capacity: float) -> None:
    found = told(*demands_of(queue), capacity=capacity)
    late = {
        d.purse.campaign
        for d in demands_of(queue)
        if d.purse.deadline is not None and found.finish[d.purse.campaign] > d.purse.deadline
    }
    assert {decision.campaign for decision in found.decisions} == late


@given(queues)
def test_nobody_is_moved_when_all_are_in_time(queue: list[tuple[int, int | None]]) -> None:
    demands = [replace(d, purse=replace(d.purse, deadline=None)) for d in demands_of(queue)]
    total = sum(d.left_seconds for d in demands)
    later = NOW + timedelta(seconds=2 * total + 120)
    demands = [replace(d, purse=replace(d.purse, deadline=later)) for d in demands]
    assert told(*demands).urgent == {}


@given(st.integers(100, 5000), st.integers(100, 5000), st.lists(st.floats(0.9, 1.1), min_size=5, max_size=40))
def test_a_warning_does_not_flap_while_capacity_trembles(left: int, due: int, tremble: list[float]) -> None:
    """The work goes on at the pace that is forecast, within ten percent; at most one warning and one end of it."""
    warned, said, rest, time = False, 0, float(left), 0.0
    for factor in tremble:
        one = demand(1, rest, due=due - time, warnings=(CODE,) if warned else ())
        for decision in told(one, capacity=1.0 * (1 + (factor - 1) * 0.2)).decisions:
            warned, said = isinstance(decision, Warn), said + 1
        step = left / (2 * len(tremble))
        rest, time = rest - step, time + step
    assert said <= 2


def test_a_thousand_campaigns_with_deadlines_are_no_burden() -> None:
    many = [demand(n, 100.0, due=100.0 * (1000 - n)) for n in range(1, 1000)]
    found = told(*many)
    assert len(found.urgent) == pytest.approx(999, abs=5)
