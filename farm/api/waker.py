"""Wakes the event streams of a team when it has news.

One thread waits for the store on behalf of all streams, so a thousand browsers cost one connection.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from farm.core.errors import Unavailable
from farm.core.ids import TeamId
from farm.ports import ApiStore

PATIENCE = timedelta(seconds=1)
"""How long one wait takes at most, and so how soon the thread sees that it shall stop."""

log = structlog.get_logger("farm.api")


class Waker:
    def __init__(self, store: ApiStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._streams: dict[TeamId, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._stop = threading.Event()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def start(self) -> None:
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def stop(self) -> None:
        """Every stream wakes, sees `stopping` and ends; the thread follows within `PATIENCE`."""
        self._stop.set()
        self._wake(None)

    @contextmanager
    def listening(self, team: TeamId) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set whenever *team* has news. Clear it before looking."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._streams[team].add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._streams[team].discard(entry)
                if not self._streams[team]:
                    del self._streams[team]

    def _run(self) -> None:
        missed = False
        while not self.stopping:
            try:
                teams = self._store.wait(PATIENCE)
            except Unavailable as down:
                if not missed:
                    log.warning("events wait for the store", detail=down.detail)
                missed = True
                self._stop.wait(PATIENCE.total_seconds())
                continue
            # While the store was away its notices were lost, so everyone looks once.
            self._wake(None if missed else teams)
            missed = False

    def _wake(self, teams: frozenset[TeamId] | None) -> None:
        with self._lock:
            entries = [e for team, found in self._streams.items() if teams is None or team in teams for e in found]
        for loop, event in entries:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop has been closed with its streams
                continue
