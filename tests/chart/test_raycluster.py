"""The RayCluster: what the API server takes, what KubeRay takes, and what Ray's autoscaler reads in it."""

import copy
import hashlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from tests.chart import schemas
from tests.chart.kuberay import node_types, operator_faults
from tests.chart.rendering import Object, Release
from tests.chart.variants import VARIANTS, rendered

WITH_REDIS = "redis"


def cluster() -> Object:
    return copy.deepcopy(rendered("fleets").only("RayCluster"))


def test_the_copy_of_the_crd_is_the_one_that_its_readme_names() -> None:
    digest = hashlib.sha256(schemas.CRD.read_bytes()).hexdigest()
    assert digest in (schemas.CRD.parent / "README.md").read_text(encoding="utf-8")


def test_the_api_server_takes_it_and_knows_every_field(release: Release) -> None:
    assert schemas.ray_faults(release.only("RayCluster")) == []


def test_kuberay_takes_it(release: Release) -> None:
    assert operator_faults(release.only("RayCluster")) == []


def test_it_keeps_the_rules_of_the_crd(release: Release) -> None:
    assert schemas.rule_faults(release.only("RayCluster")) == []


def test_an_upgrade_from_any_values_to_any_others_keeps_the_rules_of_the_crd(release: Release) -> None:
    new = release.only("RayCluster")
    assert [(name, schemas.rule_faults(new, rendered(name).only("RayCluster"))) for name in sorted(VARIANTS)] == [
        (name, []) for name in sorted(VARIANTS)
    ]


def test_ray_is_the_version_that_halftone_is_locked_to(release: Release) -> None:
    assert release.only("RayCluster")["spec"]["rayVersion"] == version("ray")


def _set(path: str, value: Any) -> Callable[[Object], None]:
    def change(one: Object) -> None:
        inner: Any = one["spec"]
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        for step in way:
            inner = inner[step]
        inner[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("autoscalerOptions/version", "v3"),
        _set("workerGroupSpecs/0/minReplica", 0),
        _set("workerGroupSpecs/0/template/spec/gracePeriod", 90),
        _set("workerGroupSpecs/0/maxReplicas", "4"),
        _set("headGroupSpec/rayStartParams", {"num-cpus": 0}),
        _set("headGroupSpec/template/spec/containers/0/env", [{"name": "A"}, {"name": "A"}]),
        _set("authOptions/secret", "farm"),
        _set("upgradeStrategy/type", "Rolling"),
        lambda one: one["spec"].pop("headGroupSpec"),
    ],
)
def test_the_api_server_would_refuse_or_drop_it(change: Callable[[Object], None]) -> None:
    wrong = cluster()
    change(wrong)
    assert schemas.ray_faults(wrong)


def test_rules_about_changes_are_held() -> None:
    old, new = cluster(), cluster()
    old["spec"]["gcsFaultToleranceOptions"] = {"backend": "redis", "redisAddress": "redis:6379"}
    new["spec"]["gcsFaultToleranceOptions"] = {"backend": "rocksdb"}
    assert any("immutable" in fault for fault in schemas.rule_faults(new, old))
    assert schemas.rule_faults(new) == []


def test_rules_about_values_are_held() -> None:
    wrong = cluster()
    wrong["spec"]["managedBy"] = "somebody"
    assert any("must be either" in fault for fault in schemas.rule_faults(wrong))


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["metadata"].update(name="a" * 54),
        lambda one: one["metadata"].update(name="1-farm"),
        _set("headGroupSpec/rayStartParams/labels", "fleet=l4"),
        _set("headGroupSpec/rayStartParams/dashbord-host", "0.0.0.0"),
        _set("workerGroupSpecs/0/template/spec/restartPolicy", "Always"),
        _set("workerGroupSpecs/1/groupName", "l4-spot"),
        _set("workerGroupSpecs/0/minReplicas", 10_000),
        _set("workerGroupSpecs/0/labels/fleet", "no label!"),
        _set("headGroupSpec/template/spec/containers/0/env", [{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}]),
        _set("rayVersion", ""),
    ],
)
def test_kuberay_would_make_no_pods(change: Callable[[Object], None]) -> None:
    wrong = cluster()
    change(wrong)
    assert operator_faults(wrong)


def test_the_autoscaler_reads_a_node_type_for_each_fleet(release: Release) -> None:
    config, kinds = node_types(release.only("RayCluster"), release.namespace)
    groups = release.only("RayCluster")["spec"]["workerGroupSpecs"]
    assert set(kinds) == {group["groupName"] for group in groups}
    assert len(kinds) == len(release.values["fleets"])
    for group in groups:
        kind = kinds[group["groupName"]]
        assert kind["labels"].items() >= group["labels"].items()
        assert (kind["min_workers"], kind["max_workers"]) == (group["minReplicas"], group["maxReplicas"])
    assert config["max_workers"] >= sum(kind["max_workers"] for kind in kinds.values())


def test_pods_that_nobody_needs_are_given_back_and_none_are_kept(release: Release) -> None:
    config, kinds = node_types(release.only("RayCluster"), release.namespace)
    assert all(kind["min_workers"] == 0 for kind in kinds.values())
    assert config["idle_timeout_minutes"] * 60 == release.values["ray"]["idleTimeoutSeconds"]


def test_a_fleet_s_own_idle_time_reaches_the_autoscaler() -> None:
    groups = rendered("fleets").only("RayCluster")["spec"]["workerGroupSpecs"]
    _, kinds = node_types(rendered("fleets").only("RayCluster"), "halftone")
    assert [group.get("idleTimeoutSeconds") for group in groups] == [None, None, 60]
    assert kinds["plain"]["idle_timeout_s"] == 60


def test_the_head_renders_nothing(release: Release) -> None:
    """A renderer on the head would die with it, and the head's memory is Ray's."""
    config, _ = node_types(release.only("RayCluster"), release.namespace)
    head = config["available_node_types"][config["head_node_type"]]["resources"]
    assert head["CPU"] == 0
    assert head.get("GPU", 0) == 0


def test_redis_keeps_the_head_s_state_only_when_it_is_wanted() -> None:
    options = rendered(WITH_REDIS).only("RayCluster")["spec"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "redis.example:6379"
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"] == {"name": "ray-redis", "key": "password"}
    assert "gcsFaultToleranceOptions" not in rendered("defaults").only("RayCluster")["spec"]


def test_the_cluster_asks_for_a_token_of_its_secret(release: Release) -> None:
    assert release.only("RayCluster")["spec"]["authOptions"]["mode"] == "token"
