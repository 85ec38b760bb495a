"""The database as one process reaches it: the store's twin, behind a connection that fails in every way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from farm.core.errors import StoreDown
from farm.core.ids import RendererName, TeamId
from farm.core.lease import Leadership
from farm.core.placement import Placed
from farm.core.records import CampaignRow, KeyRow, NewCampaign, NewShard
from farm.core.settle import Settled, ShardRow
from farm.core.shard import ordinals_of
from farm.ports import SchedulerTx, TeamTx
from farm.store.memory import MemoryStore
from schemas.campaign import CampaignState
from tests.simulation.faults import Faults
from tests.simulation.kernel import Kernel
from tests.simulation.promises import Commit, Promises


class Line:
    """What lies between one process and the database. *between* is called before and after each transaction: there
    the process may stand still, or die."""

    def __init__(self, kernel: Kernel, store: MemoryStore, faults: Faults, between: Callable[[], None]) -> None:
        self.kernel, self.store, self._faults, self.between = kernel, store, faults, between
        self.down_until = 0.0

    def _chance(self, probability: float) -> bool:
        return self.kernel.now < self._faults.until and self.kernel.random.random() < probability

    def check(self) -> None:
        if self.kernel.now < self.down_until or self.store.down:
            raise StoreDown("PostgreSQL does not answer.")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around something that is one transaction."""
        self.between()
        self.check()
        yield
        if self._chance(self._faults.commit_unknown):
            self.kernel.note("commit unknown")
            raise StoreDown("The connection was cut before the answer; it was committed.")
        self.between()

    def break_before_commit(self) -> None:
        if self._chance(self._faults.commit_lost):
            self.kernel.note("commit lost")
            raise StoreDown("The connection was cut; nothing was committed.")


class WatchedTx:
    """A scheduler's transaction that notes what matters to the promises."""

    def __init__(
        self,
        tx: SchedulerTx,
        commit: Commit,
        promises: Promises,
        at_work: Callable[[], dict[RendererName, str]],
    ) -> None:
        self._tx, self._commit, self._promises, self._at_work = tx, commit, promises, at_work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        found = self._tx.take(placed)
        at_work = self._at_work()
        for shard, place in found:
            self._promises.leasing(shard, place, at_work)
        self._commit.taken += found
        return found

    def write(self, settled: Sequence[Settled]) -> list[str]:
        self._commit.settled += settled
        return self._tx.write(settled)

    def put_back(self, shard: ShardRow, *, lost: int, delay: timedelta, avoid: RendererName | None = None) -> None:
        (self._commit.released if self._promises.renderer_lives(shard) else self._commit.lost).append(shard)
        self._tx.put_back(shard, lost=lost, delay=delay, avoid=avoid)


class SchedulerDatabase:
    """`farm.ports.SchedulerStore`."""

    def __init__(self, line: Line, promises: Promises, at_work: Callable[[], dict[RendererName, str]]) -> None:
        self._line, self._promises, self._at_work = line, promises, at_work
        self.last_seen = 0  # number of the last commit before this process's last transaction

    def ready(self) -> None:
        self._line.check()

    def work_came(self) -> bool:
        return self._line.store.work_came()

    def elect(self, holder: str, ttl: timedelta) -> Leadership | None:
        with self._line.call():
            found = self._line.store.elect(holder, ttl)
            if found is not None:
                self._line.kernel.note("elected", holder, found.epoch)
                self._promises.elected(found.epoch)
        return found

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        with self._line.call():
            return self._line.store.renew(leadership, ttl)

    def resign(self, leadership: Leadership) -> None:
        with self._line.call():
            self._line.store.resign(leadership)

    @contextmanager
    def as_scheduler(self, leadership: Leadership) -> Iterator[SchedulerTx]:
        commit = Commit(leadership.epoch)
        with self._line.call():
            with self._line.store.as_scheduler(leadership) as tx:
                yield WatchedTx(tx, commit, self._promises, self._at_work)
                self._line.break_before_commit()
            self.last_seen = self._promises.commits
            self._promises.committed(commit)

    def close(self) -> None:
        """Nothing is held."""


class WatchedTeamTx:
    """A team's transaction that notes what matters to the promises."""

    def __init__(self, tx: TeamTx, done: list[Callable[[], None]], promises: Promises) -> None:
        self._tx, self._done, self._promises = tx, done, promises

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        row = self._tx.insert_campaign(new, shards)
        if row is not None:
            held = [ordinal for shard in shards if shard.state == "held" for ordinal in ordinals_of(shard.todo)]
            self._done.append(lambda: self._promises.submitted(row.team, row.id, held))
            if (parent := new.parent) is not None:
                self._done.append(lambda: self._promises.superseded(parent))
        return row

    def move(self, campaign: Any, *, frm: Any, to: CampaignState, **more: Any) -> bool:
        before = self._tx.campaign(campaign).state
        moved = self._tx.move(campaign, frm=frm, to=to, **more)
        if moved and to is CampaignState.CANCELLING:
            self._done.append(lambda: self._promises.cancelled(campaign))
        if moved and to is CampaignState.ACTIVE and before is not CampaignState.PAUSED:
            self._done.append(lambda: self._promises.approved(campaign))
        return moved


class TeamDatabase:
    """`farm.ports.ApiStore`."""

    def __init__(self, line: Line, promises: Promises) -> None:
        self.line, self._promises = line, promises

    def ready(self) -> None:
        self.line.check()

    def key_owner(self, digest: bytes) -> KeyRow | None:
        self.line.check()
        return self.line.store.key_owner(digest)

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        """Nobody listens here."""
        return frozenset()

    def close(self) -> None:
        """Nothing is held."""

    @contextmanager
    def as_team(self, team: TeamId) -> Iterator[TeamTx]:
        done: list[Callable[[], None]] = []
        with self.line.call():
            with self.line.store.as_team(team) as tx:
                yield WatchedTeamTx(tx, done, self._promises)
                self.line.break_before_commit()
            for note in done:
                note()
