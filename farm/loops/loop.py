"""Runs a service until it is told to stop."""

import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from farm.core.errors import FarmError, FleetDown, Unavailable
from farm.loops.pulse import Pulse

_log = structlog.get_logger()
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

_LULL = 2 * _LONGEST_PAUSE
"""Seconds without a failure after which Ray counts as having come back; longer than any pause."""

_CLOSING = timedelta(seconds=25)
"""Handing over takes so long at most; leaving a cluster whose head is gone may take for ever."""


class Service(Protocol):
    def run_once(self) -> object:
        """One turn; waits inside for as long as it has nothing to do, a second at most."""
        ...

    def trouble(self, error: FarmError) -> None:
        """A turn failed because a part does not answer; another follows after a pause."""
        ...

    def stop(self) -> None:
        """The last call: hand over what is held."""
        ...


def run(
    service: Service, stopping: threading.Event, pulse: Pulse | None = None, *, patience: timedelta | None = None
) -> None:
    """Turns until *stopping*. A part that does not answer costs a growing, jittered pause, never the process.

    Ray is the exception: after *patience* without it `FleetDown` is raised, for a driver cannot join the cluster that
    comes back. *pulse* beats with every turn.
    """
    pause, away = _FIRST_PAUSE, Away(patience)
    pulse = pulse or Pulse()
    try:
        while not stopping.is_set():
            away.turning()
            try:
                service.run_once()
                pause = _FIRST_PAUSE
                pulse.turned()
            except Unavailable as error:
                _log.warning("part_unavailable", code=error.code, detail=error.detail, pause=round(pause, 1))
                service.trouble(error)
                pulse.turned(error)
                away.missed(error)
                stopping.wait(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, _LONGEST_PAUSE)
    finally:
        pulse.closing(_CLOSING)
        service.stop()


class Away:
    """For how long Ray has not answered.

    A turn may succeed in between: not every turn asks Ray, and one that does may wait for a minute before it fails.
    """

    def __init__(self, patience: timedelta | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._monotonic = patience, monotonic
        self._began = self._since = 0.0
        self._missed_at: float | None = None

    def turning(self) -> None:
        self._began = self._monotonic()

    def missed(self, error: Unavailable) -> None:
        """Raises *error* when it is Ray's, and was for too long."""
        if not isinstance(error, FleetDown):
            return
        if self._missed_at is None or self._began - self._missed_at > _LULL:
            self._since = self._began
        self._missed_at = self._monotonic()
        if self._patience is not None and self._missed_at - self._since >= self._patience.total_seconds():
            raise error


def stop_on_signals(stopping: threading.Event) -> Callable[[], None]:
    """SIGTERM and SIGINT end the loop after the current turn. Returns what brings the former handlers back."""
    former = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return restore
