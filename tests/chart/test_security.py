"""Every pod could run where the restricted Pod Security Standard is enforced, and gets no more than it needs."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.kuberay import node_types
from tests.chart.pods import Pod, head_account, pods_of, ray_pods
from tests.chart.rendering import Object, Release
from tests.chart.security import has_token, own_faults, restricted_faults
from tests.chart.variants import rendered

SPEAKS_TO_KUBERNETES = {"ray-head"}  # the autoscaler beside it makes and deletes pods


def test_every_pod_keeps_the_restricted_standard(release: Release) -> None:
    hosts_folder = release.values["renderers"]["cache"]["type"] == "hostPath"
    found = [fault for pod in pods_of(release) for fault in restricted_faults(pod)]
    if hosts_folder:  # a choice of the operator's, and the values say what it costs
        assert found
        found = [fault for fault in found if not fault.endswith("is a hostPath")]
    assert found == []


def test_every_pod_keeps_our_own_rules(release: Release) -> None:
    allowed = ("postgres", "s3")  # for trying out: their images are other people's
    pods = [pod for pod in pods_of(release) if pod.component not in allowed]
    assert [fault for pod in pods for fault in own_faults(pod)] == []


def pod() -> Pod:
    return copy.deepcopy(next(one for one in pods_of(rendered("production")) if one.component == "api"))


def _container(**context: Any) -> Callable[[Object], None]:
    return lambda spec: spec["containers"][0].setdefault("securityContext", {}).update(context)


@pytest.mark.parametrize(
    "change",
    [
        _container(privileged=True),
        _container(allowPrivilegeEscalation=True),
        _container(runAsUser=0),
        _container(runAsNonRoot=False),
        _container(capabilities={"drop": ["NET_RAW"]}),
        _container(capabilities={"drop": ["ALL"], "add": ["SYS_PTRACE"]}),
        _container(seccompProfile={"type": "Unconfined"}),
        _container(procMount="Unmasked"),
        lambda spec: spec.update(hostNetwork=True),
        lambda spec: spec.update(hostPID=True),
        lambda spec: spec.setdefault("volumes", []).append({"name": "host", "hostPath": {"path": "/"}}),
        lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80),
        lambda spec: spec["containers"][0]["livenessProbe"]["httpGet"].update(host="169.254.169.254"),
        lambda spec: spec["containers"].append({"name": "beside", "image": "busybox"}),
        lambda spec: spec.setdefault("initContainers", []).append({"name": "before", "image": "busybox"}),
    ],
)
def test_a_looser_pod_would_be_refused(change: Callable[[Object], None]) -> None:
    loose = pod()
    assert restricted_faults(loose) == []
    change(loose.spec)
    assert restricted_faults(loose)


@pytest.mark.parametrize(
    "change",
    [
        _container(readOnlyRootFilesystem=False),
        lambda spec: spec["containers"][0].pop("resources"),
        lambda spec: (spec["securityContext"].pop("runAsUser", None), _container(runAsUser=None)(spec)),
    ],
)
def test_a_pod_against_our_own_rules_would_show(change: Callable[[Object], None]) -> None:
    loose = pod()
    change(loose.spec)
    assert own_faults(loose)


def accounts(release: Release) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in release.of("ServiceAccount")}


def test_only_the_head_has_a_token_of_the_api_server(release: Release) -> None:
    holders = {one.component for one in pods_of(release) if has_token(one, accounts(release))}
    assert holders == SPEAKS_TO_KUBERNETES


def test_a_pod_that_says_nothing_would_have_a_token() -> None:
    bare = Pod("Job/x", "Job", "halftone", {}, {}, {"containers": []})
    assert has_token(bare, {})
    assert not has_token(bare, {"default": {"automountServiceAccountToken": False}})


def test_the_head_may_do_what_the_autoscaler_does_and_nothing_else(release: Release) -> None:
    cluster = release.only("RayCluster")
    account, granted = head_account(cluster), set()
    for binding in release.of("RoleBinding"):
        if any(one["name"] == account for one in binding["subjects"]):
            for rule in release.named("Role", binding["roleRef"]["name"])["rules"]:
                granted |= {(one, verb) for one in rule["resources"] for verb in rule["verbs"]}
    if not granted:  # then KubeRay makes account and role, as it does for every cluster with an autoscaler
        assert account == cluster["metadata"]["name"]
        return
    needed = {("pods", "get"), ("pods", "list"), ("pods", "watch"), ("rayclusters", "get"), ("rayclusters", "patch")}
    may = needed | {("pods", "patch"), ("pods/resize", "patch")}
    assert needed <= granted <= may


def test_no_role_reaches_beyond_the_namespace(release: Release) -> None:
    assert release.of("ClusterRole", "ClusterRoleBinding") == []


def test_a_service_is_reached_from_outside_only_when_the_values_say_so(release: Release) -> None:
    kinds = {one["spec"].get("type", "ClusterIP") for one in release.of("Service")}
    assert kinds <= {"ClusterIP", release.values["api"]["service"]["type"]}
    assert release.only("RayCluster")["spec"]["headGroupSpec"].get("serviceType", "ClusterIP") == "ClusterIP"


def test_the_ingress_leads_to_the_api_s_paths_and_not_to_its_metrics(release: Release) -> None:
    paths = [path for one in release.of("Ingress") for rule in one["spec"]["rules"] for path in rule["http"]["paths"]]
    for path in paths:
        assert path["path"] != "/"
        assert not "/metrics".startswith(path["path"])


def test_gpus_are_asked_for_by_renderers_only(release: Release) -> None:
    _, kinds = node_types(release.only("RayCluster"), release.namespace)
    asking = {
        one.owner
        for one in pods_of(release)
        for container in one.containers
        for key in (container.get("resources") or {}).get("limits", {})
        if key.endswith("gpu")
    }
    with_gpus = {name for name, kind in kinds.items() if kind["resources"].get("GPU")}
    assert asking == {one.owner for one in ray_pods(release) if one.owner.rpartition(":")[2] in with_gpus}
