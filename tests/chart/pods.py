"""The pods that a release brings, with those that KubeRay makes of a RayCluster as KubeRay makes them.

What KubeRay adds is from its source, v1.7.0, `ray-operator/controllers/ray/common/pod.go` and `service.go`.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chart.rendering import Object, Release

GCS_PORT, RAY_METRICS_PORT = 6379, 8080
_WITH_WORDS = {"log-color", "include-dashboard", "include-log-monitor"}  # flags that take true or false as a value


@dataclass(frozen=True)
class Pod:
    """A pod's template and who makes pods of it, such as ``Deployment/farm-halftone-api``."""

    owner: str
    kind: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object
    hook: bool = False

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        return next(one for one in self.containers if one["name"] == name)


def pods_of(release: Release) -> list[Pod]:
    """Every pod of a release."""
    return [pod for one in release.objects for pod in _pods(release, one)]


def ray_pods(release: Release) -> list[Pod]:
    return [pod for pod in pods_of(release) if pod.kind == "RayCluster"]


def _pods(release: Release, one: Object) -> Iterator[Pod]:
    match one["kind"]:
        case "Pod":
            yield _pod(release, one, one)
        case "Deployment" | "DaemonSet" | "Job":
            yield _pod(release, one, one["spec"]["template"])
        case "StatefulSet":
            yield _pod(release, one, _with_claims(one))
        case "CronJob":
            yield _pod(release, one, one["spec"]["jobTemplate"]["spec"]["template"])
        case "RayCluster":
            yield from _ray(release, one)
        case _:
            return


def _pod(release: Release, one: Object, template: Object, suffix: str = "") -> Pod:
    meta = template.get("metadata", {})
    return Pod(
        owner=f"{one['kind']}/{one['metadata']['name']}{suffix}",
        kind=one["kind"],
        namespace=release.namespace_of(one),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        spec=template["spec"],
        hook="helm.sh/hook" in (one["metadata"].get("annotations") or {}),
    )


def _with_claims(one: Object) -> Object:
    """A StatefulSet's claims are volumes of its pods."""
    template: Object = copy.deepcopy(one["spec"]["template"])
    claims = [(each["metadata"]["name"], each["spec"]) for each in one["spec"].get("volumeClaimTemplates", [])]
    template["spec"].setdefault("volumes", []).extend(
        {"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": spec}}} for name, spec in claims
    )
    return template


def _ray(release: Release, cluster: Object) -> Iterator[Pod]:
    head, spec = cluster["spec"]["headGroupSpec"], cluster["spec"]
    template = _labelled(cluster, head, "head", "headgroup")
    template["spec"]["containers"].append(autoscaler(cluster))
    template["spec"]["serviceAccountName"] = head_account(cluster)
    yield _pod(release, cluster, template, ":head")
    for group in spec.get("workerGroupSpecs", []):
        template = _labelled(cluster, group, "worker", group["groupName"])
        first = template["spec"]["containers"][0]
        waiting = {key: first[key] for key in ("image", "securityContext", "env", "volumeMounts") if key in first}
        waiting |= {"command": ["/bin/bash", "-c", "--"], "args": [f"ray health-check --address head:{GCS_PORT}"]}
        template["spec"].setdefault("initContainers", []).append({"name": "wait-gcs-ready", **waiting})
        yield _pod(release, cluster, template, f":{group['groupName']}")


def head_account(cluster: Object) -> str:
    """KubeRay makes one of the cluster's name when the template names none."""
    name = cluster["spec"]["headGroupSpec"]["template"]["spec"].get("serviceAccountName")
    return str(name or cluster["metadata"]["name"])


def autoscaler(cluster: Object) -> Object:
    """The container that KubeRay puts beside the head: its security is what `autoscalerOptions` says, else none."""
    options = cluster["spec"].get("autoscalerOptions", {})
    first = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    taken = {key: options[key] for key in ("env", "envFrom", "volumeMounts", "securityContext") if key in options}
    resources = {"limits": {"cpu": "500m", "memory": "512Mi"}}
    command = ["/bin/bash", "-c", "--", "ray kuberay-autoscaler --cluster-name farm --cluster-namespace farm"]
    taken["command"] = options.get("command", command)
    return {"name": "autoscaler", "image": first["image"], "resources": options.get("resources", resources), **taken}


def _labelled(cluster: Object, group: Object, node_type: str, name: str) -> Object:
    """A group's labels are labels of its Ray node and of its pod. Three of KubeRay's win over the template's."""
    template: Object = copy.deepcopy(group["template"])
    own = {**(template.setdefault("metadata", {}).get("labels") or {}), **group.get("labels", {})}
    template["metadata"]["labels"] = {
        "ray.io/is-ray-node": "yes",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        **own,
        "ray.io/cluster": cluster["metadata"]["name"],
        "ray.io/node-type": node_type,
        "ray.io/group": name,
    }
    first = template["spec"]["containers"][0]
    before = " ".join([*first.get("command", []), *first.get("args", [])])
    if "ray start" not in before:
        lines = [*([before] if before else []), f"ulimit -n 65536; {start_line(node_type, group)}"]
        first["command"], first["args"] = ["/bin/bash", "-c", "--"], [" && ".join(lines)]
    ports = first.setdefault("ports", [])
    if all(port.get("name") != "metrics" for port in ports):
        ports.append({"name": "metrics", "containerPort": RAY_METRICS_PORT})
    return template


def start_line(node_type: str, group: Object) -> str:
    """The `ray start` that KubeRay makes of a group."""
    params = {**(group.get("rayStartParams") or {}), "metrics-export-port": str(RAY_METRICS_PORT), "block": "true"}
    if node_type == "worker":
        params.setdefault("address", f"head:{GCS_PORT}")
    if group.get("labels"):
        params["labels"] = ",".join(f"{key}={value}" for key, value in sorted(group["labels"].items()))
    flags = [
        f"--{key}" if value == "true" and key not in _WITH_WORDS else f"--{key}={value}"
        for key, value in sorted(params.items())
        if value != "false" or key in _WITH_WORDS
    ]
    return " ".join(["ray", "start", *(["--head"] if node_type == "head" else []), *flags])


def head_service(cluster: Object) -> str:
    return f"{cluster['metadata']['name']}-head-svc"
