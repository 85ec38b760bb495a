"""Who may speak to whom: the chart's NetworkPolicies, read as a network plugin reads them."""

from dataclasses import replace

import pytest

from tests.chart.pods import GCS_PORT, Pod, pods_of
from tests.chart.policies import End, Policy, Verdict, verdict
from tests.chart.rendering import Release
from tests.chart.variants import VARIANTS, rendered, values_of

OUTSIDE = {
    "postgres": End("192.0.2.10"),
    "redis": End("192.0.2.20"),
    "kubernetes": End("192.0.2.1"),
    "depot": End("198.51.100.7"),
    "internet": End("203.0.113.9"),
    "cloud metadata": End("169.254.169.254"),
    "dns": End("10.244.9.1", "kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": End("10.244.9.2", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "ingress": End("10.244.9.3", "ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}),
    "operator": End("10.244.9.4", "kuberay", {"app.kubernetes.io/name": "kuberay-operator"}),
    "stranger": End("10.244.9.5", "elsewhere", {"app.kubernetes.io/component": "scheduler"}),
    "neighbour": End("10.244.9.6", "halftone", {"app": "somebody-else-s"}),
}
WORKER_PORTS = (10002, 19999, 45123)  # Ray's processes listen on ports of their own

MUST_PASS = [
    *((one, "postgres", 5432) for one in ("api", "scheduler", "migrate")),
    *((one, "depot", 443) for one in ("api", "scheduler", "renderer")),
    *((one, "ray-head", GCS_PORT) for one in ("scheduler", "renderer")),
    *(
        (one, other, port)
        for one in ("ray-head", "renderer", "scheduler")
        for other in ("ray-head", "renderer", "scheduler")
        for port in WORKER_PORTS
        if (one, other) != ("scheduler", "scheduler")
    ),
    ("ray-head", "kubernetes", 443),
    ("ray-head", "kubernetes", 6443),
    ("ray-head", "redis", 6379),
    ("ingress", "api", 8080),
    ("prometheus", "api", 8080),
    ("prometheus", "scheduler", 9090),
    ("prometheus", "ray-head", 8080),
    ("prometheus", "renderer", 8080),
    ("test", "api", 8080),
]
MUST_NOT_PASS = [
    *((one, "postgres", 5432) for one in ("renderer", "ray-head", "test")),
    *((one, "redis", 6379) for one in ("renderer", "api", "scheduler", "migrate")),
    *((one, "kubernetes", 443) for one in ("renderer", "api", "scheduler", "migrate")),
    *((one, "internet", 443) for one in ("renderer", "api", "scheduler", "migrate", "ray-head", "test")),
    *((one, "cloud metadata", 80) for one in ("renderer", "api", "scheduler", "migrate", "ray-head")),
    *((one, "depot", 443) for one in ("migrate", "ray-head")),
    *(("api", other, port) for other in ("ray-head", "renderer") for port in (GCS_PORT, 8265, 10001, *WORKER_PORTS)),
    *(("migrate", other, 8080) for other in ("api", "ray-head", "renderer")),
    ("api", "scheduler", 9090),
    ("renderer", "api", 8080),
    ("ray-head", "api", 8080),
    *(
        (one, "ray-head", port)
        for one in ("stranger", "neighbour", "internet", "ingress", "prometheus")
        for port in (GCS_PORT, 8265, 10001, 52365)
    ),
    *((one, "renderer", port) for one in ("stranger", "neighbour", "ingress", "prometheus") for port in WORKER_PORTS),
    *((one, "scheduler", port) for one in ("stranger", "neighbour", "ingress") for port in (9090, 10002)),
    *((one, "api", 8080) for one in ("stranger", "neighbour", "internet")),
    *((one, "neighbour", 5432) for one in ("renderer", "api", "ray-head")),
]


def end_of(number: int, pod: Pod) -> End:
    ports = {
        one["name"]: one["containerPort"] for each in pod.containers for one in each.get("ports", []) if "name" in one
    }
    return End(f"10.244.1.{number}", pod.namespace, pod.labels, ports)


def ends(release: Release) -> dict[str, End]:
    made = {pod.component: end_of(number, pod) for number, pod in enumerate(pods_of(release), 1)}
    return {**OUTSIDE, **made}


def policies(release: Release) -> list[Policy]:
    return [Policy(release.namespace_of(one), one["spec"]) for one in release.of("NetworkPolicy")]


def wrong(release: Release, rules: list[Policy]) -> list[str]:
    """Flows that are not as the tables above want them."""
    there = ends(release)
    found = [
        f"{one} -> {other}:{port}"
        for one, other, port in MUST_PASS
        if _verdict(rules, there, one, other, port) is not Verdict.PASSES
    ]
    found += [
        f"{one} -> dns"
        for one in ("api", "scheduler", "migrate", "renderer", "ray-head", "test")
        if not _resolves(rules, there[one])
    ]
    return found + [
        f"{one} -> {other}:{port} passes"
        for one, other, port in MUST_NOT_PASS
        if _verdict(rules, there, one, other, port) is not Verdict.BLOCKED
    ]


def _verdict(rules: list[Policy], there: dict[str, End], one: str, other: str, port: int) -> Verdict:
    return verdict(rules, there[one], there[other], port)


def _resolves(rules: list[Policy], pod: End) -> bool:
    return all(verdict(rules, pod, OUTSIDE["dns"], 53, one) is Verdict.PASSES for one in ("UDP", "TCP"))


def test_each_part_reaches_what_it_needs_and_nothing_else() -> None:
    assert wrong(rendered("narrow"), policies(rendered("narrow"))) == []


def test_each_policy_is_needed() -> None:
    """Without any one of them, something that must pass is blocked, or the other way round."""
    release = rendered("narrow")
    rules, made = policies(release), release.of("NetworkPolicy")
    names = [one["metadata"]["name"] for one in made]
    hooks = {one["metadata"]["name"] for one in made if "helm.sh/hook" in (one["metadata"].get("annotations") or {})}
    idle = [name for number, name in enumerate(names) if not wrong(release, rules[:number] + rules[number + 1 :])]
    assert set(idle) == hooks  # those stand alone, before the others are there


def test_a_migration_before_the_release_passes_in_a_namespace_that_denies_everything() -> None:
    for variant in ("narrow", "defaults"):
        release = rendered(variant)
        (policy,) = (one for one in release.of("NetworkPolicy") if "annotations" in one["metadata"])
        job = next(one for one in release.of("Job") if one["metadata"]["name"].endswith("-expand"))
        hooks = [one["metadata"]["annotations"] for one in (policy, job)]
        assert set(hooks[1]["helm.sh/hook"].split(",")) <= set(hooks[0]["helm.sh/hook"].split(","))
        assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])
        spec, always = policy["spec"], release.named("NetworkPolicy", "farm-halftone-to-postgres")["spec"]
        assert spec["podSelector"]["matchExpressions"][0]["values"] == ["migrate"]
        assert [rule for rule in always["egress"] if rule not in spec["egress"]] == []
        assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 5432}


def test_without_policies_the_table_would_not_hold() -> None:
    assert any("renderer -> postgres:5432 passes" in fault for fault in wrong(rendered("narrow"), []))


ON = [name for name, (_, patch) in VARIANTS.items() if patch.get("networkPolicy", {}).get("enabled", True)]


@pytest.mark.parametrize("variant", ON)
def test_every_pod_has_a_default_deny_in_both_directions(variant: str) -> None:
    release = rendered(variant)
    open_pods = [
        (pod.owner, direction)
        for number, pod in enumerate(pods_of(release), 1)
        for direction in ("Ingress", "Egress")
        if not any(one.holds_for(end_of(number, pod), direction) for one in policies(release))
    ]
    assert open_pods == []


def test_a_pod_without_a_policy_would_show() -> None:
    release = rendered("production")
    stray = replace(end_of(1, pods_of(release)[0]), labels={"app": "stray"})
    assert not any(one.holds_for(stray, "Ingress") for one in policies(release))


@pytest.mark.parametrize("variant", ON)
@pytest.mark.parametrize("port", [5432, GCS_PORT, 8265, 10001])
def test_with_any_values_a_renderer_reaches_no_database_and_strangers_reach_no_ray(variant: str, port: int) -> None:
    release = rendered(variant)
    rules, there = policies(release), ends(release)
    if port == 5432:
        database = there.get("postgres", OUTSIDE["postgres"])
        assert verdict(rules, there["renderer"], database, port) is Verdict.BLOCKED
        return
    for one in ("stranger", "neighbour", "internet", "ingress", "api"):
        assert verdict(rules, there[one], there["ray-head"], port) is Verdict.BLOCKED


def test_the_stores_of_a_trial_are_reached_by_those_who_need_them() -> None:
    release = rendered("kind")
    rules, there = policies(release), ends(release)
    if not rules:
        pytest.fail("a trial has policies too: it is where people find out whether their plugin enforces them")
    host, _, port = release.values["depot"]["endpoint"].partition(":")
    assert host or port or release.values["trial"]["s3"]["enabled"]
    store, database = there["s3"], there["postgres"]
    for one in ("api", "scheduler", "migrate"):
        assert verdict(rules, there[one], database, 5432) is Verdict.PASSES, one
    (number,) = {port for port in store.ports.values() if port in {8333, 9000}} or {next(iter(store.ports.values()))}
    for one in ("api", "scheduler", "renderer"):
        assert verdict(rules, there[one], store, number) is Verdict.PASSES, one
    assert verdict(rules, there["stranger"], store, number) is Verdict.BLOCKED
    assert verdict(rules, there["stranger"], database, 5432) is Verdict.BLOCKED


def test_policies_are_left_out_only_when_the_values_say_so() -> None:
    assert not values_of("bare")["networkPolicy"]["enabled"]
    assert rendered("bare").of("NetworkPolicy") == []
