"""Renderers as detached Ray actors, and news of them without a thread of our own.

Each call leaves a reference; `news` asks Ray which references are ready. A failed call says little: after
`ActorUnavailableError` it may have run, may still run, or never did. That is passed on as `Silent`, and the lease or
the fence decides. Only `ActorDiedError` is certain.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util import list_named_actors

from actors.renderer import Renderer, RendererSettings
from farm.core.errors import FleetDown
from farm.core.ids import Epoch, RendererName, ShardId
from farm.ports import Answered, Died, Heard, Introduced, News, Silent
from schemas.order import ShardOrder
from schemas.report import Collected, Hello, Offered

__all__ = ["Kind", "RayFleet", "RendererSettings", "connect"]

_OURS = "farm/"

_CTL_THREADS = 8
"""Two collectors (the former leader's too), and room for offers, adoptions and revocations."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the renderers of one fleet ask Ray for. *labels* are of the nodes that they may run on."""

    name: str
    cpus: float
    gpus: float
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"farm/{self.name}/"

    def options(self) -> dict[str, Any]:
        labels = {"label_selector": dict(self.labels)} if self.labels else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **labels}


@dataclass(frozen=True, slots=True)
class _Call:
    name: RendererName
    what: str
    read: Callable[[Any], News | None]


class RayFleet:
    """Ray must be initialised; `connect` does it. Not for several threads at once.

    A renderer belongs to the fleet that its name says: ``farm/<fleet>/<revision>/<n>``.
    """

    def __init__(self, *, fleets: Sequence[Kind], settings: Callable[[str], RendererSettings]) -> None:
        self._fleets = tuple(fleets)
        self._settings = settings
        groups: dict[str, Any] = {"concurrency_groups": {"ctl": _CTL_THREADS}}  # not in Ray's own signature
        self._class: Any = ray.remote(**groups)(Renderer)
        self._calls: dict[ray.ObjectRef[Any], _Call] = {}
        self._handles: dict[RendererName, Any] = {}
        self._quiet = threading.Event()  # never set: a wait that a signal can end

    def names(self) -> list[RendererName]:
        """Those of fleets that are no longer ours, too: somebody must retire them."""
        with _ray_errors():
            return [RendererName(name) for name in sorted(list_named_actors()) if name.startswith(_OURS)]

    def draining(self) -> frozenset[str]:
        with _ray_errors():
            # Private, but the only door: Ray's own Train and Data read it too.
            return frozenset(ray._private.state.state.get_draining_nodes())  # noqa: SLF001

    def wake(self, name: RendererName) -> None:
        """A pending actor is the demand that an autoscaler sees. Raises `KeyError` when the name is of no fleet."""
        options = {
            **self._kind(name).options(),
            "name": name,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,  # a lost process comes back, cold
            "max_task_retries": 0,  # whether a render is tried again is decided in PostgreSQL, never by Ray
            "max_pending_calls": 64,
        }
        with _ray_errors():
            self._handles[name] = self._class.options(**options).remote(self._settings(name))

    def retire(self, name: RendererName) -> None:
        with _ray_errors():
            try:
                self._handle(name).__ray_terminate__.remote()
            except ValueError:  # it is gone already
                pass
        self._handles.pop(name, None)

    def end(self, name: RendererName) -> None:
        with _ray_errors():
            try:
                ray.kill(self._handle(name), no_restart=True)
            except ValueError:  # it is gone already
                pass
        self._handles.pop(name, None)

    def adopt(self, name: RendererName, epoch: Epoch) -> None:
        def read(answer: str) -> News:
            return Introduced(name, Hello.model_validate_json(answer))

        self._call(name, "adopt", read, epoch)

    def offer(self, name: RendererName, order: ShardOrder) -> None:
        def read(answer: str) -> News:
            return Answered(name, ShardId(order.shard), order.fence, Offered(answer))

        self._call(name, "offer", read, order.model_dump_json())

    def collect(self, name: RendererName, epoch: Epoch, after: int, wait: timedelta) -> None:
        def read(answer: str) -> News:
            return Heard(name, Collected.model_validate_json(answer))

        self._call(name, "collect", read, epoch, after, wait.total_seconds())

    def revoke(self, name: RendererName, epoch: Epoch, shards: Sequence[ShardId], *, running: bool) -> None:
        self._call(name, "revoke", _nothing, epoch, list(shards), running)

    def drain(self, name: RendererName, epoch: Epoch) -> None:
        self._call(name, "drain", _nothing, epoch)

    def news(self, timeout: timedelta) -> list[News]:
        if not self._calls:
            self._quiet.wait(timeout.total_seconds())
            return []
        with _ray_errors():
            references = list(self._calls)
            ready, _ = ray.wait(references, num_returns=1, timeout=timeout.total_seconds())
            if ready:  # whatever else has come in meanwhile
                ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        found = [self._read(reference, self._calls.pop(reference)) for reference in ready]
        return [news for news in found if news is not None]

    def close(self) -> None:
        self._calls.clear()
        ray.shutdown()

    def _kind(self, name: RendererName) -> Kind:
        for kind in self._fleets:
            if name.startswith(kind.prefix):
                return kind
        raise KeyError(name)

    def _handle(self, name: RendererName) -> Any:
        if name not in self._handles:
            self._handles[name] = ray.get_actor(name)
        return self._handles[name]

    def _call(self, name: RendererName, what: str, read: Callable[[Any], News | None], *arguments: object) -> None:
        with _ray_errors():
            try:
                reference = getattr(self._handle(name), what).remote(*arguments)
            # No such actor (any more), too many calls pending, or one of a release whose method takes other arguments.
            except (ValueError, TypeError, RayError) as error:
                self._handles.pop(name, None)
                failed = str(error)

                def fail(_: Any, failed: str = failed) -> News:
                    return Silent(name, what, failed)

                self._calls[ray.put(None)] = _Call(name, what, fail)
            else:
                self._calls[reference] = _Call(name, what, read)

    def _read(self, reference: "ray.ObjectRef[Any]", call: _Call) -> News | None:
        try:
            return call.read(ray.get(reference))
        except ActorDiedError as error:
            self._handles.pop(call.name, None)
            return Died(call.name, _first_line(error))
        except RayError as error:
            return Silent(call.name, call.what, _first_line(error))
        except ValueError as error:  # words of a release that we do not understand
            return Silent(call.name, call.what, f"unreadable answer: {_first_line(error)}")


def _nothing(_: object) -> None:
    return None


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


@contextmanager
def _ray_errors() -> Iterator[None]:
    """What is about Ray itself, not about one renderer."""
    try:
        yield
    except RayError as error:
        raise FleetDown(f"Ray does not answer: {_first_line(error)}") from error
    except (ConnectionError, RuntimeError) as error:
        raise FleetDown(f"Ray does not answer: {_first_line(error)}") from error


def connect(address: str, namespace: str) -> None:
    """Makes this process a driver. Raises `FleetDown` when there is no cluster, or the token is wrong."""
    with _ray_errors():
        ray.init(address=address, namespace=namespace, log_to_driver=False, configure_logging=False)
