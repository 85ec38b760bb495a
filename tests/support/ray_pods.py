"""Ray's head, a node of renderers, and a scheduler with its raylet, each in a pod of its own, before a live farm.

What KubeRay and the chart would set is set here by hand; tests of the chart take it from the chart.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from ray.util import get_node_ip_address

from farm.embedded.ports import free_port
from tests.support.farm import LiveFarm
from tests.support.faults import until
from tests.support.pod import Pod, pod
from tests.support.trials import ENV

PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
"""Any that are free: pods here share the machine's network."""

_SMALL = (*PORTS, "--object-store-memory=80000000")


@dataclass(frozen=True, slots=True)
class RayPods:
    """``env`` is for all that joins; ``head_env`` for the head alone."""

    port: int
    env: Mapping[str, str]
    head_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{get_node_ip_address()}:{self.port}"  # type: ignore[no-untyped-call]

    @contextmanager
    def head(self) -> Iterator[Pod]:
        with pod("head") as made:
            argv = ["ray", "start", "--head", "--block", f"--port={self.port}", "--num-cpus=0", "--num-gpus=0"]
            argv += ["--include-dashboard=false", *_SMALL]
            ports = {"AUTOSCALER_METRIC_PORT": str(free_port((self.port,)))}
            if "REDIS_PASSWORD" in self.head_env:
                argv.append(f"--redis-password={self.head_env['REDIS_PASSWORD']}")
            made.run("ray-head", argv, {**self.env, **self.head_env, **ports})
            until(partial(joined, made, "ray-head"), "the head is up")
            yield made

    @contextmanager
    def node(self, gpus: int, *, labels: str = "") -> Iterator[Pod]:
        with pod("renderer") as made:
            made.run("ray-worker", self.join(cpus=2 * gpus, gpus=gpus, labels=labels), self.env)
            yield made

    def join(self, *, cpus: int, gpus: int, labels: str = "") -> Sequence[str]:
        argv = ["ray", "start", "--block", f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        return [*argv, *_SMALL, *([f"--labels={labels}"] if labels else [])]

    @contextmanager
    def scheduler(self, farm: LiveFarm, *, settings: Mapping[str, str], share_processes: bool = True) -> Iterator[Pod]:
        """*settings* go to the scheduler, on top of those of any trial."""
        with pod("scheduler", share_processes=share_processes) as made:
            made.run("raylet", self.join(cpus=0, gpus=0), self.env)
            made.run("scheduler", ["farm", "scheduler"], {**self.scheduler_env(farm), **settings})
            yield made

    def scheduler_env(self, farm: LiveFarm) -> dict[str, str]:
        hidden = {"FARM_OWNER_DATABASE_URL", "FARM_API_DATABASE_URL", "FARM_DATA"}
        known = {name: value for name, value in farm.parts.settings_env().items() if name.startswith("FARM_")}
        ours = {name: value for name, value in known.items() if name not in hidden and "FARM_API" not in name}
        port = free_port((self.port,))
        own = {"FARM_RAY_ADDRESS": self.address, "FARM_METRICS_PORT": str(port), "FARM_ENGINE_CACHE": "/tmp/weights"}
        return {**ours, **ENV, **self.env, **own}


def joined(made: Pod, container: str, times: int = 1) -> bool:
    """Ray has started in it so many times."""
    return made.containers[container].log.read_text(errors="replace").count("Ray runtime started.") >= times


def ray_pods(head_env: Mapping[str, str] | None = None, **settings: str) -> RayPods:
    """*settings* are Ray's, for all that joins."""
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(20),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # nodes beyond the loopback address
        "HOME": "/tmp",
        **settings,
    }
    return RayPods(free_port(()), env, dict(head_env or {}))


@contextmanager
def without_ray(farm: LiveFarm) -> Iterator[LiveFarm]:
    """A farm whose own scheduler and Ray are ended: API, database and store stay."""
    farm.parts._child("scheduler").stop()
    farm.parts.ray.stop()
    yield farm
