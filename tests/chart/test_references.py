"""Whatever an object of the release names is there."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chart.pods import pods_of
from tests.chart.references import dangling, keys_of, named_by
from tests.chart.rendering import CHART, Object, Release
from tests.chart.variants import rendered


def test_everything_that_is_named_is_there(release: Release) -> None:
    assert dangling(release) == []


def test_keys_of_secrets_made_beforehand_are_told_in_the_values(release: Release) -> None:
    told = (CHART / "values.yaml").read_text(encoding="utf-8")
    wanted = {(name, key) for pod in pods_of(release) for kind, name, key in named_by(pod) if kind == "Secret" and key}
    theirs = {key for name, key in wanted if keys_of(release, "Secret", name) is None}
    assert {key for key in theirs if key not in told} <= {release.values["ray"]["redis"]["passwordKey"]}


def changed(variant: str, change: Callable[[Release], Any]) -> Release:
    release = copy.deepcopy(rendered(variant))
    outcome = change(release)
    return outcome if isinstance(outcome, Release) else release


def without(kind: str, ending: str = "") -> Callable[[Release], Release]:
    def change(release: Release) -> Release:
        kept = tuple(
            one for one in release.objects if one["kind"] != kind or not one["metadata"]["name"].endswith(ending)
        )
        assert len(kept) < len(release.objects)
        return replace(release, objects=kept)

    return change


def deployment(release: Release, ending: str) -> Object:
    return next(one for one in release.of("Deployment") if one["metadata"]["name"].endswith(ending))


def first_container(release: Release, ending: str) -> Any:
    return deployment(release, ending)["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    "change",
    [
        without("Secret"),
        without("Service", "api"),
        without("Deployment", "api"),
        without("ServiceAccount"),
        without("PriorityClass"),
        lambda release: first_container(release, "api")["volumeMounts"].append({"name": "lost", "mountPath": "/lost"}),
        lambda release: first_container(release, "api").update(ports=[]),
        lambda release: first_container(release, "api")["readinessProbe"]["httpGet"].update(port=8081),
        lambda release: deployment(release, "api")["spec"].update(replicas=2),
        lambda release: release.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(
            port={"number": 81}
        ),
        lambda release: release.of("ServiceMonitor")[0]["spec"]["endpoints"][0].update(port="metric"),
        lambda release: release.of("PodMonitor")[0]["spec"]["selector"]["matchLabels"].update({"app": "other"}),
        lambda release: release.of("PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"].update(
            {"app": "other"}
        ),
        lambda release: release.only("RayCluster")["spec"]["authOptions"].update(secretName="farm-lost"),
    ],
)
def test_a_lost_name_would_show(change: Callable[[Release], Any]) -> None:
    assert dangling(changed("everything", change))


def test_a_key_that_the_secret_does_not_hold_would_show() -> None:
    def change(release: Release) -> None:
        for one in release.of("Secret"):
            one.get("stringData", {}).pop("api-database-url", None)
            one.get("data", {}).pop("api-database-url", None)

    found = dangling(changed("secrets in the values", change))
    assert any("Secret" in fault for fault in found)
