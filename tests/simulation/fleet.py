"""One scheduler's connection to the cluster: calls are lost, doubled, late, or done and said to have failed."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from farm.core.errors import FleetDown
from farm.core.ids import Epoch, RendererName, ShardId
from farm.ports import Answered, Heard, Introduced, News, Silent
from schemas.order import ShardOrder
from tests.simulation.cluster import Call, Cluster, Reply
from tests.simulation.faults import Faults
from tests.simulation.kernel import Kernel

_LATENCY = 0.004
_NOTICED = (0.2, 4.0)
"""Seconds until Ray says that a call has failed."""


class SimulatedFleet:
    """`farm.ports.Fleet`. *poke* is called when news has come in; ``asked`` is how long `news` was to wait at most."""

    def __init__(
        self,
        kernel: Kernel,
        cluster: Cluster,
        faults: Faults,
        poke: Callable[[], None],
        offered: Callable[[RendererName, ShardOrder], None],
    ) -> None:
        self._kernel, self._cluster, self._faults = kernel, cluster, faults
        self._poke, self._offered = poke, offered
        self._inbox: list[News] = []
        self._arrived: dict[RendererName, float] = {}  # when the last call gets there
        self._open = True
        self.asked = 0.0

    def names(self) -> list[RendererName]:
        self._check()
        return self._cluster.names()

    def draining(self) -> frozenset[str]:
        self._check()
        return self._cluster.draining()

    def wake(self, name: RendererName) -> None:
        self._check()
        self._cluster.wake(name)

    def retire(self, name: RendererName) -> None:
        self._check()
        self._kernel.after(self._latency(), self._cluster.retire, name)

    def end(self, name: RendererName) -> None:
        self._check()
        self._kernel.after(self._latency(), self._cluster.retire, name, True)

    def adopt(self, name: RendererName, epoch: Epoch) -> None:
        self._call(name, "adopt", lambda life, reply: reply(Introduced(name, life.adopt(epoch))))

    def offer(self, name: RendererName, order: ShardOrder) -> None:
        self._offered(name, order)
        shard = ShardId(order.shard)
        self._call(name, "offer", lambda life, reply: reply(Answered(name, shard, order.fence, life.offer(order))))

    def collect(self, name: RendererName, epoch: Epoch, after: int, wait: timedelta) -> None:
        seconds = wait.total_seconds()
        self._call(
            name,
            "collect",
            lambda life, reply: life.collect(epoch, after, seconds, lambda found: reply(Heard(name, found))),
        )

    def revoke(self, name: RendererName, epoch: Epoch, shards: Sequence[ShardId], *, running: bool) -> None:
        self._call(name, "revoke", lambda life, reply: _told(life.revoke, reply, epoch, shards, running))

    def drain(self, name: RendererName, epoch: Epoch) -> None:
        self._call(name, "drain", lambda life, reply: _told(life.drain, reply, epoch))

    def news(self, timeout: timedelta) -> list[News]:
        """Does not wait: the process that asks is woken when there is news, or when the time is out."""
        self.asked = timeout.total_seconds()
        found, self._inbox = self._inbox, []
        return found

    def close(self) -> None:
        self._open = False

    # the wire

    def _call(self, name: RendererName, what: str, run: Call) -> None:
        self._check()
        if what != "collect":
            self._kernel.note(what, name)
        if self._chance(self._faults.call_lost):
            self._later(name, what)
            return
        late = self._kernel.random.expovariate(0.3) if self._chance(self._faults.call_late) else 0.0
        self._kernel.at(self._in_order(name, self._latency() + late), self._arrive, name, what, run)
        if self._chance(self._faults.call_twice):
            again = late + self._kernel.random.expovariate(0.5)
            self._kernel.after(self._latency() + again, self._cluster.call, name, what, run, _to_nobody)

    def _in_order(self, name: RendererName, delay: float) -> float:
        """When a call arrives. Ray keeps the order of one driver's calls to one actor; those of former lives, and all
        answers, may overtake one another."""
        self._arrived[name] = max(self._kernel.now + delay, self._arrived.get(name, 0.0))
        return self._arrived[name]

    def _arrive(self, name: RendererName, what: str, run: Call) -> None:
        def reply(news: News | None) -> None:
            if self._chance(self._faults.call_unknown):
                self._later(name, what)
            elif news is not None:
                self._kernel.after(self._latency(), self._deliver, news)

        self._cluster.call(name, what, run, reply)

    def _later(self, name: RendererName, what: str) -> None:
        news = Silent(name, what, "The renderer is unavailable.")
        self._kernel.after(self._kernel.random.uniform(*_NOTICED), self._deliver, news)

    def _deliver(self, news: News) -> None:
        if self._open:
            self._inbox.append(news)
            self._poke()

    def _latency(self) -> float:
        return self._kernel.random.expovariate(1 / _LATENCY)

    def _chance(self, probability: float) -> bool:
        return self._kernel.now < self._faults.until and self._kernel.random.random() < probability

    def _check(self) -> None:
        if self._kernel.now < self._cluster.down_until:
            raise FleetDown("The cluster does not answer.")


def _told(call: Callable[..., None], reply: Reply, *arguments: object) -> None:
    """A call that has no answer but that it ran."""
    call(*arguments)
    reply(None)


def _to_nobody(_: News | None) -> None:
    """Whoever asked is not told twice."""
