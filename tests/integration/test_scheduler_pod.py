"""The scheduler's pod as the chart makes it: a raylet and a driver in two containers that share processes and /tmp.

Its commands, environment, user and namespaces are the rendered ones; addresses and ports are this machine's.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.request import urlopen

import pytest
from ray.util import get_node_ip_address

from tests.chart.environ import given_env
from tests.chart.rendering import Object, Release, render
from tests.support.crash import Crashes
from tests.support.farm import live_farm
from tests.support.faults import Trial, until
from tests.support.pod import Pod, pod
from tests.support.ray_pods import PORTS, RayPods, joined, ray_pods, without_ray
from tests.support.trials import ENV, PATIENT

VALUES: Object = {
    "engine": {"kind": "fake", "fakeSeconds": 0.15, "batch": 2, "device": "cpu"},
    "scheduler": {"settings": {**PATIENT, "FARM_LEADER_TTL": ENV["FARM_LEADER_TTL"], "FARM_LINK_TTL": "PT15S"}},
    "fleets": [{"name": "local", "renderers": 2, "cpu": "1", "memory": "16Gi"}],
}
_HERE = ("DATABASE_URL", "FARM_DEPOT_", "FARM_METRICS_", "FARM_RAY_", "FARM_ENGINE_CACHE", "RAY_AUTH_")


@cache
def release() -> Release:
    return render(VALUES)


def deployment() -> Object:
    spec: Object = release().named("Deployment", "farm-halftone-scheduler")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def cluster() -> RayPods:
    return ray_pods()


@pytest.fixture(scope="module")
def running(cluster: RayPods) -> Iterator[Trial]:
    containers = {one["name"]: given_env(release(), one) for one in deployment()["containers"]}
    (fleet,) = json.loads(containers["scheduler"]["FARM_FLEETS"])
    labels = ",".join(f"{name}={value}" for name, value in fleet["labels"].items())
    with live_farm(ENV) as farm, without_ray(farm), cluster.head(), cluster.node(2, labels=labels):
        yield Trial(farm, Crashes(farm.data.parent))


@contextmanager
def scheduler_pod(
    running: Trial, cluster: RayPods, *, share_processes: bool | None = None, **more: str
) -> Iterator[Pod]:
    """*share_processes* and *more* settings go before what the chart says."""
    spec = deployment()
    shared = spec.get("shareProcessNamespace", False) if share_processes is None else share_processes
    with pod("scheduler", share_processes=shared, user=spec["securityContext"]["runAsUser"]) as made:
        for container in spec["containers"]:
            env = {**rendered(container), **here(running, cluster), **more}
            made.run(container["name"], [*argv(container, cluster), *_own_ports(container)], env)
        yield made


def rendered(container: Object) -> dict[str, str]:
    given = given_env(release(), container)
    return {name: value for name, value in given.items() if not any(part in name for part in _HERE)}


def argv(container: Object, cluster: RayPods) -> list[str]:
    pod_ip = str(get_node_ip_address())  # type: ignore[no-untyped-call]
    words = [*container["command"], *container.get("args", [])]
    return [word.replace("$(POD_IP)", pod_ip).replace("farm-halftone-head-svc:6379", cluster.address) for word in words]


def _own_ports(container: Object) -> list[str]:
    """Pods have a network each; here they share one, and Ray's own choice of ports would clash."""
    return list(PORTS) if container["name"] == "raylet" else []


def here(running: Trial, cluster: RayPods) -> dict[str, str]:
    found = cluster.scheduler_env(running.farm)
    wanted = (*_HERE, "RAY_ENABLE", "HOME")
    return {name: value for name, value in found.items() if any(part in name for part in wanted)}


def leader(running: Trial) -> tuple[int, bool]:
    """(epoch, whether it has expired)."""
    [(epoch, expired)] = running.query("SELECT epoch, expires_at <= clock_timestamp() FROM leader")
    return epoch, expired


def ready(made: Pod) -> bool:
    return "leading" in made.containers["scheduler"].log.read_text()


def test_both_containers_mount_the_same_folders_for_rays_sockets_and_memory() -> None:
    mounts = [{at["mountPath"]: at["name"] for at in one["volumeMounts"]} for one in deployment()["containers"]]
    assert mounts == [{"/tmp": "tmp", "/dev/shm": "shm"}] * 2


def test_the_pod_renders_a_campaign(running: Trial, cluster: RayPods) -> None:
    with scheduler_pod(running, cluster) as made:
        running.end(running.submit("in a pod"))
        assert [one.ended for one in made.containers.values()] == [[], []]


def test_a_driver_that_does_not_see_the_raylets_process_cannot_join(running: Trial, cluster: RayPods) -> None:
    """The reason for ``shareProcessNamespace``."""
    epoch, _ = leader(running)
    hasty = {"FARM_FLEET_PATIENCE": "PT5S", "RAY_gcs_server_request_timeout_seconds": "5"}
    with scheduler_pod(running, cluster, share_processes=False, **hasty) as made:
        scheduler = made.containers["scheduler"]
        until(lambda: scheduler.ended, "it has given up", seconds=120)
        assert scheduler.ended[0] == 1, "and says so"
        assert made.containers["raylet"].running()
    assert leader(running)[0] == epoch, "it never led"


def test_a_pod_that_is_ended_hands_over_to_the_one_that_stands_by(running: Trial, cluster: RayPods) -> None:
    with scheduler_pod(running, cluster) as first:
        until(lambda: ready(first), "the first one leads")
        with scheduler_pod(running, cluster) as second:
            until(lambda: stands_by(second), "the second one has joined")
            campaign, (epoch, _) = running.begin("pod ended"), leader(running)
            first.terminate()
            until(lambda: leader(running)[0] > epoch, "the other one leads", seconds=20)
            until(first.over, "both containers have ended", seconds=deployment()["terminationGracePeriodSeconds"])
            assert first.containers["scheduler"].ended[-1] == 0
            running.end(campaign)
            assert running.lost_leases(campaign) == 0


def test_a_raylet_that_dies_alone_takes_nothing_along(running: Trial, cluster: RayPods) -> None:
    """Calls to renderers go past it, and new renderers are made by Ray's head."""
    present = "SELECT count(*) FROM renderer WHERE ended_at IS NULL"
    with scheduler_pod(running, cluster, FARM_FLEET_DRAIN_TIME="PT1S") as made:
        until(lambda: ready(made) and joined(made, "raylet"), "it leads")
        [(before,)] = running.query(present)
        made.containers["raylet"].kill()
        until(lambda: joined(made, "raylet", 2), "another has taken its place")
        running.end(running.submit("raylet died"))
        until(lambda: running.query(present) == [(before + 1,)], "a renderer was woken after that")
        assert made.containers["scheduler"].ended == []


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial, cluster: RayPods) -> None:
    with scheduler_pod(running, cluster):
        running.audit()


def stands_by(made: Pod) -> bool:
    port = made.containers["scheduler"].env["FARM_METRICS_PORT"]
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
