"""What KubeRay and Ray read in a RayCluster.

KubeRay's rules are those of `ray-operator/controllers/ray/utils/validation.go`, v1.7.0: the operator applies them after
the API server has taken the object, and leaves a cluster that breaks one standing without pods.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

from tests.chart.programs import ray_start_flags
from tests.chart.rendering import Object

NAME_LENGTH = 53
_DNS = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OWN = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME", "RAY_enable_autoscaler_v2"}
_SIZES = {"num-cpus", "num-gpus", "memory", "resources"}


def operator_faults(cluster: Object) -> list[str]:
    """Why KubeRay would make no pods."""
    return [*_whole(cluster), *(fault for name, group in _groups(cluster) for fault in _group(name, group))]


def _groups(cluster: Object) -> Iterator[tuple[str, Object]]:
    yield "head", cluster["spec"]["headGroupSpec"]
    yield from ((group["groupName"], group) for group in cluster["spec"].get("workerGroupSpecs", []))


def _whole(cluster: Object) -> Iterator[str]:
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    if len(name) > NAME_LENGTH or not _DNS.fullmatch(name):
        yield f"the name {name} is longer than {NAME_LENGTH} or no DNS label"
    names = [group["groupName"] for group in spec.get("workerGroupSpecs", [])]
    if len(set(names)) < len(names):
        yield f"two worker groups have one name: {names}"
    env = {one["name"] for one in spec["headGroupSpec"]["template"]["spec"]["containers"][0].get("env", [])}
    for forbidden in sorted(env & _OWN):
        yield f"{forbidden} is the operator's to set"
    if spec.get("authOptions", {}).get("mode") == "token" and not spec.get("rayVersion"):
        yield "token authentication needs rayVersion"
    if "networkPolicy" in spec:
        yield "networkPolicy is behind a gate that is off"
    if spec.get("gcsFaultToleranceOptions", {}).get("backend", "redis") != "redis":
        yield "only Redis is not behind a gate"


def _group(name: str, group: Object) -> Iterator[str]:
    params, template = group.get("rayStartParams") or {}, group["template"]["spec"]
    if group.get("resources") and _SIZES & set(params):
        yield f"{name}: sizes both in rayStartParams and in resources"
    if "labels" in params:
        yield f"{name}: labels belong into the group, not into rayStartParams"
    if template.get("restartPolicy", "Never") != "Never":
        yield f"{name}: with autoscaler v2 pods are never restarted"
    for key, value in group.get("labels", {}).items():
        if not _LABEL.fullmatch(value) or not _LABEL.fullmatch(key.rpartition("/")[2]):
            yield f"{name}: {key}={value} is no label"
    if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31):
        yield f"{name}: minReplicas is above maxReplicas"
    for flag in sorted(set(params) - ray_start_flags()):
        yield f"{name}: `ray start` has no --{flag}"
    yield from (f"{name}: the value of {key} is no string" for key in params if not isinstance(params[key], str))


def node_types(cluster: Object, namespace: str) -> tuple[Object, Object]:
    """(the whole configuration, its worker types by group) as Ray's own autoscaler reads them from the cluster."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    read = copy.deepcopy(cluster)
    read["metadata"]["namespace"] = namespace  # the API server sets it
    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(read)
    kinds = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    return config, kinds
