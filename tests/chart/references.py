"""What objects of a release say of one another: names of secrets, accounts, volumes, services, ports."""

import re
from collections.abc import Iterator
from typing import Any

from tests.chart.pods import RAY_METRICS_PORT, Pod, head_account, head_service, pods_of, ray_pods
from tests.chart.policies import selects
from tests.chart.rendering import Object, Release

_NAMES_OBJECTS = re.compile(r"^existing|SecretName$|^claimName$|^priorityClassName$|^imagePullSecrets$")
PRIORITIES = {"system-cluster-critical", "system-node-critical"}
IN_EVERY_NAMESPACE = {"ConfigMap": {"kube-root-ca.crt"}, "ServiceAccount": {"default"}, "PriorityClass": PRIORITIES}


def dangling(release: Release) -> list[str]:
    """Everything that something refers to and that is neither rendered nor a name given in the values."""
    found = [
        f"{pod.owner}: no {kind} {name}"
        for pod in pods_of(release)
        for kind, name, key in named_by(pod)
        if not _there(release, kind, name, key)
    ]
    found += [f"{pod.owner}: {fault}" for pod in pods_of(release) for fault in _inside(pod)]
    for check in (_cluster, _services, _ingresses, _targets, _monitors, _roles, _selections):
        found += check(release)
    return found


def named_by(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """(kind, name, key) of what a pod needs; the key is None when all of it is meant."""
    spec = pod.spec
    if account := spec.get("serviceAccountName"):
        yield "ServiceAccount", account, None
    if rank := spec.get("priorityClassName"):
        yield "PriorityClass", rank, None
    for one in spec.get("imagePullSecrets", []):
        yield "Secret", one["name"], None
    for volume in spec.get("volumes", []):
        yield from _of_volume(volume)
    for container in pod.containers:
        yield from _of_container(container)


def _of_volume(volume: Object) -> Iterator[tuple[str, str, str | None]]:
    for source in [volume, *volume.get("projected", {}).get("sources", [])]:
        for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
            if part := source.get(field):
                name = part.get("secretName") or part.get("name")
                yield kind, name, None
                yield from ((kind, name, item["key"]) for item in part.get("items", []))
    if claim := volume.get("persistentVolumeClaim"):
        yield "PersistentVolumeClaim", claim["claimName"], None


def _of_container(container: Object) -> Iterator[tuple[str, str, str | None]]:
    for one in container.get("env", []):
        source = one.get("valueFrom", {})
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if (part := source.get(field)) and not part.get("optional"):
                yield kind, part["name"], part["key"]
    for one in container.get("envFrom", []):
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if part := one.get(field):
                yield kind, part["name"], None


def keys_of(release: Release, kind: str, name: str) -> set[str] | None:
    """The keys of a rendered Secret or ConfigMap, or of the Secret that an ExternalSecret makes."""
    for one in release.of(kind):
        if one["metadata"]["name"] == name:
            return {*(one.get("data") or {}), *(one.get("stringData") or {}), *(one.get("binaryData") or {})}
    for one in release.of("ExternalSecret") if kind == "Secret" else []:
        if one["spec"].get("target", {}).get("name", one["metadata"]["name"]) == name:
            return {entry["secretKey"] for entry in one["spec"].get("data", [])}
    return None


def _there(release: Release, kind: str, name: str, key: str | None) -> bool:
    if name in IN_EVERY_NAMESPACE.get(kind, ()):
        return True
    if kind in {"Secret", "ConfigMap"} and (keys := keys_of(release, kind, name)) is not None:
        return key is None or key in keys
    if any(one["metadata"]["name"] == name for one in release.of(kind)):
        return True
    if kind == "ServiceAccount" and any(head_account(one) == name for one in release.of("RayCluster")):
        return True  # KubeRay makes it when it is not there
    return given_by_hand(release.values, name)


def given_by_hand(values: Any, name: str, key: str = "") -> bool:
    """What the values name is there without the chart; values that name objects are told by their keys."""
    if isinstance(values, dict):
        return any(given_by_hand(inner, name, below) for below, inner in values.items())
    if isinstance(values, list):
        return any(given_by_hand(inner, name, key) for inner in values)
    return bool(values == name and _NAMES_OBJECTS.search(key))


def _inside(pod: Pod) -> Iterator[str]:
    """Mounts have volumes, volumes have mounts, and probes ask ports that the container has."""
    volumes = {one["name"] for one in pod.spec.get("volumes", [])}
    mounts = {one["name"] for container in pod.containers for one in container.get("volumeMounts", [])}
    yield from (f"no volume {name}" for name in sorted(mounts - volumes))
    yield from (f"nobody mounts the volume {name}" for name in sorted(volumes - mounts))
    for container in pod.containers:
        numbers = {port["containerPort"] for port in container.get("ports", [])}
        names = {port.get("name") for port in container.get("ports", [])}
        for port in _probed(container):
            if port not in numbers | names:
                yield f"{container['name']} is probed at {port}, a port that it does not name"


def _probed(container: Object) -> Iterator[Any]:
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(key) or {}
        for action in ("httpGet", "tcpSocket", "grpc"):
            if action in probe:
                yield probe[action]["port"]


def _cluster(release: Release) -> list[str]:
    """What a RayCluster names beside its pods."""
    found = []
    for one in release.of("RayCluster"):
        wanted = [("Secret", one["spec"].get("authOptions", {}).get("secretName"), "auth_token")]
        redis = one["spec"].get("gcsFaultToleranceOptions", {})
        for field in ("redisPassword", "redisUsername"):
            part = redis.get(field, {}).get("valueFrom", {}).get("secretKeyRef", {})
            wanted.append(("Secret", part.get("name"), part.get("key")))
        found += [
            f"RayCluster: no {kind} {name}"
            for kind, name, key in wanted
            if name and not _there(release, kind, name, key)
        ]
    return found


def _services(release: Release) -> list[str]:
    """A service finds pods, and each of its ports is one of theirs."""
    found = []
    for one in release.of("Service"):
        name, selector = one["metadata"]["name"], one["spec"].get("selector")
        if not selector:
            continue  # an address given by hand
        pods = [pod for pod in pods_of(release) if selects({"matchLabels": selector}, pod.labels)]
        if not pods:
            found.append(f"Service/{name} selects no pod")
        found += [
            f"Service/{name}: {pod.owner} has no port {port.get('targetPort', port['port'])}"
            for pod in pods
            for port in one["spec"]["ports"]
            if number_of(pod, port.get("targetPort", port["port"])) is None
        ]
    return found


def number_of(pod: Pod, port: str | int) -> int | None:
    """The number of a port that some container of a pod names."""
    named = [one for container in pod.containers for one in container.get("ports", [])]
    return next((one["containerPort"] for one in named if port in {one.get("name"), one["containerPort"]}), None)


def _ingresses(release: Release) -> list[str]:
    found = []
    for one in release.of("Ingress"):
        rules = [path for rule in one["spec"].get("rules", []) for path in rule["http"]["paths"]]
        for path in rules:
            target = path["backend"]["service"]
            if not _has_port(release, target["name"], target["port"].get("name") or target["port"].get("number")):
                found.append(f"Ingress/{one['metadata']['name']}: no service {target}")
    return found


def _has_port(release: Release, service: str, port: str | int) -> bool:
    ports = [
        one for each in release.of("Service") if each["metadata"]["name"] == service for one in each["spec"]["ports"]
    ]
    return any(port in {one.get("name"), one["port"]} for one in ports)


def _targets(release: Release) -> list[str]:
    """What an autoscaler scales is there, and says itself nothing of how many."""
    found = []
    for one in release.of("HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        scaled = [each for each in release.of(target["kind"]) if each["metadata"]["name"] == target["name"]]
        if not scaled:
            found.append(f"HorizontalPodAutoscaler: no {target['kind']} {target['name']}")
        found += ["a Deployment with an autoscaler says replicas" for each in scaled if "replicas" in each["spec"]]
    return found


def _monitors(release: Release) -> list[str]:
    """Monitors find services and pods, and the ports that they scrape."""
    found = []
    for one in release.of("ServiceMonitor"):
        hits = [
            each
            for each in release.of("Service")
            if selects(one["spec"]["selector"], each["metadata"].get("labels") or {})
        ]
        ports = {port.get("name") for each in hits for port in each["spec"]["ports"]}
        found += [
            f"ServiceMonitor/{one['metadata']['name']}: no service with the port {end.get('port')}"
            for end in one["spec"]["endpoints"]
            if end.get("port") not in ports
        ]
    for one in release.of("PodMonitor"):
        pods = [pod for pod in pods_of(release) if selects(one["spec"]["selector"], pod.labels)]
        found += [
            f"PodMonitor/{one['metadata']['name']}: no pod with the port {end}"
            for end in one["spec"]["podMetricsEndpoints"]
            if not any(_scraped(pod, end) for pod in pods)
        ]
    return found


def _scraped(pod: Pod, end: Object) -> bool:
    """The autoscaler's and the dashboard's ports of the head are opened by Ray itself (44217, 44227)."""
    port = end.get("port") or end.get("portNumber") or end.get("targetPort")
    return port is not None and (number_of(pod, port) is not None or port in {RAY_METRICS_PORT, "metrics"})


def _roles(release: Release) -> list[str]:
    found = []
    for one in release.of("RoleBinding", "ClusterRoleBinding"):
        where, role = f"{one['kind']}/{one['metadata']['name']}", one["roleRef"]
        accounts = [each["name"] for each in one["subjects"] if each["kind"] == "ServiceAccount"]
        if not any(each["metadata"]["name"] == role["name"] for each in release.of(role["kind"])):
            found.append(f"{where}: no {role['kind']} {role['name']}")
        found += [
            f"{where}: no account {name}" for name in accounts if not _there(release, "ServiceAccount", name, None)
        ]
    return found


def _selections(release: Release) -> list[str]:
    """A budget or a policy that selects no pod protects nothing, which nobody would notice."""
    found = []
    for one in release.of("PodDisruptionBudget", "NetworkPolicy"):
        selector = one["spec"].get("podSelector") or one["spec"].get("selector") or {}
        if not any(selects(selector, pod.labels) for pod in pods_of(release)):
            found.append(f"{one['kind']}/{one['metadata']['name']} selects no pod")
    return found


def addresses(release: Release) -> dict[str, set[int]]:
    """Host names that the release itself answers to, with their ports; KubeRay's head service among them."""
    found: dict[str, set[int]] = {}
    for one in release.of("Service"):
        _note(found, release, one["metadata"]["name"], {port["port"] for port in one["spec"]["ports"]})
    for one in release.of("RayCluster"):
        head = next(pod for pod in ray_pods(release) if pod.owner.endswith(":head"))
        ports = {port["containerPort"] for port in head.spec["containers"][0].get("ports", [])}
        _note(found, release, head_service(one), ports)
    return found


def _note(found: dict[str, set[int]], release: Release, name: str, ports: set[int]) -> None:
    for suffix in ("", f".{release.namespace}", f".{release.namespace}.svc", f".{release.namespace}.svc.cluster.local"):
        found[name + suffix] = ports
