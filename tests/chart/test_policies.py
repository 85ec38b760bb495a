"""The reading of NetworkPolicies, held against what Kubernetes says of them."""

from typing import Any

import pytest

from tests.chart.policies import End, Policy, Verdict, selects, verdict

WEB = End("10.1.0.1", "shop", {"app": "web"}, {"http": 8080})
BASE = End("10.1.0.2", "shop", {"app": "base"}, {"sql": 5432})
OTHER = End("10.1.0.3", "yard", {"app": "web"}, namespace_labels={"team": "yard"})
OUTSIDE = End("203.0.113.7")


def policy(**spec: Any) -> Policy:
    return Policy("shop", {"podSelector": {}, **spec})


DENY = policy(policyTypes=["Ingress", "Egress"])


def test_without_a_policy_everything_passes() -> None:
    assert verdict([], OUTSIDE, BASE, 5432) is Verdict.PASSES


def test_one_that_selects_no_pod_changes_nothing() -> None:
    none = policy(podSelector={"matchLabels": {"app": "none"}}, policyTypes=["Ingress"])
    assert verdict([none], OTHER, BASE, 5432) is Verdict.PASSES


def test_a_policy_holds_only_in_its_namespace() -> None:
    assert verdict([Policy("yard", DENY.spec)], WEB, BASE, 5432) is Verdict.PASSES


@pytest.mark.parametrize(("source", "target"), [(WEB, BASE), (OTHER, WEB), (WEB, OUTSIDE), (OUTSIDE, WEB)])
def test_a_default_deny_blocks_both_directions(source: End, target: End) -> None:
    assert verdict([DENY], source, target, 443) is Verdict.BLOCKED


def test_both_ends_must_agree() -> None:
    out = policy(egress=[{"to": [{"podSelector": {"matchLabels": {"app": "base"}}}]}], policyTypes=["Egress"])
    taking = policy(
        podSelector={"matchLabels": {"app": "base"}},
        ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "sql"}]}],
    )
    assert verdict([DENY, out], WEB, BASE, 5432) is Verdict.BLOCKED
    assert verdict([DENY, taking], WEB, BASE, 5432) is Verdict.BLOCKED
    assert verdict([DENY, out, taking], WEB, BASE, 5432) is Verdict.PASSES
    assert verdict([DENY, out, taking], WEB, BASE, 22) is Verdict.BLOCKED
    assert verdict([DENY, out, taking], OTHER, BASE, 5432) is Verdict.BLOCKED


def test_a_pod_selector_alone_means_the_own_namespace_and_with_a_namespace_selector_both_must_fit() -> None:
    near = policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    yard = {"namespaceSelector": {"matchLabels": {"team": "yard"}}}
    far = policy(ingress=[{"from": [{**yard, "podSelector": {"matchLabels": {"app": "web"}}}]}])
    assert verdict([near], OTHER, BASE, 1) is Verdict.BLOCKED
    assert verdict([far], OTHER, BASE, 1) is Verdict.PASSES
    assert verdict([far], WEB, BASE, 1) is Verdict.BLOCKED


def test_namespaces_are_known_by_their_name() -> None:
    yard = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "yard"}}}
    assert verdict([policy(ingress=[{"from": [yard]}])], OTHER, BASE, 1) is Verdict.PASSES


def test_two_entries_of_a_list_are_alternatives() -> None:
    either = [{"namespaceSelector": {"matchLabels": {"team": "yard"}}}, {"podSelector": {}}]
    rules = [policy(ingress=[{"from": either}])]
    assert verdict(rules, OTHER, BASE, 1) is verdict(rules, WEB, BASE, 1) is Verdict.PASSES


def test_blocks_of_addresses_have_holes_and_pods_in_them_depend_on_the_plugin() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}
    rules = [policy(egress=[{"to": [block]}], policyTypes=["Egress"])]
    assert verdict(rules, WEB, OUTSIDE, 443) is Verdict.BLOCKED
    assert verdict(rules, WEB, End("198.51.100.1"), 443) is Verdict.PASSES
    assert verdict(rules, WEB, OTHER, 443) is Verdict.DEPENDS


def test_ports_have_ranges_and_protocols() -> None:
    rules = [policy(ingress=[{"ports": [{"port": 10000, "endPort": 10010}, {"port": 53, "protocol": "UDP"}]}])]
    assert verdict(rules, WEB, BASE, 10010) is Verdict.PASSES
    assert verdict(rules, WEB, BASE, 10011) is Verdict.BLOCKED
    assert verdict(rules, WEB, BASE, 53) is Verdict.BLOCKED
    assert verdict(rules, WEB, BASE, 53, "UDP") is Verdict.PASSES


def test_a_rule_without_anything_is_for_everybody_and_no_rule_for_nobody() -> None:
    assert verdict([policy(ingress=[{}])], OUTSIDE, BASE, 1) is Verdict.PASSES
    assert verdict([policy(ingress=[])], OUTSIDE, BASE, 1) is Verdict.BLOCKED


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ({"key": "app", "operator": "In", "values": ["web"]}, True),
        ({"key": "app", "operator": "NotIn", "values": ["web"]}, False),
        ({"key": "rank", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_selectors_know_every_operator(rule: dict[str, Any], taken: bool) -> None:
    assert selects({"matchExpressions": [rule]}, WEB.labels) is taken
