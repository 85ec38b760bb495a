"""A farm in simulated time: renderers that load and render, and a policy that gives them shards.

Only time is simulated. `Planned` calls the real `plan` at each tick, with what a scheduler would see then: heads of
queues, leases with what is left of them, renderers and what they are warm for.
"""

import heapq
from dataclasses import dataclass, field
from typing import Protocol

from farm.core.ids import Fence, RendererName, Session, ShardId, TeamId
from ops.bench._farm_load import CHECKPOINT_SECONDS, LORA_SECONDS, Demand, Shard


@dataclass(slots=True)
class Machine:
    """A simulated renderer. The first of *shards* is being rendered, the second waits."""

    name: RendererName
    session: Session
    engine_key: str = ""
    shards: list[Shard] = field(default_factory=list)
    fences: dict[ShardId, Fence] = field(default_factory=dict)
    leased_at: dict[ShardId, float] = field(default_factory=dict)
    rendering_since: float = 0.0  # may lie ahead: it loads first
    until: float = 0.0
    idle_since: float = 0.0

    def done_of(self, shard: Shard, now: float) -> float:
        """How much of it is rendered, from 0 to 1."""
        if not self.shards or shard.id != self.shards[0].id:
            return 0.0
        return min(1.0, max(0.0, (now - self.rendering_since) / shard.actual))


class Policy(Protocol):
    """Who decides. It hands out shards with `Farm.give` and takes back those not begun with `Farm.take_back`."""

    @property
    def every(self) -> float | None:
        """Seconds between two ticks; None: it is asked whenever a renderer has nothing to do."""
        ...

    def tick(self, farm: "Farm") -> None: ...


@dataclass(frozen=True, slots=True)
class Run:
    makespan: float
    swaps: int
    shares: dict[TeamId, float]
    """GPU seconds that each team had had when the first of them had nothing ready any more."""


class Farm:
    def __init__(self, demand: Demand, renderers: int) -> None:
        self.demand, self.now, self.swaps, self.done = demand, 0.0, 0, 0
        self.machines = [Machine(RendererName(f"farm/sim/1/{n}"), Session(f"session {n}")) for n in range(renderers)]
        self.by_name = {machine.name: machine for machine in self.machines}
        self.ready: dict[ShardId, Shard] = {shard.id: shard for shard in demand.shards}
        self.used: dict[TeamId, float] = dict.fromkeys(demand.weights, 0.0)
        self.shares: dict[TeamId, float] | None = None
        self._left = dict.fromkeys(demand.weights, 0)
        for shard in demand.shards:
            self._left[self.team(shard)] += 1
        self._ends: list[tuple[float, RendererName, ShardId]] = []
        self._fences = 0

    def team(self, shard: Shard) -> TeamId:
        return self.demand.teams[shard.campaign]

    # what a policy does

    def give(self, name: RendererName, shard: Shard) -> None:
        machine = self.by_name[name]
        del self.ready[shard.id]
        self._count_left(shard, -1)
        self._fences += 1
        machine.fences[shard.id], machine.leased_at[shard.id] = Fence(str(self._fences)), self.now
        machine.shards.append(shard)
        if len(machine.shards) == 1:
            self._begin(machine)

    def take_back(self, name: RendererName, shard: ShardId) -> None:
        """It is ready again, unless it is being rendered."""
        machine = self.by_name[name]
        for waiting in machine.shards[1:]:
            if waiting.id == shard:
                machine.shards.remove(waiting)
                self._forget(machine, waiting)
                self.ready[shard] = waiting
                self._count_left(waiting, +1)

    # time

    def run(self, policy: Policy) -> Run:
        next_tick = 0.0
        while self.done < len(self.demand.shards):
            self.now = min(next_tick, self._ends[0][0]) if self._ends else next_tick
            while self._ends and self._ends[0][0] <= self.now:
                self._end(self.by_name[heapq.heappop(self._ends)[1]])
            if policy.every is None or self.now >= next_tick:
                policy.tick(self)
                next_tick = self.now + policy.every if policy.every is not None else float("inf")
        return Run(self.now, self.swaps, self.shares or dict(self.used))

    def progress(self, machine: Machine) -> float:
        """GPU seconds of the shard that it renders, so far."""
        return machine.shards[0].actual * machine.done_of(machine.shards[0], self.now) if machine.shards else 0.0

    def _begin(self, machine: Machine) -> None:
        shard, load = machine.shards[0], 0.0
        if shard.engine_key != machine.engine_key:
            load = LORA_SECONDS + (0.0 if machine.engine_key else CHECKPOINT_SECONDS)
            machine.engine_key = shard.engine_key
            self.swaps += 1
        machine.rendering_since = self.now + load
        machine.until = machine.rendering_since + shard.actual
        heapq.heappush(self._ends, (machine.until, machine.name, shard.id))

    def _end(self, machine: Machine) -> None:
        shard = machine.shards.pop(0)
        self._forget(machine, shard)
        self.used[self.team(shard)] += shard.actual
        self.done += 1
        machine.idle_since = self.now
        if machine.shards:
            self._begin(machine)

    def _forget(self, machine: Machine, shard: Shard) -> None:
        del machine.fences[shard.id], machine.leased_at[shard.id]

    def _count_left(self, shard: Shard, change: int) -> None:
        self._left[self.team(shard)] += change
        if self.shares is None and not self._left[self.team(shard)]:
            self.shares = dict(self.used)
            for machine in self.machines:
                if machine.shards:
                    self.shares[self.team(machine.shards[0])] += self.progress(machine)


def fairness_error(run: Run, demand: Demand) -> float:
    """The largest difference between what a team had and what its weight says, as a part of the latter."""
    total, weights = sum(run.shares.values()), sum(demand.weights.values())
    if not total:
        return 0.0
    return max(abs(run.shares[team] / total / (weight / weights) - 1) for team, weight in demand.weights.items())
