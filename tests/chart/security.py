"""The restricted Pod Security Standard, and what Halftone asks beyond it.

The standard is that of https://kubernetes.io/docs/concepts/security/pod-security-standards/ as of Kubernetes 1.34.
"""

from collections.abc import Iterator

from tests.chart.pods import Pod
from tests.chart.rendering import Object

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
}
PROFILES = {"RuntimeDefault", "Localhost"}


def restricted_faults(pod: Pod) -> list[str]:
    """Why a namespace with `pod-security.kubernetes.io/enforce: restricted` would refuse this pod."""
    found = [*_pod_wide(pod.spec), *_volumes(pod.spec)]
    for one in pod.containers:
        found += [f"{one['name']}: {fault}" for fault in _container(pod.spec.get("securityContext") or {}, one)]
    return [f"{pod.owner}: {fault}" for fault in found]


def _pod_wide(spec: Object) -> Iterator[str]:
    context = spec.get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is on"
    for one in context.get("sysctls", []):
        if one["name"] not in SYSCTLS:
            yield f"the sysctl {one['name']} is not a safe one"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is on"


def _volumes(spec: Object) -> Iterator[str]:
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"the volume {volume['name']} is a {kind}"


def _container(pod_context: Object, one: Object) -> Iterator[str]:
    context = one.get("securityContext") or {}
    merged = {**pod_context, **context}
    capabilities = context.get("capabilities") or {}
    if context.get("privileged"):
        yield "it is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if merged.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if merged.get("runAsUser") == 0:
        yield "it runs as user 0"
    if (merged.get("seccompProfile") or {}).get("type") not in PROFILES:
        yield "it has no seccomp profile"
    if "ALL" not in capabilities.get("drop", []):
        yield "it does not drop ALL capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"it adds capabilities: {capabilities['add']}"
    if context.get("procMount", "Default") != "Default":
        yield f"procMount is {context['procMount']}"
    if any(port.get("hostPort") for port in one.get("ports", [])):
        yield "it takes a port of the host"
    yield from _hosts(one)


def _hosts(one: Object) -> Iterator[str]:
    """Since 1.34: probes and hooks may not be sent to another host."""
    handlers = [one.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += (one.get("lifecycle") or {}).values()
    for handler in filter(None, handlers):
        for action in ("httpGet", "tcpSocket"):
            if (handler.get(action) or {}).get("host"):
                yield f"its {action} names a host"


def own_faults(pod: Pod) -> list[str]:
    """A root file system that cannot be written, a number as user, and bounds on memory: what we ask of every pod."""
    context = pod.spec.get("securityContext") or {}
    found = []
    for one in pod.containers:
        merged = {**context, **(one.get("securityContext") or {})}
        if merged.get("readOnlyRootFilesystem") is not True:
            found.append(f"{one['name']}: its root file system can be written")
        if not isinstance(merged.get("runAsUser"), int):
            # The kubelet cannot tell whether a user with a name is root, and refuses to start the container.
            found.append(f"{one['name']}: no number says which user it runs as")
        if one["name"] != "wait-gcs-ready" and "memory" not in (one.get("resources") or {}).get("limits", {}):
            found.append(f"{one['name']}: its memory has no limit")
    return [f"{pod.owner}: {fault}" for fault in found]


def has_token(pod: Pod, accounts: dict[str, Object]) -> bool:
    """Whether a token of the API server is mounted: the pod's word counts before its account's; without both, yes."""
    account = accounts.get(pod.spec.get("serviceAccountName", "default"), {})
    return bool(pod.spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)))
