"""Live farms for trials: with crash points, behind proxies, on small disks."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from farm.embedded import EmbeddedFarm
from tests.support.crash import Crashes
from tests.support.farm import live_farm
from tests.support.faults import Trial
from tests.support.parts import own_folder
from tests.support.proxy import HOST, Address, Proxy

LEASE, LEADER = 3.0, 2.0

# Many short shards, so that each fault finds several of them leased; a campaign takes about five seconds.
ENV = {
    "FARM_ENGINE": "fake",
    "FARM_FAKE_SECONDS": "0.15",
    "FARM_ENGINE_BATCH": "2",
    "FARM_SHARD_SECONDS": "0.5",
    "FARM_LEASE_TTL": f"PT{LEASE:.0f}S",
    "FARM_LEADER_TTL": f"PT{LEADER:.0f}S",
    # What nothing refers to is gone half a minute later.
    "FARM_LINK_TTL": "PT15S",
    "FARM_GARBAGE_GRACE": "PT19S",
    "FARM_GARBAGE_EVERY": "PT2S",
}
PATIENT = {"FARM_LEASE_TTL": "PT15S", "FARM_GARBAGE_GRACE": "PT31S"}
"""Leases that last while a scheduler is replaced, so that none may be lost."""


Settings = Mapping[str, str] | Callable[[EmbeddedFarm], Mapping[str, str]]


@contextmanager
def trial(settings: Settings = MappingProxyType({})) -> Iterator[Trial]:
    with own_folder() as folder:
        crashes = Crashes(folder)

        def all_settings(farm: EmbeddedFarm) -> dict[str, str]:
            return {**ENV, **(settings(farm) if callable(settings) else settings)}

        with _environment(crashes.env), live_farm(all_settings) as farm:
            yield Trial(farm, crashes)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system of its own, in RAM."""

    at: Path

    def fill(self) -> None:
        """To the last byte."""
        with (self.at / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))

    def free(self) -> None:
        (self.at / "ballast").unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Needs the right to mount."""
    with own_folder() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", folder], check=True)
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def trial_behind_proxies() -> Iterator[Trial]:
    """``scheduler`` and ``api`` stand before PostgreSQL, for the one and the other; ``depot`` before the store."""
    found: list[EmbeddedFarm] = []

    def target(port: str) -> Callable[[], Address]:
        """From the file: whoever starts the farm holds its lock until the scheduler has asked the database."""
        return lambda: (HOST, json.loads((found[0].data / "state.json").read_text())["ports"][port])

    with ExitStack() as stack:
        ports = {"scheduler": "postgres", "api": "postgres", "depot": "s3"}
        proxies = {name: stack.enter_context(Proxy(target(port))) for name, port in ports.items()}

        def settings(farm: EmbeddedFarm) -> dict[str, str]:
            found.append(farm)
            secrets = farm.state.secrets
            urls = {
                f"FARM_{name.upper()}_DATABASE_URL": f"postgresql://farm_{name}:{secrets[f'farm_{name}']}"
                f"@{HOST}:{proxies[name].port}/farm"
                for name in ("scheduler", "api")
            }
            return {**ENV, **urls, "FARM_DEPOT_ENDPOINT": f"{HOST}:{proxies['depot'].port}"}

        farm = stack.enter_context(live_farm(settings))
        yield Trial(farm, Crashes(farm.data.parent), proxies)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    former: Sequence[tuple[str, str | None]] = [(name, os.environ.get(name)) for name in values]
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former:
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
