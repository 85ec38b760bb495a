"""The policies that `ops.bench.scale` compares: the farm's own `plan`, first in first out, and chance."""

import random
import time
from bisect import insort
from dataclasses import dataclass, field

from farm.core.fairshare import Rejoin, Rest, TeamShare
from farm.core.ids import CampaignId, ShardId
from farm.core.placement import SLOTS, Backlog, Head, Loading, Queue, Rules
from farm.core.plan import Dispatch, Held, LookUp, Revoke, Seen, Snapshot, plan
from ops.bench._farm_load import CHECKPOINT, CHECKPOINT_SECONDS, LORA_SECONDS, SHARD_RENDERS, Demand, Shard
from ops.bench._farm_simulation import Farm, Machine
from schemas.order import Lane

TICK = 0.5
BACKLOG_EVERY = 2.0
"""Seconds, as the scheduler has it."""

FEWEST_HEADS = 4
GPU = "simulated"


@dataclass(slots=True)
class Fifo:
    """Whoever has nothing to do takes what was submitted first. No prefetching, and no time to decide."""

    every: None = None

    def tick(self, farm: Farm) -> None:
        for machine in farm.machines:
            if not machine.shards and farm.ready:
                farm.give(machine.name, farm.ready[next(iter(farm.ready))])


@dataclass(slots=True)
class Chance:
    """Whoever has nothing to do takes any shard."""

    order: list[ShardId]
    every: None = None

    @classmethod
    def of(cls, demand: Demand, seed: int) -> "Chance":
        order = [shard.id for shard in demand.shards]
        random.Random(seed).shuffle(order)
        return cls(order)

    def tick(self, farm: Farm) -> None:
        for machine in farm.machines:
            if not machine.shards and self.order:
                farm.give(machine.name, farm.ready[self.order.pop()])


@dataclass(slots=True)
class Planned:
    """The real `plan`. ``seconds``: what each call of it took."""

    demand: Demand
    every: float = TICK
    seconds: list[float] = field(default_factory=list)
    _queues: dict[tuple[CampaignId, str], list[tuple[ShardId, Shard]]] = field(default_factory=dict)
    _looked_up: set[ShardId] = field(default_factory=set)
    _vtime: dict[int, float] = field(default_factory=dict)
    _backlogged: set[int] = field(default_factory=set)
    _lifted: dict[int, float] = field(default_factory=dict)
    _heads: int = FEWEST_HEADS
    _backlog: dict[tuple[CampaignId, str], Backlog] = field(default_factory=dict)
    _backlog_at: float = -BACKLOG_EVERY

    def __post_init__(self) -> None:
        for shard in self.demand.shards:
            self._queues.setdefault((shard.campaign, shard.engine_key), []).append((shard.id, shard))

    def tick(self, farm: Farm) -> None:
        view = self._snapshot(farm)
        began = time.perf_counter()
        decisions = plan(view)
        self.seconds.append(time.perf_counter() - began)
        placed = 0
        for decision in decisions:
            match decision:
                case Dispatch(one):
                    shard = farm.ready[one.shard]
                    self._queues[shard.campaign, shard.engine_key].remove((shard.id, shard))
                    farm.give(one.name, shard)
                    placed += 1
                case Revoke(name, shards, running=False):
                    self._recall(farm, name, shards)
                case LookUp(shards):
                    self._looked_up.update(shards)
                case Rejoin(team, vtime):
                    self._backlogged.add(team)
                    self._lifted[team] = vtime - self._settled(farm, team)
                case Rest(team):
                    self._backlogged.discard(team)
                case _:
                    raise RuntimeError(f"Nothing goes wrong in this farm, and yet: {decision}")
        shown = sum(len(queue.heads) for queue in view.queues)
        self._heads = self._heads * 2 if placed == shown else max(FEWEST_HEADS, self._heads // 2)

    def _recall(self, farm: Farm, name: str, shards: tuple[ShardId, ...]) -> None:
        for shard_id in shards:
            farm.take_back(farm.by_name[name].name, shard_id)  # type: ignore[index]
            if (shard := farm.ready.get(shard_id)) is not None:
                insort(self._queues[shard.campaign, shard.engine_key], (shard.id, shard), key=lambda pair: pair[0])

    # what it sees

    def _snapshot(self, farm: Farm) -> Snapshot:
        queues = self._seen_queues(farm)
        return Snapshot(
            queues=queues,
            backlog=self._seen_backlog(farm.now),
            looked_up=frozenset(self._looked_up),
            held=[lease for machine in farm.machines for lease in _leases(farm, machine)],
            refused=frozenset(),
            seen=[_seen(farm, machine) for machine in farm.machines],
            teams=[
                TeamShare(
                    team, weight, self._settled(farm, team) + self._lifted.get(team, 0.0), team in self._backlogged
                )
                for team, weight in self.demand.weights.items()
            ],
            rules=Rules(loading=Loading(checkpoint={GPU: CHECKPOINT_SECONDS}, lora={GPU: LORA_SECONDS})),
            may_reclaim=True,
        )

    def _seen_queues(self, farm: Farm) -> list[Queue]:
        slots = SLOTS * len(farm.machines)
        there = {key: shards for key, shards in self._queues.items() if shards}
        heads = min(slots + FEWEST_HEADS, max(self._heads, -(-slots // max(1, len(there)))))
        return [
            Queue(
                team=self.demand.teams[campaign],
                campaign=campaign,
                engine_key=key,
                checkpoint=CHECKPOINT,
                lane=Lane.BULK,
                priority=50,
                position=float(campaign),  # submitted a second after one another
                heads=tuple(Head(shard.id, shard.expected, farm.now) for _, shard in shards[:heads]),
            )
            for (campaign, key), shards in there.items()
        ]

    def _seen_backlog(self, now: float) -> dict[tuple[CampaignId, str], Backlog]:
        if now >= self._backlog_at + BACKLOG_EVERY:
            self._backlog_at = now
            self._backlog = {
                key: Backlog(len(shards), len(shards) * SHARD_RENDERS, sum(shard.expected for _, shard in shards))
                for key, shards in self._queues.items()
                if shards
            }
        return self._backlog

    def _settled(self, farm: Farm, team: int) -> float:
        """Virtual time of what renderers have reported: they report as they go."""
        used = farm.used[team]  # type: ignore[index]
        under_way = (farm.progress(m) for m in farm.machines if m.shards and farm.team(m.shards[0]) == team)
        return (used + sum(under_way)) / self.demand.weights[team]  # type: ignore[index]


def _leases(farm: Farm, machine: Machine) -> list[Held]:
    return [
        Held(
            shard=shard.id,
            session=machine.session,
            fence=machine.fences[shard.id],
            age=farm.now - machine.leased_at[shard.id],
            expired=False,
            ended=False,
            cancelled=False,
            engine_key=shard.engine_key,
            checkpoint=CHECKPOINT,
            gpu_seconds=shard.expected * (1 - machine.done_of(shard, farm.now)),
            team=farm.team(shard),
            campaign=shard.campaign,
            lane=Lane.BULK,
            renders=round(SHARD_RENDERS * (1 - machine.done_of(shard, farm.now))),
        )
        for shard in machine.shards
    ]


def _seen(farm: Farm, machine: Machine) -> Seen:
    return Seen(
        name=machine.name,
        session=machine.session,
        holds=frozenset(machine.fences.items()),
        engine_key=machine.engine_key,
        checkpoint=CHECKPOINT if machine.engine_key else "",
        gpu=GPU,
        idle=0.0 if machine.shards else farm.now - machine.idle_since,
    )
