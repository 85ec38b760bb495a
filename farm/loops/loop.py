"""Runs a service until it is told to stop."""

import random
import signal
import threading
from typing import Protocol

import structlog

from farm.core.errors import FarmError, Unavailable

_log = structlog.get_logger()
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0


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


def run(service: Service, stopping: threading.Event) -> None:
    """Turns until *stopping*. A part that does not answer costs a growing, jittered pause, never the process."""
    pause = _FIRST_PAUSE
    try:
        while not stopping.is_set():
            try:
                service.run_once()
                pause = _FIRST_PAUSE
            except Unavailable as error:
                _log.warning("part_unavailable", code=error.code, detail=error.detail, pause=round(pause, 1))
                service.trouble(error)
                stopping.wait(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, _LONGEST_PAUSE)
    finally:
        service.stop()


def stop_on_signals(stopping: threading.Event) -> None:
    """SIGTERM and SIGINT end the loop after the current turn."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
