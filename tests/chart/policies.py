"""What NetworkPolicies let through: a small reading of the rules that a network plugin enforces."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.chart.rendering import Object


class Verdict(Enum):
    """What becomes of a connection."""

    PASSES = "passes"
    BLOCKED = "is blocked"
    DEPENDS = "depends on whether the network plugin counts pods among the addresses of an ipBlock"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or with no labels something outside of the cluster."""

    address: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # by name
    namespace_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_pod(self) -> bool:
        return self.namespace is not None


@dataclass(frozen=True)
class Policy:
    """One NetworkPolicy, and the namespace that it holds in."""

    namespace: str
    spec: Object

    def holds_for(self, pod: End, direction: str) -> bool:
        types = self.spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in self.spec else [])]
        return pod.namespace == self.namespace and direction in types and selects(self.spec["podSelector"], pod.labels)


def verdict(policies: Iterable[Policy], source: End, target: End, port: int, protocol: str = "TCP") -> Verdict:
    """A connection passes when the source may send it and the target may take it."""
    known = tuple(policies)
    strict, loose = (
        _sends(known, source, target, port, protocol, reach) and _takes(known, source, target, port, protocol, reach)
        for reach in (False, True)
    )
    if strict:
        return Verdict.PASSES
    return Verdict.DEPENDS if loose else Verdict.BLOCKED


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; the empty one takes all."""
    wanted = selector.get("matchLabels") or {}
    rules = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted.items()) and all(_fits(one, labels) for one in rules)


def _fits(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(rule["key"])
    match rule["operator"]:
        case "In":
            return value in rule["values"]
        case "NotIn":
            return value not in rule["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"{other} is no operator of a selector")


def _sends(policies: tuple[Policy, ...], source: End, target: End, port: int, protocol: str, reach: bool) -> bool:
    held = [one.spec for one in policies if one.holds_for(source, "Egress")] if source.is_pod else []
    rules = [rule for spec in held for rule in spec.get("egress") or []]
    return not held or any(_rule(rule, "to", source, target, target, port, protocol, reach) for rule in rules)


def _takes(policies: tuple[Policy, ...], source: End, target: End, port: int, protocol: str, reach: bool) -> bool:
    held = [one.spec for one in policies if one.holds_for(target, "Ingress")] if target.is_pod else []
    rules = [rule for spec in held for rule in spec.get("ingress") or []]
    return not held or any(_rule(rule, "from", target, source, target, port, protocol, reach) for rule in rules)


def _rule(rule: Object, side: str, own: End, other: End, target: End, port: int, protocol: str, reach: bool) -> bool:
    """A rule without peers is for everybody, one without ports for every port."""
    peers, ports = rule.get(side) or [], rule.get("ports") or []
    return (not peers or any(_peer(one, own, other, reach) for one in peers)) and (
        not ports or any(_port(one, target, port, protocol) for one in ports)
    )


def _peer(peer: Object, own: End, other: End, reach: bool) -> bool:
    if "ipBlock" in peer:
        return (reach or not other.is_pod) and _in_block(peer["ipBlock"], other.address)
    if not other.is_pod:
        return False
    if "namespaceSelector" in peer:
        place = {"kubernetes.io/metadata.name": other.namespace or "", **other.namespace_labels}
        near = selects(peer["namespaceSelector"], place)
    else:
        near = other.namespace == own.namespace
    return near and selects(peer.get("podSelector", {}), other.labels)


def _in_block(block: Object, address: str) -> bool:
    here = ipaddress.ip_address(address)
    inside = here in ipaddress.ip_network(block["cidr"])
    return inside and all(here not in ipaddress.ip_network(one) for one in block.get("except", []))


def _port(rule: Object, target: End, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    first = rule.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return target.ports.get(first) == port
    last: Any = rule.get("endPort", first)
    return bool(first <= port <= last)
