"""The embedded farm: its parts, its services, and the folder that holds all of it."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from farm.embedded import ports as port_choice
from farm.embedded import state as state_file
from farm.embedded.ports import HOST
from farm.embedded.postgres import Postgres
from farm.embedded.processes import Child, PartFailed
from farm.embedded.ray_cluster import RayCluster
from farm.embedded.s3 import BUCKET, REGION, S3
from farm.embedded.state import State

_LEAST_FREE_BYTES = 500 * 2**20
_SERVICE_PORTS = ("api", "metrics")
_OUTSIDE_PREFIX = "halftone-"

Part = Postgres | S3 | RayCluster


@dataclass(frozen=True, slots=True)
class Service:
    """A process to run once the parts stand: a server that stays, or (``once``) a command that must succeed.

    It is started with the farm's settings in its environment, less those it must not know (``hidden``), and with
    ``env`` on top.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    once: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    hidden: Collection[str] = ()
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Started:
    """What `EmbeddedFarm.up` did: seconds by part or service; ``already`` when everything ran before."""

    already: bool
    seconds: Mapping[str, float]


class EmbeddedFarm:
    """PostgreSQL, an S3 store, Ray and the farm's own services, all below one folder.

    *renderers* is how many GPUs Ray is told of; where there are real ones, at most as many as there are. *ports* fixes
    ports ("api", "metrics", "postgres", "s3", "ray"); the others are chosen and kept.
    """

    def __init__(
        self, data: Path, *, renderers: int = 1, cpus: int | None = None, ports: Mapping[str, int] | None = None
    ) -> None:
        self.data = data.expanduser().resolve()
        self._fixed = dict(ports or {})
        self._make_folder()
        with self._locked():
            self.state = self._load_state()
        self.postgres = Postgres(self.data, self.state)
        self.s3 = S3(self.data, self.state)
        # Each renderer asks for a CPU, and so may a test's own actors; Ray's count need not be the machine's.
        self.ray = RayCluster(
            self.data, self.state, cpus=cpus or max(2 * renderers, os.cpu_count() or 1), gpus=renderers
        )
        self._renderers = renderers

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.state.ports['api']}"

    def up(self, services: Sequence[Service] = ()) -> Started:
        """Starts what does not run. Raises `PartFailed`, with the log's end; what did start is left for `down`.

        When a part had to be started, the services are started anew: they may hold its old port or its old sessions.
        """
        with self._locked(), _readable_errors(self.data):
            self._refresh()
            self._need_space()
            missing = [part for part in self._parts() if not part.child.alive()]
            staying = [service for service in services if not service.once]
            absent = [service for service in staying if not self._child(service.name).alive()]
            only_commands = services and not staying
            if not (missing or absent or only_commands):
                return Started(already=True, seconds={})
            if missing:
                for service in reversed(services):
                    self._child(service.name).stop()
            seconds = self._start_parts(missing)
            for service in services:
                if service.once or not self._child(service.name).alive():
                    seconds[service.name] = self._start_service(service)
            return Started(already=False, seconds=seconds)

    def down(self) -> None:
        """Ends everything, services first, in the opposite order of their start. The data stays."""
        with self._locked():
            self._refresh()
            for name in reversed(self._service_names()):
                self._child(name).stop()
            with ThreadPoolExecutor(len(self._parts())) as pool:
                list(pool.map(lambda part: part.stop(), self._parts()))

    def wipe(self) -> None:
        """`down`, and then every file of this farm, also those outside its folder."""
        self.down()
        for folder in (*map(Path, self.state.folders.values()), self.data):
            if folder.name.startswith(_OUTSIDE_PREFIX) or folder.is_relative_to(self.data):
                shutil.rmtree(folder, ignore_errors=True)

    def running(self) -> dict[str, bool]:
        """Every part, and every service that was ever started and not ended by `down`."""
        names = [*(part.name for part in self._parts()), *self._service_names()]
        return {name: self._child(name).alive() for name in names}

    def log(self, name: str) -> Path:
        """The log of a part or service."""
        return self._child(name).log

    def remember(self, name: str, value: str) -> None:
        """Keeps a note beside the passwords, for whoever runs the farm."""
        with self._locked():
            self._refresh()
            self.state.notes[name] = value
            self._save()

    def settings_env(self) -> dict[str, str]:
        """The environment of `farm api`, `farm scheduler` and `farm migrate`, and of any Ray driver."""
        ports, secrets = self.state.ports, self.state.secrets
        return {
            "FARM_DATA": str(self.data),
            "FARM_DEPOT_ENDPOINT": self.s3.endpoint,
            "FARM_DEPOT_ACCESS_KEY": secrets["s3_access"],
            "FARM_DEPOT_SECRET_KEY": secrets["s3_secret"],
            "FARM_DEPOT_BUCKET": BUCKET,
            "FARM_DEPOT_REGION": REGION,
            "FARM_DEPOT_SECURE": "false",
            "FARM_OWNER_DATABASE_URL": self.postgres.url("farm_owner"),
            "FARM_API_DATABASE_URL": self.postgres.url("farm_api"),
            "FARM_SCHEDULER_DATABASE_URL": self.postgres.url("farm_scheduler"),
            "FARM_API_HOST": HOST,
            "FARM_API_PORT": str(ports["api"]),
            "FARM_METRICS_HOST": HOST,
            "FARM_METRICS_PORT": str(ports["metrics"]),
            "FARM_RAY_ADDRESS": self.ray.address,
            "FARM_FLEET_RENDERERS": str(self.state.renderers),
            "FARM_ENGINE_CACHE": str(self.data / "weights"),
            **self.ray.env(),
        }

    def _parts(self) -> tuple[Part, ...]:
        return self.postgres, self.s3, self.ray

    def _start_parts(self, parts: Sequence[Part]) -> dict[str, float]:
        for part in parts:
            part.stop()  # what a killed one left behind may hold its ports
        self._choose_ports([port for part in parts for port in part.ports])
        self._choose_ports([name for name in _SERVICE_PORTS if parts])
        if not parts:
            return {}
        if self.ray in parts:
            self.state.renderers = self._renderers
        with ThreadPoolExecutor(len(parts)) as pool:
            futures = {part.name: pool.submit(_timed, part.start) for part in parts}
        self._save()
        return {name: future.result() for name, future in futures.items()}

    def _start_service(self, service: Service) -> float:
        child = self._child(service.name)
        child.stop()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours = {name: value for name, value in self.settings_env().items() if name not in service.hidden}

        def start() -> None:
            child.start(service.argv, {**inherited, **ours, **service.env}, cwd=self.data)
            if service.once:
                child.wait_done(service.timeout)
            else:
                child.wait_ready(service.ready, service.timeout)

        return _timed(start)

    def _choose_ports(self, names: Sequence[str]) -> None:
        for name in names:
            fixed = self._fixed.get(name)
            if fixed is not None and not port_choice.is_free(fixed):
                raise PartFailed(f"Port {fixed} (for {name}) is taken by another program.")
        free = [name for name in names if name not in self._fixed]
        self.state.ports |= port_choice.settle(free, self.state.ports)
        self.state.ports |= {name: port for name, port in self._fixed.items() if name in names}
        self._save()

    def _child(self, name: str) -> Child:
        for part in self._parts():
            if part.name == name:
                return part.child
        return Child(name, self.data, self.state.instance)

    def _service_names(self) -> list[str]:
        """By the time of their start, from their pid files."""
        known = {part.name for part in self._parts()}
        files = sorted((self.data / "run").glob("*.json"), key=lambda file: file.stat().st_mtime)
        return [file.stem for file in files if file.stem not in known]

    def _make_folder(self) -> None:
        try:
            self.data.mkdir(mode=0o711, parents=True, exist_ok=True)
            probe = self.data / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PartFailed(f"The data folder {self.data} cannot be written: {error.strerror}.") from error

    def _need_space(self) -> None:
        free = shutil.disk_usage(self.data).free
        if free < _LEAST_FREE_BYTES:
            need = _LEAST_FREE_BYTES // 2**20
            raise PartFailed(f"{self.data} has {free // 2**20} MB left on its disk; the farm needs {need} MB to start.")

    def _load_state(self) -> State:
        try:
            return state_file.load(self._state_path) or self._first_state()
        except ValueError as error:
            raise PartFailed(f"{self._state_path} is damaged ({error}). Its passwords are lost with it.") from error

    def _refresh(self) -> None:
        """Another process may have started or ended the farm since we read its state."""
        current = self._load_state()
        for name in ("instance", "secrets", "ports", "folders", "notes", "renderers"):
            setattr(self.state, name, getattr(current, name))

    def _first_state(self) -> State:
        fresh = state_file.new_state()
        state_file.save(self._state_path, fresh)
        return fresh

    @property
    def _state_path(self) -> Path:
        return self.data / "state.json"

    def _save(self) -> None:
        state_file.save(self._state_path, self.state)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` of a folder at a time."""
        with (self.data / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def _readable_errors(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a full disk, a missing right
        raise PartFailed(f"The embedded farm in {data} could not start: {error}") from error


def _timed(work: Callable[[], None]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin
