"""Whether a failed render is tried again is data, not an exception hierarchy."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas.report import FailureKind

MAX_TRIES = 4
MAX_DEPOT_TRIES = 60
"""About an hour of a store that does not answer."""

MAX_DELAY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class RetryAt:
    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    kind: FailureKind


def after_failure(kind: FailureKind, *, tries: int, now: datetime, max_tries: int = MAX_TRIES) -> RetryAt | GiveUp:
    """What follows the *tries*-th failed try of a render.

    Failures of the depot are counted apart from all others, so *tries* is of its own kind.
    """
    match kind:
        case FailureKind.BAD_SOURCE | FailureKind.BAD_WEIGHTS | FailureKind.BAD_PICTURE:
            return GiveUp(kind)  # the same recipe gives the same pixels
        case FailureKind.DEPOT:
            # A store that is down says nothing of the render, so it is given far more time than a render that fails.
            if tries >= MAX_DEPOT_TRIES:
                return GiveUp(kind)
            return RetryAt(now + timedelta(seconds=min(MAX_DELAY.total_seconds(), 2.0 ** min(tries, 6))))
        case FailureKind.OUT_OF_VRAM | FailureKind.RENDERER_DIED | FailureKind.ENGINE:
            if tries >= max_tries:
                return GiveUp(kind)
            return RetryAt(now + timedelta(seconds=2.0**tries))
        case _:
            assert_never(kind)


def after_lost(lost: int) -> timedelta:
    """How long a shard waits once its lease was lost for the *lost*-th time: 1, 2, 4 ... seconds, at most a minute."""
    return min(MAX_DELAY, timedelta(seconds=2.0 ** min(max(lost, 1) - 1, 6)))
