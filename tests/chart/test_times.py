"""Times that hang on one another: a pod is never killed before what runs in it has had its time."""

import copy

import pytest

from farm.config import SchedulerSettings
from tests.chart.environ import env_of, settings_of
from tests.chart.pods import Pod, pods_of
from tests.chart.policies import selects
from tests.chart.rendering import Object, Release
from tests.chart.variants import rendered

DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
STREAMS_END = 20
"""Seconds after SIGTERM by which the API has ended event streams (docs of `farm api`)."""


def test_renderers_have_time_to_drain(release: Release) -> None:
    assert drain_faults(release) == []


def drain_faults(release: Release) -> list[str]:
    """Rows, then Ray, then Kubernetes give up: in this order, or work is killed that was about to be handed back."""
    scheduler = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    rows = settings_of(SchedulerSettings, env_of(release, scheduler.container("scheduler"))).drain_time.total_seconds()
    found = []
    for pod in (one for one in pods_of(release) if one.component == "renderer"):
        ray = float(env_of(release, pod.spec["containers"][0])[DRAIN])
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if not rows < ray < grace:
            found.append(f"{pod.owner}: rows {rows:g} s, Ray {ray:g} s, Kubernetes {grace} s")
    return found


@pytest.mark.parametrize("seconds", [30, 60])
def test_a_grace_period_below_ray_s_drain_would_show(seconds: int) -> None:
    release = copy.deepcopy(rendered("defaults"))
    for group in release.only("RayCluster")["spec"]["workerGroupSpecs"]:
        group["template"]["spec"]["terminationGracePeriodSeconds"] = seconds
    assert drain_faults(release)


def test_the_api_s_pods_outlive_their_hooks_and_their_streams(release: Release) -> None:
    pod = next(pod for pod in pods_of(release) if pod.component == "api")
    hook = (pod.spec["containers"][0].get("lifecycle") or {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod.spec["terminationGracePeriodSeconds"] > hook + STREAMS_END


def test_the_scheduler_s_raylet_goes_before_the_pod_is_killed(release: Release) -> None:
    """It holds no renderer, so it has nothing to wait for; Ray's default would keep it for 30 s."""
    pod = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    ray = float(env_of(release, pod.container("raylet")).get(DRAIN, 30))
    assert ray < pod.spec["terminationGracePeriodSeconds"]


def test_services_are_given_time_to_wait_for_the_tables(release: Release) -> None:
    """A probe that gives up earlier would restart them in the middle of the migration."""
    for component, name in (("api", "api"), ("scheduler", "scheduler")):
        pod = next(pod for pod in pods_of(release) if pod.component == component)
        container = pod.container(name)
        assert patience(container) >= release.values["schemaWaitSeconds"], pod.owner


def patience(container: Object) -> float:
    """Seconds until the kubelet restarts a container that never answers."""
    first = container.get("startupProbe") or container.get("livenessProbe")
    if not first:
        return float("inf")
    tries = first.get("failureThreshold", 3) * first.get("periodSeconds", 10)
    return float(first.get("initialDelaySeconds", 0) + tries)


def test_an_impatient_probe_would_show() -> None:
    assert patience({"livenessProbe": {"failureThreshold": 3, "periodSeconds": 10}}) == 30
    assert patience({"startupProbe": {"failureThreshold": 60}, "livenessProbe": {}}) == 600


def test_every_server_is_probed(release: Release) -> None:
    for component, name in (("api", "api"), ("scheduler", "scheduler")):
        container = next(pod for pod in pods_of(release) if pod.component == component).container(name)
        asked = {key: container[key]["httpGet"]["path"] for key in ("livenessProbe", "readinessProbe")}
        assert asked == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_budgets_let_a_node_be_drained(release: Release) -> None:
    assert [fault for one in release.of("PodDisruptionBudget") for fault in blocking(release, one)] == []


def blocking(release: Release, budget: Object) -> list[str]:
    """A budget that allows no eviction holds a drain up for ever; only the one Ray head may."""
    spec, found = budget["spec"], []
    for pod in pods_of(release):
        if not selects(spec["selector"], pod.labels) or pod.component == "ray-head":
            continue
        if pod.kind == "Job" or pod.hook:
            found.append(f"{budget['metadata']['name']} selects {pod.owner}")
        elif "maxUnavailable" in spec and spec["maxUnavailable"] in {0, "0%"}:
            found.append(f"{budget['metadata']['name']} never lets {pod.owner} go")
        elif spec.get("minAvailable", 0) >= least(release, pod):
            found.append(f"{budget['metadata']['name']} keeps every {pod.owner}")
    return found


def least(release: Release, pod: Pod) -> int:
    """Pods of a workload at its smallest."""
    name = pod.owner.partition("/")[2]
    for one in release.of("HorizontalPodAutoscaler"):
        if one["spec"]["scaleTargetRef"]["name"] == name:
            return int(one["spec"].get("minReplicas", 1))
    return int(release.named(pod.kind, name)["spec"].get("replicas", 1))


@pytest.mark.parametrize("spec", [{"minAvailable": 2}, {"maxUnavailable": 0}])
def test_a_budget_that_blocks_for_ever_would_show(spec: Object) -> None:
    release = copy.deepcopy(rendered("defaults"))
    budget = next(one for one in release.of("PodDisruptionBudget") if "api" in one["metadata"]["name"])
    budget["spec"] = {"selector": budget["spec"]["selector"], **spec}
    assert blocking(release, budget)


def test_every_part_that_has_more_than_one_pod_has_a_budget() -> None:
    release = rendered("production")
    for component in ("api", "scheduler", "ray-head"):
        pod = next(pod for pod in pods_of(release) if pod.component == component)
        held = [one for one in release.of("PodDisruptionBudget") if selects(one["spec"]["selector"], pod.labels)]
        assert len(held) == 1, (component, "two budgets on one pod make every eviction fail")


def test_the_head_is_never_evicted_while_its_budget_stands() -> None:
    release = rendered("production")
    head = next(pod for pod in pods_of(release) if pod.component == "ray-head")
    budget = next(one for one in release.of("PodDisruptionBudget") if selects(one["spec"]["selector"], head.labels))
    assert budget["spec"].get("minAvailable") == 1 or budget["spec"].get("maxUnavailable") == 0


def test_autoscalers_leave_busy_renderers_alone(release: Release) -> None:
    """A RayCluster cannot have a budget for its workers: node autoscalers are told by annotation."""
    for pod in pods_of(release):
        if pod.component == "renderer":
            assert pod.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
            spot = pod.labels["halftone/capacity"] == "spot"  # Karpenter would not drain it before the node is gone
            assert ("karpenter.sh/do-not-disrupt" in pod.annotations) is not spot


def test_autoscaler_bounds_are_in_order(release: Release) -> None:
    for one in release.of("HorizontalPodAutoscaler"):
        assert 1 <= one["spec"]["minReplicas"] <= one["spec"]["maxReplicas"]


def test_one_scheduler_always_stands_by(release: Release) -> None:
    deployment = next(one for one in release.of("Deployment") if one["metadata"]["name"].endswith("scheduler"))
    assert deployment["spec"]["replicas"] == release.values["scheduler"]["replicas"]
    assert deployment["spec"].get("strategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
