"""One clock, one random source, one heap of events. Nothing here waits, and nothing happens twice in the same way."""

import hashlib
import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)


class Violation(Exception):
    """A promise was broken. ``check`` is the name of the invariant."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(check, detail)  # as they came: it travels between processes
        self.check, self.detail = check, detail

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


@lru_cache(maxsize=4096)
def moment(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


class Kernel:
    """The same seed gives the same events in the same order: `trace` is a hash of what happened.

    An event is what is taken from the heap, and each further step of a render that happens with it: a pass of four
    renders that ends is one event of the heap and four ends.
    """

    def __init__(self, seed: int, *, show: Callable[[str], None] | None = None) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.events = 0
        self.render_events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self._show = show

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    def clock(self) -> datetime:
        """The database's."""
        return moment(self.now)

    def after(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        self.at(self.now + delay, call, *arguments)

    def at(self, when: float, call: Callable[..., None], *arguments: object) -> None:
        """What is due at the same time happens in the order in which it was asked for."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, call, arguments))

    def run(self, until: float) -> None:
        """Lets everything happen that is due by *until*. Called from within an event, that event takes time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(heap)
            self.events += 1
            call(*arguments)
        self.now = max(self.now, until)

    def note(self, what: str, *details: object) -> None:
        """Something for the trace."""
        self._write(what, details)

    def step(self, what: str, *details: object) -> None:
        """A step of one render: it starts, ends, is reported, is settled. Each is an event, also of many at once."""
        self.events += 1
        self.render_events += 1
        self._write(what, details)

    def step_now(self, what: str, *details: object) -> None:
        """A step of one render that is the event under way."""
        self.render_events += 1
        self._write(what, details)

    def _write(self, what: str, details: tuple[object, ...]) -> None:
        line = f"{self.now!r} {what} {details}"
        self._trace.update(line.encode())
        if self._show is not None:
            self._show(f"{self.now:10.3f}  {what:<12} {' '.join(str(detail) for detail in details)}")
