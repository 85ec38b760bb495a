"""The value sets that the chart is tested with: its three files, and changes to them."""

from functools import cache

from tests.chart.rendering import Object, Release, laid_over, render, value_file

PRODUCTION, DEFAULTS, KIND = "values-production.yaml", "values.yaml", "values-kind.yaml"

SECRETS: Object = {
    "existingSecret": "",
    "existingRaySecret": "",
    "values": {
        "ownerDatabaseUrl": "postgresql://owner:one@db.example:5432/halftone",
        "apiDatabaseUrl": "postgresql://farm_api:two@db.example:5432/halftone",
        "schedulerDatabaseUrl": "postgresql://farm_scheduler:three@db.example:5432/halftone",
        "depotAccessKey": "access",
        "depotSecretKey": "secret",
        "rayToken": "a" * 64,
    },
}
MONITORING: Object = {
    "serviceMonitors": {"enabled": True},
    "podMonitor": {"enabled": True},
    "rules": {"enabled": True, "runbookBase": "https://git.example.com/halftone/blob/main/"},
    "dashboards": {"enabled": True},
}
INGRESS: Object = {"enabled": True, "className": "nginx", "host": "farm.example.com", "tlsSecretName": "farm-tls"}
REDIS: Object = {
    "enabled": True,
    "address": "redis.example:6379",
    "username": "ray",
    "existingSecret": "ray-redis",
    "passwordKey": "password",
}
FLEETS: list[Object] = [
    {
        "name": "l4-spot",
        "renderers": 7,
        "gpu": "NVIDIA L4",
        "capacity": "spot",
        "gpusPerPod": 4,
        "surge": 2,
        "cpu": "24",
        "memory": "112Gi",
    },
    {"name": "h100", "renderers": 2, "least": 1, "offPeakRenderers": 1, "cpu": "16", "memory": "96Gi", "priority": 5},
    {"name": "plain", "renderers": 3, "gpusPerPod": 0, "cpu": "2500m", "memory": "12Gi", "idleTimeoutSeconds": 60},
]

NARROW: Object = {
    "postgres": {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]},
    "depot": {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]},
    "redis": {"to": [{"ipBlock": {"cidr": "192.0.2.20/32"}}]},
    "kubernetesApi": {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
}
"""Addresses outside of the cluster, as documentation uses them (RFC 5737)."""

VARIANTS: dict[str, tuple[str, Object]] = {
    "defaults": (DEFAULTS, {}),
    "kind": (KIND, {}),
    "production": (PRODUCTION, {}),
    "secrets in the values": (DEFAULTS, {"secrets": SECRETS}),
    "external": (
        PRODUCTION,
        {
            "secrets": {
                "existingSecret": "",
                "existingRaySecret": "",
                "external": {"enabled": True, "storeName": "vault"},
            }
        },
    ),
    "without hooks": (PRODUCTION, {"migrations": {"useHelmHooks": False, "contract": True}}),
    "without hooks, own secrets": (DEFAULTS, {"migrations": {"useHelmHooks": False}, "secrets": SECRETS}),
    "contract": (DEFAULTS, {"migrations": {"contract": True}, "secrets": SECRETS}),
    "redis": (DEFAULTS, {"ray": {"redis": REDIS}}),
    "fleets": (DEFAULTS, {"fleets": FLEETS}),
    "narrow": (DEFAULTS, {"networkPolicy": NARROW, "ray": {"redis": REDIS}, "monitoring": MONITORING}),
    "bare": (
        DEFAULTS,
        {
            "networkPolicy": {"enabled": False},
            "migrations": {"enabled": False},
            "api": {"disruptionBudget": {"enabled": False}, "replicas": 1},
            "scheduler": {"disruptionBudget": {"enabled": False}},
            "ray": {"head": {"disruptionBudget": {"enabled": False}}},
        },
    ),
    "claim": (DEFAULTS, {"renderers": {"cache": {"type": "claim", "claimName": "checkpoints"}}}),
    "ephemeral": (DEFAULTS, {"renderers": {"cache": {"type": "ephemeral", "storageClassName": "fast"}}}),
    "host path": (DEFAULTS, {"renderers": {"cache": {"type": "hostPath", "hostPath": "/var/lib/halftone"}}}),
    "everything": (
        PRODUCTION,
        {
            "secrets": SECRETS,
            "api": {"ingress": INGRESS, "autoscaling": {"enabled": True}},
            "monitoring": MONITORING,
            "ray": {"redis": REDIS},
            "priorityClasses": {"create": True},
            "fleets": FLEETS,
        },
    ),
}


def values_of(variant: str) -> Object:
    name, patch = VARIANTS[variant]
    return laid_over(value_file(name), patch)


@cache
def rendered(variant: str) -> Release:
    """Shared between tests: a test that changes an object copies it first."""
    return render(values_of(variant))
