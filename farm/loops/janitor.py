"""What makes a farm last: old rows go, old campaigns go, objects that belong to nobody go.

Runs beside the scheduler's loop, in a thread and with a store of its own, and only under a leader. Its transactions are
short and its turns bounded: while one runs, the leader cannot renew.

Nothing is to be done about partitions: those of the outcomes exist up to the year 2035 (`migrations`), and the audit
warns as soon as one row falls outside them.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import timedelta

import structlog

from farm.core.errors import FarmError, LeadershipLost
from farm.core.garbage import check_grace
from farm.core.lease import Leadership
from farm.loops.loop import run
from farm.ports import Depot, SchedulerStore, SchedulerTx
from farm.telemetry import SchedulerMetrics
from farm.usecases.collect_garbage import Bit, collect
from farm.usecases.prune_campaigns import prune_campaigns
from farm.usecases.sweep_tables import Keep, sweep_tables

_log = structlog.get_logger()

_BREATH = 0.05
_REST = 1.0
"""Seconds between two turns, while there is something to do and when there is not."""

_LEASES_FIRST = 5
"""Lease times that a leader must have led for: by then each renderer was heard and its reports are settled, or its
process has been ended."""

_AFTER_A_MISTAKE = 60.0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How long what is kept. Raises `BadRequest` when objects would go before their renderer can have reported them."""

    grace: timedelta
    every: timedelta
    keep: Keep
    lease_ttl: timedelta
    link_ttl: timedelta

    def __post_init__(self) -> None:
        check_grace(self.grace, lease_ttl=self.lease_ttl, link_ttl=self.link_ttl)


@dataclass(slots=True)
class Counts:
    """What turns came to. ``swept`` is rows by table, the others are objects, and outcomes that were pruned."""

    seen: int = 0
    orphans: int = 0
    spared: int = 0
    deleted: int = 0
    pruned: int = 0
    swept: dict[str, int] = field(default_factory=dict)
    why: str = ""  # nothing was deleted
    rounds: int = 0  # that ended

    def add(self, more: "Counts") -> None:
        for name in ("seen", "orphans", "spared", "deleted", "pruned", "rounds"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for table, rows in more.swept.items():
            self.swept[table] = self.swept.get(table, 0) + rows
        self.why = more.why or self.why

    @property
    def did_something(self) -> bool:
        return bool(self.orphans or self.spared or self.deleted or self.pruned or self.swept or self.why)


def counts_of(bit: Bit) -> Counts:
    why = "" if bit.alarm is None else bit.alarm.why
    return Counts(bit.seen, bit.orphans, bit.spared, bit.deleted, why=why)


class Janitor:
    """*leadership* says whether this process leads now; *idle* waits for so many seconds, or until it is to stop."""

    def __init__(
        self,
        *,
        store: SchedulerStore,
        depot: Depot,
        upkeep: Upkeep,
        leadership: Callable[[], Leadership | None],
        metrics: SchedulerMetrics,
        idle: Callable[[float], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._depot, self._upkeep = store, depot, upkeep
        self._leadership, self._metrics, self._idle, self._monotonic = leadership, metrics, idle, monotonic
        self._led: Leadership | None = None
        self._begin_at = 0.0  # of the next round
        self._round: Iterator[Counts] | None = None
        self._sum = Counts()

    def run_once(self) -> Counts:
        """One bit of the work, and a pause after it."""
        try:
            counts = self._turn()
        except LeadershipLost:  # the scheduler will notice by itself
            self._drop_round()
            counts = None
        if counts is None:
            self._idle(_REST)
            return Counts()
        self._count(counts)
        self._idle(_BREATH * random.uniform(0.5, 1.5))
        return counts

    def trouble(self, error: FarmError) -> None:
        """The round is dropped: tombstones, and rows that are gone, are as far as it came."""
        self._metrics.unavailable.labels(error.code).inc()
        self._drop_round()

    def stop(self) -> None:
        self._drop_round()

    def _turn(self) -> Counts | None:
        """None when there is nothing to do now."""
        led = self._leadership()
        if led != self._led:
            self._drop_round()
            self._led = led
            self._begin_at = self._monotonic() + _LEASES_FIRST * self._upkeep.lease_ttl.total_seconds()
        if led is None or (self._round is None and self._monotonic() < self._begin_at):
            return None
        if self._round is None:
            self._round = self._jobs(led)
        counts = next(self._round, None)
        if counts is not None:
            return counts
        self._drop_round()
        self._begin_at = self._monotonic() + self._upkeep.every.total_seconds() * random.uniform(0.9, 1.1)
        return Counts(rounds=1)

    def _jobs(self, led: Leadership) -> Iterator[Counts]:
        """A round: the database first, since what is pruned there leaves objects to collect."""

        def begin() -> AbstractContextManager[SchedulerTx]:
            return self._store.as_scheduler(led)

        for swept in sweep_tables(begin, self._upkeep.keep):
            yield Counts(swept=dict(swept))
        for outcomes in prune_campaigns(begin):
            yield Counts(pruned=outcomes)
        for bit in collect(begin, self._depot, grace=self._upkeep.grace):
            if bit.alarm is not None:
                self._metrics.upkeep.alarms.inc()
                _log.error("garbage_alarm", why=bit.alarm.why, do="look why, then `farm garbage --force`")
            yield counts_of(bit)
        with begin() as tx:
            self._metrics.upkeep.cleaned(tx.now().timestamp())

    def _drop_round(self) -> None:
        self._round = None

    def _count(self, counts: Counts) -> None:
        for what in ("orphans", "spared", "deleted"):
            self._metrics.upkeep.garbage.labels(what).inc(getattr(counts, what))
        self._metrics.upkeep.pruned.inc(counts.pruned)
        for table, rows in counts.swept.items():
            self._metrics.upkeep.swept.labels(table).inc(rows)
        self._sum.add(counts)
        if counts.rounds:
            done, self._sum = self._sum, Counts()
            if done.did_something:
                _log.info("janitor_round", **asdict(done))


def beside(janitor: Janitor, stopping: threading.Event) -> threading.Thread:
    """Starts its thread. A mistake of its own must neither end the scheduler nor end the janitor in silence."""

    def work() -> None:
        while not stopping.is_set():
            try:
                run(janitor, stopping)
            except Exception:  # noqa: BLE001
                _log.exception("janitor_failed")
                stopping.wait(_AFTER_A_MISTAKE)

    thread = threading.Thread(target=work, name="janitor", daemon=True)
    thread.start()
    return thread
