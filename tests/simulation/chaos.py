"""Disasters: what happens to whole parts, one after another."""

from typing import TYPE_CHECKING

from farm.core.ids import RendererName
from tests.simulation.faults import Disaster
from tests.simulation.kernel import moment
from tests.simulation.nodes import Node

if TYPE_CHECKING:
    from tests.simulation.world import World

_FELT = 30.0
"""Seconds for which a disaster may be felt after it is over: leases run out, processes come back."""

_NOTICE = 30.0


class Chaos:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._kernel = world.kernel
        if world.faults.disasters:
            self._later()
        if world.faults.until:
            world.promises.disturb(world.faults.until + _FELT)
        quiet = world.faults.until + _FELT if world.faults.until else 0.0
        self._kernel.after(self._kernel.random.uniform(quiet, world.size.seconds), self._drain_one)

    def _later(self) -> None:
        self._kernel.after(self._kernel.random.expovariate(1 / self._world.faults.every), self._strike)

    def _strike(self) -> None:
        if self._kernel.now >= self._world.faults.until:
            return
        disaster = self._kernel.random.choice(self._world.faults.disasters)
        self._kernel.note("disaster", disaster.value)
        self._do(disaster)
        self._later()

    def _do(self, disaster: Disaster) -> None:
        rng, world = self._kernel.random, self._world
        match disaster:
            case Disaster.SCHEDULER_KILLED:
                rng.choice(world.processes).kill(rng.uniform(1, 20))
            case Disaster.SCHEDULER_FROZEN:
                rng.choice(world.processes).freeze(rng.uniform(1, 40))
            case Disaster.SCHEDULER_REPLACED:
                rng.choice(world.processes).replace(rng.uniform(1, 5))
            case Disaster.STORE_DOWN:
                self._take_down(rng.uniform(0.5, 30))
            case Disaster.DEPOT_DOWN:
                world.depot.answers = False
                self._kernel.after(rng.uniform(1, 40), self._depot_up)
            case Disaster.CLUSTER_DOWN:
                world.cluster.down_until = self._kernel.now + rng.uniform(1, 15)
            case Disaster.CLOCK_JUMPS:
                rng.choice(world.users).clock.off = rng.choice((-3600.0, -5.0, 0.0, 5.0, 3600.0))
            case _:
                self._do_to_renderer(disaster)

    def _take_down(self, seconds: float) -> None:
        until = self._kernel.now + seconds
        for process in self._world.processes:
            process.line.down_until = max(process.line.down_until, until)
        for user in self._world.users:
            user.line.down_until = max(user.line.down_until, until)

    def _depot_up(self) -> None:
        self._world.depot.answers = True

    def _do_to_renderer(self, disaster: Disaster) -> None:
        rng, cluster = self._kernel.random, self._world.cluster
        names = [name for name in cluster.names() if cluster.actors[name].life is not None]
        if not names:
            return
        name = rng.choice(names)
        node = cluster.actors[name].node
        match disaster:
            case Disaster.RENDERER_KILLED:
                cluster.kill(name)
            case Disaster.RENDERER_FROZEN:
                self._freeze(name, rng.uniform(1, 40))  # shorter than the grace time, which rests on it
            case Disaster.NODE_LOST if node is not None:
                cluster.lose(node, rng.uniform(5, 60))
            case Disaster.NODE_DRAINED if node is not None:
                cluster.tell_to_go(node, _NOTICE, rng.uniform(5, 60))
            case Disaster.GPU_BROKEN if node is not None:
                self._break(node)

    def _drain_one(self) -> None:
        """In peace, so that nothing excuses what is left behind."""
        self._do_to_renderer(Disaster.NODE_DRAINED)

    def _freeze(self, name: RendererName, seconds: float) -> None:
        life = self._world.cluster.actors[name].life
        if life is not None:
            life.frozen_until = max(life.frozen_until, self._kernel.now + seconds)

    def _break(self, node: Node) -> None:
        """One at a time, and never the last: a farm without a sound GPU cannot tell who is to blame."""
        nodes = self._world.cluster.nodes.values()
        if sum(other.up and not other.broken for other in nodes) > 2 and not any(other.broken for other in nodes):
            node.broken = True
            self._kernel.note("broken", node.name)

    def heal(self) -> None:
        """The calm begins. What is frozen goes on, what is down comes up; a broken GPU stays broken."""
        world, now = self._world, self._kernel.now
        world.depot.answers = True
        world.cluster.down_until = now
        for process in world.processes:
            process.frozen_until = now
            process.line.down_until = now
        for user in world.users:
            user.line.down_until = now
        for actor in world.cluster.actors.values():
            if actor.life is not None:
                actor.life.frozen_until = now
        self._kernel.note("calm", moment(now).isoformat())
