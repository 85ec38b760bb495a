"""What the leader may do in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from farm.core.ids import RendererName, Session, ShardId
from farm.core.placement import Placed
from farm.core.records import Heartbeat
from farm.core.settle import ShardRow
from farm.store import renderer_sql, rows, sql
from farm.store.health_tx import Health
from farm.store.lasting_tx import Lasting
from farm.store.looking_tx import Looking
from farm.store.purse_tx import Purses
from farm.store.settling_tx import Settling
from schemas.report import Hello


class PostgresSchedulerTx(Looking, Settling, Health, Purses, Lasting):
    """`farm.ports.SchedulerTx`. Whoever began the transaction calls `flush` before its end."""

    def now(self) -> datetime:
        return self._connection.execute(sql.NOW).scalar_one()  # type: ignore[no-any-return]  # timestamptz

    # renderer sessions

    def greet(self, hello: Hello, ttl: timedelta) -> None:
        values = hello.model_dump(include={"session", "name", "gpu", "node", "numerics"})
        self._run(renderer_sql.GREET, **values, ttl=ttl)
        self._run(renderer_sql.END_FORMER, name=hello.name, session=hello.session)

    def heartbeat(self, beats: Sequence[Heartbeat], ttl: timedelta) -> None:
        fields = ("session", "state", "doing", "waiting", "checkpoint")
        self._run(renderer_sql.HEARTBEAT, **{f: [getattr(beat, f) for beat in beats] for f in fields}, ttl=ttl)

    def end_absent(self, prefix: str, names: Sequence[RendererName]) -> None:
        self._run(renderer_sql.END_ABSENT, prefix=prefix, names=list(names))

    def end_sessions(self, sessions: Sequence[Session]) -> None:
        self._run(renderer_sql.END_SESSIONS, sessions=list(sessions))

    # leases

    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        by_shard = {p.shard: p for p in placed}
        found = self._all(sql.TAKE, shards=list(by_shard), sessions=[p.session for p in by_shard.values()])
        taken = {ShardId(row.shard_id): rows.shard(row) for row in found}
        return [(taken[shard], place) for shard, place in by_shard.items() if shard in taken]

    def lock(self, shards: Sequence[ShardId]) -> dict[ShardId, ShardRow]:
        return {ShardId(row.shard_id): rows.shard(row) for row in self._all(sql.LOCK, shards=list(shards))}

    def put_back(self, shard: ShardRow, *, lost: int, delay: timedelta, avoid: RendererName | None = None) -> None:
        self._run(sql.PUT_BACK, shard=shard.id, fence=shard.fence, lost=lost, delay=delay, avoid=avoid)
