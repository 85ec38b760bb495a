"""Halftone as an arm of `ops.bench.peers`, without work: the real use cases on PostgreSQL, and reports in JSON.

One process is the scheduler; another makes the reports of all renderers. Outcomes are rows with key, sha256, size and
cost of a picture.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.core.ids import RendererName, ShardId
from farm.core.placement import SLOTS, Free, Placed
from farm.core.settle import ShardRow
from farm.ports import SchedulerTx
from farm.usecases.dispatch_shards import take_shards, write_order
from farm.usecases.settle_reports import From, settle_reports
from ops.bench import _no_op as no_op
from ops.bench._load import Load, Ran
from ops.bench._reporters import Reporters
from ops.bench.queue import Bench, check
from schemas.report import Collected, RenderReport


@dataclass(slots=True)
class Hands:
    """What the scheduler knows of its renderers: rows that they have not reported yet, by shard."""

    mates: Sequence[no_op.NoOp]
    rows: dict[RendererName, dict[ShardId, int]] = field(default_factory=dict)

    def free(self) -> list[Free]:
        found = [(mate, self.rows.setdefault(mate.name, {})) for mate in self.mates]
        return [
            Free(mate.name, mate.session, len(held), "", "", left=sum(held.values()) * no_op.SECONDS_EACH)
            for mate, held in found
        ]

    @property
    def hungry(self) -> bool:
        """Somebody has nothing left but what is being reported now."""
        return any(len(self.rows.setdefault(mate.name, {})) < SLOTS for mate in self.mates)

    def reported(self, name: RendererName, shard: ShardId, rows: int) -> None:
        self.rows[name][shard] -= rows
        if not self.rows[name][shard]:
            del self.rows[name][shard]


@dataclass(frozen=True, slots=True)
class HalftoneNoOps:
    """*rows* in a report at most; one transaction settles up to a report for each of *renderers*.

    With *orders* every row is written out with recipe, fingerprint and presigned links, as a renderer needs it.
    """

    bench: Bench
    rows: int
    renderers: int
    orders: bool = False

    @property
    def system(self) -> str:
        return "halftone"

    @property
    def settings(self) -> str:
        return f"reports of {self.rows}, {self.renderers} renderers{', orders written out' if self.orders else ''}"

    def run(self, load: Load) -> Ran:
        spec = no_op.spec_of(load.renders)
        with self.bench.scheduler.as_scheduler(self.bench.leader) as tx:
            hands = Hands(no_op.renderers(tx, self.renderers))
        self.bench.watch.settle_down()
        with Reporters(hands.mates, self.rows) as reporters:
            began = time.perf_counter()
            campaign = no_op.submit(self.bench.api, self.bench.team, spec).id
            submitted = time.perf_counter()
            done = claimed = 0
            while done < load.renders:
                if claimed < load.renders and hands.hungry:
                    claimed += self._claim(hands, reporters)
                done += self._settle(hands, reporters)
            ended = time.perf_counter()
        if done != load.renders:
            raise RuntimeError(f"{done} of {load.renders} renders were reported.")
        check(self.bench, campaign, load.renders)
        return Ran(load.renders, ended - began, submitted - began)

    def _claim(self, hands: Hands, reporters: Reporters) -> int:
        """How many renders were handed out."""
        with self.bench.scheduler.as_scheduler(self.bench.leader) as tx:
            placed = no_op.placed(tx, hands.free())
            taken = (
                self._ordered(tx, placed) if self.orders else [(p.name, shard, None) for shard, p in tx.take(placed)]
            )
        for name, shard, fingerprints in taken:
            hands.rows[name][shard.id] = sum(hi - lo for lo, hi in shard.todo)
            reporters.take(name, shard, fingerprints)
        return sum(hi - lo for _, shard, _ in taken for lo, hi in shard.todo)

    def _ordered(
        self, tx: SchedulerTx, placed: Sequence[Placed]
    ) -> list[tuple[RendererName, ShardRow, Mapping[int, str] | None]]:
        found: list[tuple[RendererName, ShardRow, Mapping[int, str] | None]] = []
        for work in take_shards(tx, placed, self.bench.resolved_of).work:
            order = write_order(
                work, epoch=self.bench.leader.epoch, depot=self.bench.depot, ttl=no_op.TTL, token="t" * 32
            )
            order.model_dump_json()
            found.append((work.name, work.shard, {row.ordinal: row.fingerprint for row in work.rows}))
        return found

    def _settle(self, hands: Hands, reporters: Reporters) -> int:
        said = [(name, Collected.model_validate_json(text)) for name, text in reporters.hear(self.renderers)]
        by_name: dict[str, list[RenderReport]] = {}
        for name, collected in said:
            by_name.setdefault(name, []).extend(collected.reports)
        heard = [From(name, no_op.NUMERICS, no_op.GPU, reports) for name, reports in by_name.items()]
        with self.bench.scheduler.as_scheduler(self.bench.leader) as tx:
            tally = settle_reports(tx, heard, self.bench.resolved_of, no_op.PRICES)
        for name, collected in said:
            for report in collected.reports:
                hands.reported(RendererName(name), ShardId(report.shard), len(report.rows))
        return tally.succeeded
