"""What stands for Ray: nodes, renderers on them, calls between processes. Renderers live here whoever leads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from farm.core.ids import RendererName
from farm.ports import Died, News, Silent
from tests.simulation.depot import Courier
from tests.simulation.gpu import Physics
from tests.simulation.kernel import Kernel
from tests.simulation.nodes import Node
from tests.simulation.promises import Promises
from tests.simulation.renderer import Life

Reply = Callable[[News | None], None]
Call = Callable[[Life, Reply], None]

_START = (1.5, 4.0)
"""Seconds that a process takes to come up."""


@dataclass(slots=True)
class Asked:
    """A call that has no answer yet."""

    what: str
    run: Call
    reply: Reply


@dataclass(slots=True)
class Actor:
    """A renderer by name: one life after another. ``waiting`` are calls for when it has one."""

    name: RendererName
    node: Node | None = None
    life: Life | None = None
    starts: int = 0
    waiting: list[Asked] = field(default_factory=list)
    open: dict[int, Asked] = field(default_factory=dict)  # begun, not answered


class Cluster:
    def __init__(
        self, kernel: Kernel, nodes: Sequence[Node], physics: Physics, courier: Courier, promises: Promises
    ) -> None:
        self._kernel, self._physics, self._courier, self._promises = kernel, physics, courier, promises
        self.nodes = {node.name: node for node in nodes}
        self.actors: dict[RendererName, Actor] = {}
        self.down_until = 0.0
        self._made = len(nodes)
        self._calls = 0

    # what fleets ask

    def names(self) -> list[RendererName]:
        return sorted(self.actors)

    def draining(self) -> frozenset[str]:
        return frozenset(node.name for node in self.nodes.values() if node.up and node.gone_at is not None)

    def wake(self, name: RendererName) -> None:
        if name not in self.actors:
            self._kernel.note("woken", name)
            self.actors[name] = Actor(name)
            self.settle()

    def retire(self, name: RendererName, at_once: bool = False) -> None:
        """It ends, and no other follows; calls that wait for it are told so."""
        actor = self.actors.pop(name, None)
        if actor is None:
            return
        if actor.life is not None and self._kernel.now < actor.life.frozen_until and not at_once:
            self._kernel.after(actor.life.frozen_until - self._kernel.now, self.retire, name)
            self.actors[name] = actor
            return
        self._kernel.note("retired", name)
        asked = [*actor.open.values(), *actor.waiting]
        self._end_life(actor)
        if actor.node is not None:
            actor.node.actor = None
        for one in asked:
            one.reply(Died(name, "The renderer is gone."))
        self.settle()

    def broken(self, name: str) -> bool:
        actor = self.actors.get(RendererName(name))
        return actor is not None and actor.node is not None and actor.node.broken

    def call(self, name: RendererName, what: str, run: Call, reply: Reply) -> None:
        actor = self.actors.get(name)
        if actor is None:
            reply(Silent(name, what, "There is no such renderer."))
        elif actor.life is None:
            actor.waiting.append(Asked(what, run, reply))
        else:
            self._run(actor, actor.life, Asked(what, run, reply))

    def _run(self, actor: Actor, life: Life, asked: Asked) -> None:
        """Of a process that is frozen nothing comes back until it goes on."""
        self._calls += 1
        number = self._calls
        actor.open[number] = asked

        def answer(news: News | None) -> None:
            if actor.open.pop(number, None) is not None:
                asked.reply(news)

        life.after(0.0, asked.run, life, answer)

    # what happens to renderers

    def settle(self) -> None:
        """Renderers without a node get one, if there is any of their fleet."""
        for name in sorted(self.actors):
            actor = self.actors[name]
            if actor.node is not None:
                continue
            fleet = name.split("/")[1]
            free = (
                n for n in self.nodes.values() if n.up and n.actor is None and n.gone_at is None and n.fleet == fleet
            )
            node = next(free, None)
            if node is not None:
                actor.node, node.actor = node, name
                self._start(actor)

    def _start(self, actor: Actor) -> None:
        actor.starts += 1
        self._kernel.after(self._kernel.random.uniform(*_START), self._begin, actor, actor.starts)

    def _begin(self, actor: Actor, start: int) -> None:
        if self.actors.get(actor.name) is not actor or actor.starts != start or actor.node is None:
            return
        life = Life(self._kernel, actor.name, actor.node, self._physics, self._courier, self._promises)
        actor.life = life
        life.on_death = lambda: self.kill(actor.name)
        self._kernel.note("begins", actor.name, life.session)
        waiting, actor.waiting = actor.waiting, []
        for asked in waiting:
            self._run(actor, life, asked)

    def _end_life(self, actor: Actor) -> None:
        if actor.life is not None:
            actor.life.die()
            self._promises.life_ended(actor.life.ledger)
            actor.life = None
        actor.starts += 1  # one that is on its way does not arrive

    def kill(self, name: RendererName) -> None:
        """The process ends, and another is started under the same name. What was asked of it has failed."""
        actor = self.actors[name]
        self._kernel.note("dies", name)
        asked, actor.open = list(actor.open.values()), {}
        self._end_life(actor)
        for one in asked:
            one.reply(Silent(name, one.what, "The process ended."))
        if actor.node is not None and actor.node.up:
            self._start(actor)

    def lose(self, node: Node, back_in: float) -> None:
        """With all that runs there. Another node takes its place after a while, with a sound GPU."""
        self._kernel.note("node lost", node.name)
        node.up = False
        del self.nodes[node.name]
        if node.actor is not None:
            actor = self.actors[RendererName(node.actor)]
            self.kill(actor.name)
            actor.node = None
        self._kernel.after(back_in, self._bring, node)
        self.settle()

    def _bring(self, former: Node) -> None:
        self._made += 1
        name = f"node-{self._made}"
        self.nodes[name] = Node(name, former.fleet, former.gpu, former.speed)
        self.settle()

    def tell_to_go(self, node: Node, notice: float, back_in: float) -> None:
        if node.gone_at is None:
            node.gone_at = self._kernel.now + notice
            self._kernel.note("node drains", node.name)
            self._kernel.after(notice, self._go, node, back_in, self._kernel.now)

    def _go(self, node: Node, back_in: float, told: float) -> None:
        if node.up:
            actor = self.actors.get(RendererName(node.actor)) if node.actor is not None else None
            if actor is not None and actor.life is not None:
                self._promises.node_goes(actor.name, actor.life.ledger, told)
            self.lose(node, back_in)
