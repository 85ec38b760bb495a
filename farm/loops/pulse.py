"""Whether a service still comes round, for whoever may start it anew."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from farm.core.errors import FarmError

_log = structlog.get_logger()
_LOOK_EVERY = 1.0

_STOOD_STILL = 10.0
"""Seconds between two looks that mean that the whole process was stopped: no turn could have ended meanwhile."""


class Pulse:
    """Thread-safe. Each turn beats; one that takes longer than *limit* will never end."""

    def __init__(
        self,
        *,
        limit: timedelta = timedelta.max,
        on_turn: Callable[[], object] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._on_turn, self._monotonic = limit.total_seconds(), on_turn, monotonic
        self._beat_at = monotonic()
        self._trouble: FarmError | None = None

    def beat(self) -> None:
        """Something has come to its end before the first turn: the service is being started, and does not hang."""
        self._beat_at = self._monotonic()

    def turned(self, trouble: FarmError | None = None) -> None:
        """A turn has ended; *trouble* is what it failed of."""
        self._trouble = trouble
        self.beat()
        self._on_turn()

    def closing(self, within: timedelta) -> None:
        """No turn follows, and what is left to do takes no longer than that."""
        self._limit = within.total_seconds()
        self.beat()

    @property
    def silent(self) -> float:
        """Seconds since it last beat."""
        return self._monotonic() - self._beat_at

    @property
    def hangs(self) -> bool:
        return self.silent > self._limit

    @property
    def trouble(self) -> FarmError | None:
        """What the last turn failed of; None when it did not."""
        return self._trouble


def watch(pulse: Pulse, end: Callable[[int], object] = os._exit) -> threading.Thread:
    """Ends the process with 1 when *pulse* hangs.

    A call into Ray may hang for good when its head is gone, and takes no signal meanwhile. What such a process holds is
    leased, so nothing is lost by ending it without a word.
    """

    def look() -> None:
        silent = pulse.silent
        while not pulse.hangs:
            time.sleep(_LOOK_EVERY)
            if pulse.silent - silent > _STOOD_STILL:
                pulse.beat()
            silent = pulse.silent
        _log.error("service_hangs", seconds=round(pulse.silent, 1))
        end(1)

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    return thread
