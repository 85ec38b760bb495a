"""What was measured since a shard was cut counts, in the share of the guess that it was cut by."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.ids import CampaignId, Fence, Session, ShardId, TeamId
from farm.core.leases import Held
from farm.core.measured import backlog_as_measured, held_as_measured, measured_steps, queue_as_measured
from farm.core.queues import Backlog, Head, Queue
from farm.core.records import CostRow
from schemas.order import Lane

TEAM, OTHER, CAMPAIGN = TeamId(1), TeamId(2), CampaignId(1)
HEADS = (Head(ShardId(1), 30.0, 5.0, ("a",), alone=True), Head(ShardId(2), 15.0, 1.0))
QUEUE = Queue(TEAM, CAMPAIGN, "noir", "sdxl", Lane.BULK, 50, 0.0, HEADS, step_seconds=0.5)
HELD = Held(
    ShardId(3), Session("s"), Fence("f"), 1.0, False, False, False, "noir", "sdxl", 30.0, TEAM, CAMPAIGN, Lane.BULK, 3
)  # fmt: skip


def cost(gpu: str, seconds: float, renders: int = 10, key: str = "noir") -> CostRow:
    return CostRow(key, gpu, seconds, 0.0, renders)


def test_a_queue_takes_as_much_longer_as_a_step_does() -> None:
    found = queue_as_measured(QUEUE, {(TEAM, "noir"): 2.0})
    assert found == replace(
        QUEUE,
        heads=(Head(ShardId(1), 120.0, 5.0, ("a",), alone=True), Head(ShardId(2), 60.0, 1.0)),
        step_seconds=2.0,
    )


@pytest.mark.parametrize("steps", [{}, {(OTHER, "noir"): 2.0}, {(TEAM, "pop"): 2.0}, {(TEAM, "noir"): 0.0}])
def test_what_was_measured_of_other_weights_or_teams_changes_nothing(steps: dict[tuple[TeamId, str], float]) -> None:
    held = replace(HELD, step_seconds=0.5)
    backlog = {(CAMPAIGN, "noir"): Backlog(2, 9, 45.0, 0.5)}
    assert queue_as_measured(QUEUE, steps) == QUEUE
    assert held_as_measured(held, steps) == held
    assert backlog_as_measured(backlog, {CAMPAIGN: TEAM}, steps) == backlog


def test_what_was_cut_by_a_release_that_kept_no_step_stays_as_it_was_guessed() -> None:
    queue, steps = replace(QUEUE, step_seconds=0.0), {(TEAM, "noir"): 2.0}
    backlog = {(CAMPAIGN, "noir"): Backlog(2, 9, 45.0)}
    assert queue_as_measured(queue, steps) == queue
    assert held_as_measured(HELD, steps) == HELD
    assert backlog_as_measured(backlog, {CAMPAIGN: TEAM}, steps) == backlog


def test_backlogs_and_leases_follow_too() -> None:
    steps = {(TEAM, "noir"): 0.25}
    backlog = {(CAMPAIGN, "noir"): Backlog(2, 9, 45.0, 0.5), (CampaignId(2), "noir"): Backlog(1, 1, 5.0, 0.5)}
    assert backlog_as_measured(backlog, {CAMPAIGN: TEAM}, steps) == {
        (CAMPAIGN, "noir"): Backlog(2, 9, 22.5, 0.25),
        (CampaignId(2), "noir"): Backlog(1, 1, 5.0, 0.5),  # whose it is was not known at that moment
    }
    assert held_as_measured(replace(HELD, step_seconds=0.5), steps).gpu_seconds == 15.0


def test_the_measured_step_is_the_mean_over_types_by_renders_at_speed_one() -> None:
    costs = [(TEAM, cost("A", 1.0, 30)), (TEAM, cost("B", 5.0, 10)), (OTHER, cost("A", 7.0)), (TEAM, cost("A", 3.0, 0))]
    assert measured_steps(costs, {}) == {(TEAM, "noir"): 2.0, (OTHER, "noir"): 7.0}
    assert measured_steps(costs, {"A": 2.0, "B": 0.4}) == {(TEAM, "noir"): 2.0, (OTHER, "noir"): 14.0}


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.floats(0.1, 10.0))
def test_a_slow_type_of_gpu_is_not_charged_twice_for_being_slow(guess: float, at_one: float, speed: float) -> None:
    """Placing divides by the speed: on that very type it must come to what was measured there."""
    steps = measured_steps([(TEAM, cost("L4", at_one / speed))], {"L4": speed})
    found = queue_as_measured(replace(QUEUE, heads=(Head(ShardId(1), 30 * guess, 0.0),), step_seconds=guess), steps)
    assert found.heads[0].seconds / speed == pytest.approx(30 * at_one / speed)
