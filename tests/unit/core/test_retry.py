"""What follows a failed try."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.retry import MAX_DEPOT_TRIES, MAX_TRIES, GiveUp, RetryAt, after_failure, after_lost
from schemas.report import FailureKind

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
K = FailureKind
FINAL = [K.BAD_SOURCE, K.BAD_WEIGHTS, K.BAD_PICTURE]
PASSING = [K.OUT_OF_VRAM, K.RENDERER_DIED, K.ENGINE]


def test_every_kind_is_tried_here() -> None:
    assert {*FINAL, *PASSING, K.DEPOT} == set(FailureKind)


@pytest.mark.parametrize("kind", FINAL)
def test_what_will_not_get_better_is_given_up_at_once(kind: FailureKind) -> None:
    assert after_failure(kind, tries=1, now=NOW) == GiveUp(kind)


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_get_better_is_tried_four_times_with_growing_pauses(kind: FailureKind) -> None:
    found = [after_failure(kind, tries=tries, now=NOW) for tries in range(1, MAX_TRIES + 2)]
    pauses = [RetryAt(NOW + timedelta(seconds=seconds)) for seconds in (2, 4, 8)]
    assert found == [*pauses, GiveUp(kind), GiveUp(kind)]


def test_a_depot_that_is_down_is_waited_for_far_longer() -> None:
    moments = []
    for tries in range(1, MAX_DEPOT_TRIES):
        verdict = after_failure(K.DEPOT, tries=tries, now=NOW)
        assert isinstance(verdict, RetryAt)
        moments.append(verdict.at - NOW)
    assert moments == sorted(moments)
    assert max(moments) == timedelta(seconds=60)
    assert timedelta(minutes=45) < sum(moments, timedelta()) < timedelta(minutes=75)
    assert after_failure(K.DEPOT, tries=MAX_DEPOT_TRIES, now=NOW) == GiveUp(K.DEPOT)


@given(st.sampled_from(FailureKind), st.integers(1, 10_000))
def test_every_failure_ends_and_every_retry_lies_ahead(kind: FailureKind, tries: int) -> None:
    match after_failure(kind, tries=tries, now=NOW):
        case RetryAt(at):
            assert NOW < at <= NOW + timedelta(minutes=1)
            assert tries < MAX_DEPOT_TRIES
        case GiveUp(why):
            assert why is kind


def test_a_shard_waits_longer_each_time_its_renderer_is_lost() -> None:
    assert [after_lost(lost).total_seconds() for lost in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(-5, 10**6))
def test_a_lost_shard_never_waits_for_long(lost: int) -> None:
    assert timedelta(seconds=1) <= after_lost(lost) <= timedelta(minutes=1)
