"""The store's twin in memory: the same promises, for tests and simulations.

One lock stands for the database: a transaction holds it from beginning to end, so transactions are serial, and what
one wrote is taken back when it raises. A second transaction inside the first, of the same thread, is refused.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from farm.core.errors import LeadershipLost, StoreDown
from farm.core.ids import Epoch, TeamId
from farm.core.lease import Leadership
from farm.core.records import KeyRow
from farm.store.memory_backstage import Backstage
from farm.store.memory_looks import LEADER
from farm.store.memory_rows import Leader
from farm.store.memory_scheduler import MemorySchedulerTx
from farm.store.memory_state import State
from farm.store.memory_tx import MemoryTx


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _random_fence() -> str:
    return str(uuid.uuid4())


class MemoryStore(Backstage):
    """`ApiStore` and `SchedulerStore` in memory. What an administrator would do to it are methods of its own.

    *clock* is the database's clock and *fence* its source of fences. ``before_commit`` and ``after_commit`` are called
    inside and after each transaction that is about to succeed: when the first raises, everything is taken back; when
    the second raises, the caller gets an error although all was written, as with a connection that broke at commit.
    """

    def __init__(self, *, clock: Callable[[], datetime] = _utc_now, fence: Callable[[], str] = _random_fence) -> None:
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._fresh: set[TeamId] = set()
        self._told = self._work = False  # the last transaction had events; a team's had since the last look
        self._busy = False
        self.state = State(clock, fence)
        self.down = False
        self.before_commit: Callable[[], None] | None = None
        self.after_commit: Callable[[], None] | None = None

    def ready(self) -> None:
        if self.down:
            raise StoreDown("PostgreSQL does not answer.")

    def close(self) -> None:
        """Nothing is held."""

    @contextmanager
    def change(self) -> Iterator[State]:
        """A transaction over the bare tables: all or nothing, one after the other."""
        self.ready()
        with self._lock:
            if self._busy:
                raise RuntimeError("A transaction was begun inside another.")
            self._busy = True
            self.state.begin()
            try:
                yield self.state
                if self.before_commit is not None:
                    self.before_commit()
            except BaseException:
                self.state.roll_back()
                raise
            finally:
                self._busy = False
            self._commit()
        if self.after_commit is not None:
            self.after_commit()

    def _commit(self) -> None:
        news = self.state.commit()
        self._told = bool(news)
        if news:
            self._fresh |= news
            self._news.notify_all()

    # the API's side
    @contextmanager
    def as_team(self, team: TeamId) -> Iterator[MemoryTx]:
        with self.change() as state:
            yield MemoryTx(state, team)
        self._work = self._work or self._told

    def key_owner(self, digest: bytes) -> KeyRow | None:
        self.ready()
        with self._lock:
            return self.state.keys.rows.get(digest)

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        self.ready()
        with self._news:
            self._news.wait_for(lambda: bool(self._fresh), timeout.total_seconds())
            found, self._fresh = frozenset(self._fresh), set()
            return found

    # the scheduler's side
    def work_came(self) -> bool:
        came, self._work = self._work, False
        return came

    def elect(self, holder: str, ttl: timedelta) -> Leadership | None:
        with self.change() as state:
            now, leader = state.clock(), state.leaders.rows.get(LEADER)
            if leader is not None and leader.expires_at > now:
                return None
            epoch = 1 if leader is None else leader.epoch + 1
            state.leaders.put(LEADER, Leader(holder, epoch, now + ttl))
            return Leadership(holder, Epoch(epoch))

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        with self.change() as state:
            now, leader = state.clock(), state.leaders.rows.get(LEADER)
            if leader is None or not _leads(leader, leadership) or leader.expires_at <= now:
                return False
            state.leaders.put(LEADER, leader._replace(expires_at=now + ttl))
            return True

    def resign(self, leadership: Leadership) -> None:
        with self.change() as state:
            leader = state.leaders.rows.get(LEADER)
            if leader is not None and _leads(leader, leadership):
                state.leaders.put(LEADER, leader._replace(expires_at=state.clock()))

    @contextmanager
    def as_scheduler(self, leadership: Leadership) -> Iterator[MemorySchedulerTx]:
        with self.change() as state:
            leader = state.leaders.rows.get(LEADER)
            if leader is None or not _leads(leader, leadership):
                raise LeadershipLost(f"Epoch {leadership.epoch} of {leadership.holder} is over.")
            tx = MemorySchedulerTx(state)
            yield tx
            tx.flush()


def _leads(leader: Leader, leadership: Leadership) -> bool:
    return (leader.holder, leader.epoch) == (leadership.holder, leadership.epoch)
