"""Whether a failed render is tried again is data, not an exception hierarchy."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas.report import FailureKind

MAX_TRIES = 4
MAX_DEPOT_TRIES = 60
"""About an hour of a store that does not answer."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    kind: FailureKind


def after_failure(kind: FailureKind, *, tries: int, now: datetime, max_tries: int = MAX_TRIES) -> RetryAt | GiveUp:
    """What follows the *tries*-th failed try of a render."""
    match kind:
        case FailureKind.BAD_SOURCE | FailureKind.BAD_WEIGHTS | FailureKind.BAD_PICTURE:
            return GiveUp(kind)  # the same recipe gives the same pixels
        case FailureKind.DEPOT:
            # A store that is down says nothing of the render, so it is given far more time than a render that fails.
            if tries >= MAX_DEPOT_TRIES:
                return GiveUp(kind)
            return RetryAt(now + timedelta(seconds=min(60.0, 2.0 ** min(tries, 6))))
        case FailureKind.OUT_OF_VRAM | FailureKind.RENDERER_DIED | FailureKind.ENGINE:
            if tries >= max_tries:
                return GiveUp(kind)
            return RetryAt(now + timedelta(seconds=2.0**tries))
        case _:
            assert_never(kind)
