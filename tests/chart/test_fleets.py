"""A fleet in the values is a worker group of Ray and an entry in FARM_FLEETS, and the two agree."""

import copy
import math
import re

import pytest

from farm.bootstrap.services import fleets_of, kinds_of, pace_of
from farm.config import SchedulerSettings
from farm.fleet.ray_fleet import Kind
from tests.chart.environ import env_of, settings_of
from tests.chart.kuberay import node_types
from tests.chart.pods import pods_of
from tests.chart.rendering import Object, Release, laid_over, render
from tests.chart.variants import VARIANTS, rendered, values_of


def scheduler_settings(release: Release) -> SchedulerSettings:
    pod = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    return settings_of(SchedulerSettings, env_of(release, pod.container("scheduler")))


def per_pod(kind: Object, fleet: Kind) -> int:
    """Renderers that fit into one pod, as Ray counts: whole ones, by CPUs and by GPUs."""
    sizes = kind["resources"]
    room = [math.floor(sizes["CPU"] / fleet.cpus)]
    if fleet.gpus:
        room.append(math.floor(sizes.get("GPU", 0) / fleet.gpus))
    return int(min(room))


def test_every_fleet_is_in_the_scheduler_s_settings(release: Release) -> None:
    wanted = [one["name"] for one in release.values["fleets"]]
    assert [one.name for one in fleets_of(scheduler_settings(release))] == wanted
    assert [one.name for one in pace_of(scheduler_settings(release)).scale.fleets] == wanted


def test_renderers_ask_for_the_labels_of_their_own_pods_and_of_no_others(release: Release) -> None:
    _, kinds = node_types(release.only("RayCluster"), release.namespace)
    for fleet in kinds_of(scheduler_settings(release)):
        fitting = [name for name, kind in kinds.items() if kind["labels"].items() >= fleet.labels.items()]
        assert len(fitting) == 1, (fleet, fitting)
        assert set(fleet.labels) >= {"fleet", "revision"}


def test_a_fleet_s_renderers_fit_into_the_pods_that_it_may_have(release: Release) -> None:
    assert capacity_faults(release) == []


def capacity_faults(release: Release) -> list[str]:
    _, kinds = node_types(release.only("RayCluster"), release.namespace)
    settings, found = scheduler_settings(release), []
    for given, fleet, asked in zip(release.values["fleets"], fleets_of(settings), kinds_of(settings), strict=True):
        kind = next(one for one in kinds.values() if one["labels"].items() >= asked.labels.items())
        fit, most = per_pod(kind, asked), kind["max_workers"] - given.get("surge", 1)
        if fit != max(1, given.get("gpusPerPod", 1)):
            found.append(f"{fleet.name}: {fit} renderers fit into a pod")
        if not (most - 1) * fit < fleet.renderers <= most * fit:
            found.append(f"{fleet.name}: {fleet.renderers} renderers, {most} pods of {fit}")
        if not fleet.least <= fleet.renderers == given["renderers"]:
            found.append(f"{fleet.name}: {fleet.renderers} renderers, {fleet.least} at least")
    return found


def test_a_group_with_too_few_or_too_small_pods_would_show() -> None:
    for key, value in (("maxReplicas", 1), ("template", None)):
        wrong = copy.deepcopy(rendered("fleets"))
        group = wrong.only("RayCluster")["spec"]["workerGroupSpecs"][0]
        if key == "template":
            group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "100m"
            group.get("rayStartParams", {}).pop("num-cpus", None)
            group.get("resources", {}).pop("CPU", None)
        else:
            group[key] = value
        assert capacity_faults(wrong), key


def test_what_ray_thinks_of_a_pod_is_what_kubernetes_gives_it(release: Release) -> None:
    _, kinds = node_types(release.only("RayCluster"), release.namespace)
    for group in release.only("RayCluster")["spec"]["workerGroupSpecs"]:
        sizes, limits = kinds[group["groupName"]]["resources"], container_sizes(group)
        assert sizes["CPU"] <= max(1, math.ceil(limits["cpu"]))
        assert sizes.get("GPU", 0) == limits["gpu"]
        assert sizes.get("memory", 0) <= limits["memory"]


def container_sizes(group: Object) -> dict[str, float]:
    resources = group["template"]["spec"]["containers"][0]["resources"]
    both = {**resources.get("requests", {}), **resources.get("limits", {})}
    gpus = sum(int(value) for key, value in both.items() if key.endswith("gpu"))
    return {"cpu": quantity(both["cpu"]), "memory": quantity(both["memory"]), "gpu": gpus}


def quantity(text: str | float) -> float:
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    assert found, text
    number, unit = found.groups()
    scale = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(number) * scale[unit]


def test_engine_memory_fits_into_a_renderer_s_pod(release: Release) -> None:
    """LoRAs in RAM, the object store and shared memory are counted against one limit."""
    settings = scheduler_settings(release)
    for group, fleet in zip(
        release.only("RayCluster")["spec"]["workerGroupSpecs"], release.values["fleets"], strict=True
    ):
        taken = settings.engine_ram_bytes * max(1, fleet.get("gpusPerPod", 1))
        assert taken < container_sizes(group)["memory"], fleet["name"]


def test_the_cache_s_bounds_are_below_its_volume(release: Release) -> None:
    """A cache that outgrows its emptyDir has its pod evicted."""
    cache = release.values["renderers"]["cache"]
    settings = scheduler_settings(release)
    group = release.only("RayCluster")["spec"]["workerGroupSpecs"][0]
    container = group["template"]["spec"]["containers"][0]
    mounts = [one for one in container["volumeMounts"] if settings.engine_cache.is_relative_to(one["mountPath"])]
    assert mounts, f"nothing is mounted at {settings.engine_cache}"
    assert settings.engine_cache_bytes < cache["sizeGiB"] * 2**30


SHAPING: list[Object] = [
    {"images": {"renderer": {"tag": "0.2.1"}}},
    {"images": {"renderer": {"digest": "sha256:" + "b" * 64}}},
    {"engine": {"batch": 8}},
    {"renderers": {"cache": {"sizeGiB": 50}}},
    {"renderers": {"drain": {"graceSeconds": 95}}},
    {"ray": {"objectStoreMiB": 300}},
    {"ray": {"reconnectSeconds": 200}},
    {"commonLabels": {"team": "design"}},
    {"imagePullSecrets": ["registry"]},
    {"priorityClasses": {"create": True}},
]
UNSHAPING: list[Object] = [
    {"api": {"replicas": 5}},
    {"monitoring": {"interval": "30s"}},
    {"images": {"control": {"tag": "0.2.1"}}},
]


def test_a_changed_image_or_engine_is_a_new_revision_and_a_changed_api_is_not() -> None:
    before = revisions({})
    for patch in UNSHAPING:
        assert revisions(patch) == before, patch
    for patch in SHAPING:
        after = revisions(patch)
        assert not set(before.values()) & set(after.values()), patch


def revisions(patch: Object) -> dict[str, str]:
    """Of each fleet, as its pods, its renderers' wishes and their names say."""
    made = render(laid_over(values_of("fleets"), patch))
    settings = scheduler_settings(made)
    groups = made.only("RayCluster")["spec"]["workerGroupSpecs"]
    pods = {group["groupName"]: group["labels"]["revision"] for group in groups}
    assert pods == {fleet.name: fleet.labels["revision"] for fleet in fleets_of(settings)}
    named = pace_of(settings).scale.fleets
    assert [fleet.prefix for fleet in named] == [f"farm/{name}/{revision}/" for name, revision in pods.items()]
    return pods


def test_a_fleet_that_comes_goes_or_changes_leaves_the_others_in_peace() -> None:
    before, (first, *others) = revisions({}), values_of("fleets")["fleets"]
    same = {name: revision for name, revision in before.items() if name != first["name"]}
    assert same
    assert revisions({"fleets": others}) == same
    assert revisions({"fleets": [{**first, "renderers": first["renderers"] + 1}, *others]}) == before
    added = {"name": "another", "renderers": 1}
    assert revisions({"fleets": [added, first, *others]}).items() > before.items()
    changed = revisions({"fleets": [{**first, "memory": "99Gi"}, *others]})
    assert changed[first["name"]] != before[first["name"]]
    assert changed.items() > same.items()


@pytest.mark.parametrize("gpus", [1, 3, 5, 6, 7, 8, 10])
@pytest.mark.parametrize("cpu", ["1", "5", "6", "7", "30"])
def test_the_autoscaler_too_sees_all_renderers_of_a_pod_fit(cpu: str, gpus: int) -> None:
    """It takes one renderer's CPUs after another from the pod's, as floats: of thirds too little is left in the end."""
    fleet = {"name": "gpu", "renderers": 1, "gpusPerPod": gpus, "cpu": cpu, "memory": "512Gi"}
    (made,) = kinds_of(scheduler_settings(render({"fleets": [fleet]})))
    left = float(cpu)
    for _ in range(gpus):
        assert left >= made.cpus > 0
        left -= made.cpus


def test_a_fleet_can_be_emptied_before_it_is_taken_out() -> None:
    """KubeRay leaves pods of a group that is gone, and Ray's autoscaler fails over them."""
    settings = scheduler_settings(render(laid_over(values_of("fleets"), {"fleets": [{"name": "l4", "renderers": 0}]})))
    assert [one.renderers for one in fleets_of(settings)] == [0]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_revision_is_ten_hexadecimal_digits(variant: str) -> None:
    for fleet in fleets_of(scheduler_settings(rendered(variant))):
        assert fleet.revision is not None
        assert re.fullmatch(r"[0-9a-f]{10}", fleet.revision)
