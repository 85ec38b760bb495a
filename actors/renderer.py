"""The Ray actor shell: takes orders, hands out reports, and keeps three kinds of thread busy.

The io threads fetch weights and pictures, the one GPU thread renders, the publish threads have what was rendered judged
and encoded, and upload it. They meet in the ledger, under one lock. Importing this module
imports no torch; the GPU thread does that.
"""

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

import ray

from actors.device import sampler
from actors.engine.port import Engine, Held
from actors.finishers import Finishers
from actors.gpu import GpuThread
from actors.ledger import Ledger, Stage
from actors.links import Links
from actors.pools import Pools
from actors.settings import RendererSettings
from actors.shared import Shared
from schemas.order import WIRE_MAJOR, ShardOrder
from schemas.report import CacheCounts, Collected, Hello, Offered, RenderReport, Warm

__all__ = ["Renderer", "RendererSettings"]

ENGINE_SECONDS = 300.0
"""How long the constructor waits for the engine: importing torch and diffusers takes 6 to 10 s, a cold disk more."""

FINISH_SECONDS, LEAVE_SECONDS = 15.0, 25.0
"""After a SIGTERM: how long rows in the GPU may run on, and when the process ends anyhow. GCP and Azure give 30 s."""


M = TypeVar("M", bound=Callable[..., Any])


def _ctl(method: M) -> M:
    """Puts a method into the group ``ctl``; the signature stays that of a plain method, as tests call it."""
    return cast(M, ray.method(concurrency_group="ctl")(method))


class Renderer:
    """One GPU. Messages go in and out as JSON, so that the two sides may be of different releases.

    All methods belong to the concurrency group ``ctl`` and answer while a render runs. `collect` waits inside, so the
    group needs a thread for each collector, the former leader's too, and one or two more.

    A method, also a private one, is named in what Ray hands to each driver, and a driver whose own `Renderer` lacks it
    can call none of them. So no release adds or takes away a method; what is new is a function.
    """

    def __init__(self, settings: RendererSettings, engine: Engine | None = None) -> None:
        """*engine* is given by tests; otherwise the GPU thread makes the one that *settings* names."""
        self._name, self._session, self._node = settings.name, str(uuid.uuid4()), _node()
        # Begins above any number of an earlier session, whose acknowledgements may still be under way.
        ledger = Ledger(first_seq=time.time_ns() // 1_000_000)
        self._shared = Shared(ledger, window=2 * settings.batch + settings.io_threads)
        self._closed = threading.Event()
        self._links = Links(self._closed.wait, connections=2 * settings.io_threads + 2)
        self._device = sampler(settings.device)
        self._pools = Pools(self._shared, settings, self._links)
        self._finishers = Finishers(self._shared, self._pools, settings, self._links, self._session)
        self._gpu = GpuThread(self._shared, self._pools, self._finishers, settings, engine)
        self._gpu.start()
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
            signal.signal(signal.SIGTERM, _Leaving(self.leave, signal.getsignal(signal.SIGTERM)))
        self._gpu.opened.wait(ENGINE_SECONDS)

    @_ctl
    def adopt(self, epoch: int) -> str:
        """A `Hello`. One with a newer epoch than *epoch* says that the caller is no longer the leader."""
        with self._shared.changed:
            self._shared.ledger.hear(epoch)
            self._shared.changed.notify_all()  # a former leader's collect ends
            return Hello(
                name=self._name,
                session=self._session,
                node=self._node,
                pid=os.getpid(),
                gpu=self._gpu.name,
                numerics=self._shared.numerics,
                epoch=self._shared.ledger.epoch,
                holds=self._shared.ledger.holds(),
            ).model_dump_json()

    @_ctl
    def offer(self, order_json: str) -> str:
        """The value of an `Offered`. Raises pydantic's ValidationError when the order makes no sense."""
        if json.loads(order_json).get("wire", WIRE_MAJOR) != WIRE_MAJOR:
            return Offered.OTHER_WIRE.value
        order = ShardOrder.model_validate_json(order_json)
        with self._shared.changed:
            if self._shared.fault or self._shared.closing:
                return Offered.DRAINING.value
            answer = self._shared.ledger.offer(order)
            if answer is Offered.TAKEN:
                self._pools.fetch_weights(order)
                self._pools.fetch_sources()
            self._shared.changed.notify_all()
            return answer.value

    @_ctl
    def collect(self, epoch: int, after_seq: int, wait_seconds: float) -> str:
        """A `Collected` with the reports above *after_seq*; those up to it are acknowledged and forgotten.

        Waits until there is one, at most *wait_seconds*. A caller with an older epoch gets none and forgets none.
        """
        collected = _next_reports(self._shared, self._collected, epoch, after_seq, time.monotonic() + wait_seconds)
        return collected.model_copy(update={"device": self._device.read()}).model_dump_json()

    @_ctl
    def revoke(self, epoch: int, shards: list[int], running: bool = True) -> None:
        """Rows that wait are handed back; with *running* those in the GPU stop too, at the next step."""
        self._withdraw(epoch, shards, running=running)

    @_ctl
    def drain(self, epoch: int) -> None:
        """Hands back all that has not begun, finishes what is in the GPU, takes no more orders."""
        with self._shared.changed:
            if epoch >= self._shared.ledger.epoch:
                self._shared.ledger.draining = True
        self._withdraw(epoch, None, running=False)

    def leave(self, finish: float = FINISH_SECONDS, most: float = LEAVE_SECONDS) -> None:
        """As `drain`, on the word of whoever ends this process; returns when the scheduler knows all that became of its
        rows, or after *most* seconds. Rows in the GPU run on for *finish* seconds."""
        began, shared = time.monotonic(), self._shared
        for running, until in ((False, finish), (True, most)):
            with shared.changed:
                shared.ledger.draining = True
                self._withdraw(shared.ledger.epoch, None, running=running)
                if shared.changed.wait_for(lambda: not shared.ledger.holds(), began + until - time.monotonic()):
                    return

    def __ray_shutdown__(self) -> None:
        """Ends every thread; what is in the GPU stops at its next step. May be called twice."""
        with self._shared.changed:
            self._shared.closing = True
            self._shared.changed.notify_all()
        self._gpu.join()
        self._closed.set()  # whoever waits to ask the depot again waits no longer
        self._pools.close()
        self._finishers.close()
        self._links.close()

    def _withdraw(self, epoch: int, shards: list[int] | None, *, running: bool) -> None:
        with self._shared.changed:
            if self._shared.ledger.hear(epoch):
                self._shared.ledger.revoke(shards, time.monotonic(), running=running)
                self._pools.release_weights()
                self._pools.fetch_sources()
                self._shared.changed.notify_all()

    def _collected(self, reports: tuple[RenderReport, ...]) -> Collected:
        shared, engine = self._shared, self._shared.engine
        held = engine.held() if engine else Held()
        return Collected(
            session=self._session,
            reports=reports,
            holds=shared.ledger.holds(),
            waiting=shared.ledger.count(Stage.WAITING),
            busy=shared.busy,
            warm=Warm(engine_key=shared.warm_digest, checkpoint=held.checkpoint, loras=held.loras),
            cache=engine.counts if engine else CacheCounts(),
            gpu=shared.clock.read(time.monotonic()),
            fault=shared.fault,
            leaving=shared.ledger.draining,
        )


def _next_reports(
    shared: Shared, say: Callable[[tuple[RenderReport, ...]], Collected], epoch: int, after_seq: int, deadline: float
) -> Collected:
    """`Renderer.collect`, up to what is read outside the lock. No method: see the class."""
    with shared.changed:
        ledger = shared.ledger
        if not ledger.hear(epoch):
            return say(())
        shared.changed.notify_all()  # a former leader's collect ends
        ledger.acknowledge(after_seq)
        healthy = not shared.fault
        while True:
            now = time.monotonic()
            due = ledger.flush(now)
            reports = ledger.reports(after_seq)
            broke = healthy and shared.fault
            if ledger.epoch != epoch:
                return say(())
            if reports or broke or shared.closing or now >= deadline:
                return say(reports)
            shared.changed.wait(min(deadline, due or deadline) - now)


class _Leaving:
    """What SIGTERM does to the process: the first has it leave, the second, which ends that, has it end as Ray wants.

    The handler is run between any two steps of the main thread, which may hold the lock, so another thread does it.
    """

    def __init__(self, leave: Callable[[], None], ended: Any) -> None:
        self._leave, self._ended = leave, ended
        self._begun = False

    def __call__(self, number: int, frame: Any) -> None:
        if self._begun:
            self._ended(number, frame)
        self._begun = True
        threading.Thread(target=self._go, name="leave", daemon=True).start()

    def _go(self) -> None:
        try:
            self._leave()
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _node() -> str:
    """Ray's id of the node, or the host's name outside Ray."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else socket.gethostname()
