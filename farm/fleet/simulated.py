"""The fleet's twin: renderers that are plain objects of this process, and the ways in which they fail.

A `SimulatedCluster` stands for Ray: renderers live in it, whoever leads. A `SimulatedFleet` stands for one scheduler's
connection to it.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from actors.renderer import Renderer
from farm.core.ids import Epoch, RendererName, ShardId
from farm.ports import Answered, Died, Heard, Introduced, News, Silent
from schemas.order import ShardOrder
from schemas.report import Collected, Hello, Offered

_THREADS = 16
"""A `collect` holds one for as long as it waits: enough for two leaders of six renderers."""


@dataclass(slots=True)
class _Process:
    """One life of a renderer. While it is *held*, calls wait for it as for an actor that has no node yet."""

    renderer: Renderer | None = None
    held: bool = False
    ended: str = ""  # why
    certain: bool = False  # that it ended
    calls: list[Callable[[], None]] = field(default_factory=list)


class SimulatedCluster:
    """*make* gives a new renderer for a name; names in *pending* wait for `start`."""

    def __init__(self, make: Callable[[RendererName], Renderer], *, pending: Sequence[RendererName] = ()) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._processes: dict[RendererName, _Process] = {}
        self._made: list[Renderer] = []
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cluster")
        self.pending = set(pending)
        self.draining: frozenset[str] = frozenset()
        self.woken: list[RendererName] = []

    def names(self) -> list[RendererName]:
        with self._lock:
            return sorted(self._processes)

    # what happens to renderers

    def start(self, name: RendererName) -> None:
        """A pending renderer gets its node; one that hung goes on, and answers what it was asked meanwhile."""
        with self._lock:
            self.pending.discard(name)
            process = self._processes[name]
            process.held = False
            calls, process.calls = process.calls, []
        for call in calls:
            self._threads.submit(call)

    def hang(self, name: RendererName) -> None:
        """Nothing comes back from it, not even an error."""
        with self._lock:
            self._processes[name].held = True

    def kill(self, name: RendererName) -> None:
        """Its process ends, and Ray starts another under the same name."""
        self._end(name, "The process ended.", certain=False)
        self._begin(name)

    def lose(self, name: RendererName) -> None:
        """Its process ends, and no other follows."""
        self._end(name, "The renderer is dead.", certain=True)

    def close(self) -> None:
        """Ends every renderer and waits for it."""
        for name in self.names():
            self._end(name, "The cluster was closed.", certain=True)
        self._threads.shutdown(wait=True)
        for renderer in self._made:
            renderer.__ray_shutdown__()

    # what fleets do

    def wake(self, name: RendererName) -> None:
        self.woken.append(name)
        if name not in self.names():
            self._begin(name)

    def call(self, name: RendererName, method: str, arguments: Sequence[object], tell: Callable[[Any], None]) -> None:
        """*tell* gets the answer, or a `Silent` or `Died`."""
        with self._lock:
            process = self._processes.get(name)
        if process is None:
            tell(Silent(name, method, "There is no such renderer."))
            return

        def ask() -> None:
            try:
                answer: Any = None if process.ended else getattr(self._renderer(name, process), method)(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it raises comes back to the caller, as with Ray
                answer = Silent(name, method, f"{type(error).__name__}: {error}")
            with self._lock:
                ended, certain = process.ended, process.certain
            if ended:
                answer = Died(name, ended) if certain else Silent(name, method, ended)
            tell(answer)

        with self._lock:
            if process.held:
                process.calls.append(ask)
                return
        self._threads.submit(ask)

    def _begin(self, name: RendererName) -> None:
        with self._lock:
            self._processes[name] = _Process(held=name in self.pending)

    def _renderer(self, name: RendererName, process: _Process) -> Renderer:
        """Made at the first call: nobody can tell the difference."""
        with self._lock:
            if process.renderer is None:
                process.renderer = self._make(name)
                self._made.append(process.renderer)
            return process.renderer

    def _end(self, name: RendererName, why: str, *, certain: bool) -> None:
        with self._lock:
            process = self._processes.pop(name)
            process.ended, process.certain = why, certain
            calls, process.calls = process.calls, []
            renderer = process.renderer
        if renderer is not None:
            self._threads.submit(renderer.__ray_shutdown__)  # which ends a `collect` that waits
        for call in calls:
            self._threads.submit(call)


class SimulatedFleet:
    """`Fleet` over a `SimulatedCluster`."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def names(self) -> list[RendererName]:
        return self._cluster.names()

    def draining(self) -> frozenset[str]:
        return self._cluster.draining

    def wake(self, name: RendererName) -> None:
        self._cluster.wake(name)

    def retire(self, name: RendererName) -> None:
        with suppress(KeyError):  # it is gone already
            self._cluster.lose(name)

    def end(self, name: RendererName) -> None:
        self.retire(name)  # no renderer here can refuse to go

    def adopt(self, name: RendererName, epoch: Epoch) -> None:
        self._call(name, "adopt", lambda answer: Introduced(name, Hello.model_validate_json(answer)), epoch)

    def offer(self, name: RendererName, order: ShardOrder) -> None:
        def read(answer: str) -> News:
            return Answered(name, ShardId(order.shard), order.fence, Offered(answer))

        self._call(name, "offer", read, order.model_dump_json())

    def collect(self, name: RendererName, epoch: Epoch, after: int, wait: timedelta) -> None:
        def read(answer: str) -> News:
            return Heard(name, Collected.model_validate_json(answer))

        self._call(name, "collect", read, epoch, after, wait.total_seconds())

    def revoke(self, name: RendererName, epoch: Epoch, shards: Sequence[ShardId], *, running: bool) -> None:
        self._call(name, "revoke", None, epoch, list(shards), running)

    def drain(self, name: RendererName, epoch: Epoch) -> None:
        self._call(name, "drain", None, epoch)

    def news(self, timeout: timedelta) -> list[News]:
        found: list[News] = []
        with suppress(queue.Empty):
            found.append(self._news.get(timeout=max(0.001, timeout.total_seconds())))
            while True:
                found.append(self._news.get_nowait())
        return found

    def close(self) -> None:
        """Nothing more is heard of what was asked."""
        self._news = queue.SimpleQueue()

    def _call(self, name: RendererName, method: str, read: Callable[[str], News] | None, *arguments: object) -> None:
        inbox = self._news

        def tell(answer: Any) -> None:
            if isinstance(answer, Silent | Died):
                inbox.put(answer)
            elif read is not None:
                try:
                    inbox.put(read(answer))
                except ValueError as error:  # of pydantic: a message of another release
                    inbox.put(Silent(name, method, str(error)))

        self._cluster.call(name, method, arguments, tell)
