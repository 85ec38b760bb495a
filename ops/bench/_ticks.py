"""A scheduler's ticks over a crowded database: look, oversee, plan. ``python -m ops.bench._ticks``.

A process of its own, so that its memory is that of a scheduler. Its renderers are stood in for by `ops.bench._no_op`:
between two ticks, off the clock, what was placed is leased, and as many shards are reported as that many renderers
would finish in the time.
"""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

import psutil

from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import CampaignId, ShardId
from farm.core.lease import Leadership
from farm.core.oversee import Oversight, Overview, Scale, oversee
from farm.core.plan import Decision, Dispatch, LookUp, Seen, Snapshot, plan
from farm.core.records import Heartbeat
from farm.core.scaling import FleetSpec
from farm.loops.looking import Looked, Looking
from farm.ports import SchedulerTx
from farm.store.postgres import PostgresStore
from farm.usecases.settle_reports import From, settle_reports
from ops.bench import _no_op as no_op
from ops.bench._crew import answer, asked, wait_for_go
from schemas.campaign import ResolvedCampaign
from schemas.report import Collected

TICK = 0.5
SHARD_SECONDS = 30.0
_REPEATS = 5


@dataclass(slots=True)
class Ticking:
    store: PostgresStore
    leader: Leadership
    mates: Sequence[no_op.NoOp]
    now: float = 0.0  # of the scheduler's clock, which moves by a tick at a time
    load: list[float] = field(default_factory=list)
    think: list[float] = field(default_factory=list)
    placed: int = 0
    looked_up: set[ShardId] = field(default_factory=set)
    resolved: dict[CampaignId, ResolvedCampaign] = field(default_factory=dict)

    def run(self, ticks: int) -> None:
        looking = Looking(lambda: self.now)
        for _ in range(ticks):
            began = time.perf_counter()
            with self.store.as_scheduler(self.leader) as tx:
                looked = looking.look(tx, len(self.mates))
            loaded = time.perf_counter()
            decisions = self._think(looked)
            ended = time.perf_counter()
            self.load.append(loaded - began)
            self.think.append(ended - loaded)
            taken = self._act(decisions)
            looking.placed(looked, taken)
            self._finish(round(len(self.mates) * TICK / SHARD_SECONDS))
            self.now += TICK

    def _think(self, looked: Looked) -> list[Decision]:
        seen = [_seen(mate) for mate in self.mates]
        over = oversee(_overview(looked, seen))
        return plan(_snapshot(looked, seen, over, frozenset(self.looked_up)))

    def _act(self, decisions: Sequence[Decision]) -> int:
        by_name = {mate.name: mate for mate in self.mates}
        placed = [decision.placed for decision in decisions if isinstance(decision, Dispatch)]
        shifts = [decision for decision in decisions if isinstance(decision, Rejoin | Rest)]
        with self.store.as_scheduler(self.leader) as tx:
            tx.turn(shifts)
            for shard, place in tx.take(placed):
                by_name[place.name].take(shard)
        for decision in decisions:
            if isinstance(decision, LookUp):
                self.looked_up.update(decision.shards)
        self.placed += len(placed)
        return len(placed)

    def _finish(self, shards: int) -> None:
        """The oldest shards, of which everything is reported at once."""
        heard: list[From] = []
        for mate in sorted(self.mates, key=lambda mate: min(mate.hands, default=0))[:shards]:
            if (text := mate.collected(no_op.SHARD_ROWS)) is not None:
                reports = Collected.model_validate_json(text).reports
                heard.append(From(mate.name, no_op.NUMERICS, no_op.GPU, reports))
        with self.store.as_scheduler(self.leader) as tx:
            settle_reports(tx, heard, self._resolved_of, no_op.PRICES)
        for mate in self.mates:
            mate.let_go()

    def _resolved_of(self, tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
        if campaign not in self.resolved:
            self.resolved[campaign] = tx.resolved(campaign)
        return self.resolved[campaign]

    def parts(self) -> dict[str, float]:
        """Milliseconds of each thing that is read, alone; `Looking` does not read them all at each tick."""
        beats = [Heartbeat(mate.session, "busy", "render", 1, "") for mate in self.mates]
        reads: dict[str, Callable[[SchedulerTx], object]] = {
            "queues": lambda tx: tx.queues(4),
            "backlog": lambda tx: tx.backlog(),
            "held": lambda tx: tx.held(),
            "teams": lambda tx: tx.teams(),
            "purses": lambda tx: tx.purses(),
            "costs": lambda tx: (tx.costs(), tx.load_costs(), tx.prices()),
            "accusations": lambda tx: (tx.accusations(timedelta(minutes=30)), tx.quarantined()),
            "finish_campaigns": lambda tx: tx.finish_campaigns(),
            "heartbeat": lambda tx: tx.heartbeat(beats, no_op.TTL),
        }
        return {name: median(self._timed(read) for _ in range(_REPEATS)) * 1e3 for name, read in reads.items()}

    def _timed(self, read: Callable[[SchedulerTx], object]) -> float:
        with self.store.as_scheduler(self.leader) as tx:
            began = time.perf_counter()
            read(tx)
            return time.perf_counter() - began


def _seen(mate: no_op.NoOp) -> Seen:
    warm = next(iter(mate.hands.values()), None)
    return Seen(
        name=mate.name,
        session=mate.session,
        holds=frozenset((shard, hand.shard.fence) for shard, hand in mate.hands.items() if hand.shard.fence),
        engine_key=warm.shard.engine_key if warm else "",
        checkpoint=warm.shard.checkpoint if warm else "",
        gpu=no_op.GPU,
    )


def _overview(looked: Looked, seen: Sequence[Seen]) -> Overview:
    fleet = FleetSpec(name="bench", prefix="farm/bench/1/", least=len(seen), most=len(seen))
    return Overview(
        now=looked.now,
        purses=looked.purses,
        team_purses=looked.team_purses,
        backlog=looked.backlog,
        held=looked.held,
        teams=looked.teams,
        seen=seen,
        speeds=looked.speeds,
        load_costs=looked.load_costs,
        prices=looked.prices,
        accusations=looked.accusations,
        quarantined=looked.quarantined,
        succeeded=frozenset(),
        scale=Scale(fleets=(fleet,), drain_seconds=600.0, idle_seconds=600.0),
    )


def _snapshot(looked: Looked, seen: Sequence[Seen], over: Oversight, looked_up: frozenset[ShardId]) -> Snapshot:
    return Snapshot(
        queues=looked.queues,
        backlog=looked.backlog,
        looked_up=looked_up,
        held=looked.held,
        refused=frozenset(),
        seen=seen,
        teams=looked.teams,
        rules=over.rules,
        may_reclaim=True,
        suspects=over.verdict.suspects,
        closed=over.verdict.closed,
        probing=over.verdict.probing,
        wake=over.wake,
        retire=over.retire,
    )


def main() -> None:
    order: dict[str, Any] = asked()
    store = PostgresStore(order["url"], pool=2)
    leader = store.elect("ticks", no_op.TTL)
    if leader is None:
        raise SystemExit("Another scheduler leads.")
    before = psutil.Process().memory_info().rss
    with store.as_scheduler(leader) as tx:
        mates = no_op.renderers(tx, order["renderers"])
    ticking = Ticking(store, leader, mates)
    wait_for_go()
    ticking.run(order["ticks"])
    parts = ticking.parts()
    store.resign(leader)
    answer(
        {
            "load": ticking.load,
            "think": ticking.think,
            "placed": ticking.placed,
            "held": sum(len(mate.hands) for mate in mates),
            "parts": parts,
            "rss_before": before,
            "rss": psutil.Process().memory_info().rss,
            "rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )
    store.close()


if __name__ == "__main__":
    main()
