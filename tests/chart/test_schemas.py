"""Every object against the schema of its kind."""

import copy
from typing import Any

import jsonschema
import pytest

from tests.chart import schemas
from tests.chart.pods import pods_of
from tests.chart.rendering import Object, Release
from tests.chart.variants import rendered

NAMED = {"type": "object", "required": ["name"]}
ENDPOINT = {"type": "object", "anyOf": [{"required": ["port"]}, {"required": ["portNumber"]}]}


def monitored(listed: str, endpoint: Object) -> Object:
    return {
        "type": "object",
        "required": ["selector", listed],
        "properties": {
            "selector": {"type": "object", "minProperties": 1},
            "namespaceSelector": {"type": "object"},
            listed: {"type": "array", "minItems": 1, "items": endpoint},
        },
    }


RULE = {
    "type": "object",
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "additionalProperties": False,
    "properties": {
        "alert": {"type": "string"},
        "record": {"type": "string"},
        "expr": {"type": ["string", "integer"]},
        "for": {"type": "string"},
        "keep_firing_for": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
GROUP = {
    "type": "object",
    "required": ["name", "rules"],
    "properties": {"interval": {"type": "string"}, "rules": {"type": "array", "minItems": 1, "items": RULE}},
}
REMOTE = {"type": "object", "required": ["key"]}
SECRET_ENTRY = {"type": "object", "required": ["secretKey", "remoteRef"], "properties": {"remoteRef": REMOTE}}

ESSENTIAL: dict[tuple[str, str], Object] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): monitored("endpoints", ENDPOINT),
    ("monitoring.coreos.com/v1", "PodMonitor"): monitored("podMetricsEndpoints", ENDPOINT),
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "required": ["groups"],
        "properties": {"groups": {"type": "array", "minItems": 1, "items": GROUP}},
    },
    ("external-secrets.io/v1", "ExternalSecret"): {
        "required": ["secretStoreRef", "target", "data"],
        "properties": {
            "secretStoreRef": {"type": "object", "required": ["name", "kind"]},
            "target": NAMED,
            "data": {"type": "array", "minItems": 1, "items": SECRET_ENTRY},
        },
    },
}
"""Of kinds whose schema is not at hand: what they need for their work. The rest of their fields is not checked."""

HAND_WRITTEN = {kind for _, kind in ESSENTIAL}


@pytest.mark.parametrize("version", schemas.VERSIONS)
def test_kubernetes_takes_every_object(release: Release, version: str) -> None:
    own = [one for one in release.objects if one["kind"] not in HAND_WRITTEN | {"RayCluster"}]
    assert own
    assert [
        (one["kind"], one["metadata"]["name"], fault) for one in own for fault in schemas.faults_of(one, version)
    ] == []


@pytest.mark.parametrize("version", schemas.VERSIONS)
def test_kubernetes_takes_every_pod_that_kuberay_makes(release: Release, version: str) -> None:
    assert [(pod.owner, fault) for pod in pods_of(release) for fault in schemas.pod_faults(pod.spec, version)] == []


def test_objects_of_monitoring_and_secrets_have_what_they_need(release: Release) -> None:
    foreign = [one for one in release.objects if one["kind"] in HAND_WRITTEN]
    assert [fault for one in foreign for fault in essential_faults(one)] == []


def test_every_kind_of_the_chart_is_checked_somewhere() -> None:
    kinds = {one["kind"] for one in rendered("everything").objects} | {
        one["kind"] for one in rendered("external").objects
    }
    assert kinds >= {*HAND_WRITTEN, "RayCluster", "Ingress", "HorizontalPodAutoscaler", "NetworkPolicy"}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ("spec", "replcas")),
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriod")),
        ("NetworkPolicy", ("spec", "ingres")),
        ("PodDisruptionBudget", ("spec", "minAvailble")),
        ("Service", ("spec", "port")),
    ],
)
def test_a_misspelt_field_is_refused(kind: str, path: tuple[str, ...]) -> None:
    one = copy.deepcopy(rendered("production").of(kind)[0])
    inner: Any = one
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = 1
    assert all(any(path[-1] in fault for fault in schemas.faults_of(one, version)) for version in schemas.VERSIONS)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints"), ("PrometheusRule", "groups")],
)
def test_a_monitor_without_its_main_field_is_refused(kind: str, key: str) -> None:
    one = copy.deepcopy(rendered("everything").of(kind)[0])
    del one["spec"][key]
    assert essential_faults(one)


def test_a_kind_that_kubernetes_does_not_have_is_not_passed_over() -> None:
    with pytest.raises(schemas.NoSchema):
        schemas.faults_of({"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "x"}}, "1.37")


def essential_faults(one: Object) -> list[str]:
    schema = ESSENTIAL[one["apiVersion"], one["kind"]]
    return [
        f"{one['kind']}: {error.message[:200]}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(one["spec"])
    ]
