"""Expressions of dashboards and alerts, taken apart: which series they read, and what they measure in."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as pql
import yaml
from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from farm.telemetry import ApiMetrics, SchedulerMetrics
from ops.docs import metrics_of

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "ops" / "dashboards" / "json").glob("*.json"))
RULES = sorted((ROOT / "ops" / "alerts" / "rules").glob("*.yaml"))

TARGET_LABELS = frozenset({"namespace", "job", "instance", "pod", "service"})
"""What Prometheus itself puts on every series."""


@dataclass(frozen=True, slots=True)
class Metric:
    kind: str
    labels: frozenset[str]


def known_metrics() -> dict[str, Metric]:
    """Every series that a farm shows, by the name under which Prometheus keeps it; and those of Prometheus itself."""
    found = {"up": Metric("gauge", frozenset()), "ALERTS": Metric("gauge", frozenset(_ALERT_LABELS))}
    for owner in (ApiMetrics(), SchedulerMetrics()):
        for metric in metrics_of(owner):
            found |= dict(_series(metric))
    for family in ProcessCollector(registry=None).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Metric(family.type, frozenset())
    return found


_ALERT_LABELS = ("alertname", "alertstate", "severity")


def _series(metric: MetricWrapperBase) -> Iterator[tuple[str, Metric]]:
    about, labels = next(iter(metric.describe())), frozenset(metric._labelnames)
    match about.type:
        case "counter":
            yield f"{about.name}_total", Metric("counter", labels)
        case "histogram":
            yield f"{about.name}_bucket", Metric("counter", labels | {"le"})
            yield f"{about.name}_sum", Metric("counter", labels)
            yield f"{about.name}_count", Metric("counter", labels)
        case kind:
            yield about.name, Metric(kind, labels)


@dataclass(frozen=True, slots=True)
class Panel:
    board: str
    title: str
    kind: str
    unit: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.board}: {self.title}"


def panels() -> list[Panel]:
    """Every expression of every panel, as it is checked in."""
    return [panel for path in DASHBOARDS for panel in _panels(json.loads(path.read_text()))]


def _panels(board: Mapping[str, Any]) -> Iterator[Panel]:
    for panel in board["panels"]:
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        for target in panel.get("targets", ()):
            yield Panel(
                board["uid"], panel["title"], panel["type"], unit, target["expr"], bool(target.get("instant", False))
            )


def rules() -> list[tuple[str, str]]:
    """Each alert and recorded series, with its expression."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [(rule.get("alert") or rule["record"], str(rule["expr"])) for group in groups for rule in group["rules"]]


def filled_in(expr: str, *, step: str = "15s", over: str = "5m", namespace: str = ".*") -> str:
    """As Grafana asks it when everything is chosen."""
    values = {"__rate_interval": step, "__range": over, "__interval": step, "namespace": namespace}
    return re.sub(r"\$(\w+)", lambda name: values.get(name[1], ".*"), expr)


def parsed(expr: str) -> pql.Expr:
    return pql.parse(filled_in(expr))


def nodes(expr: pql.Expr) -> list[pql.Expr]:
    found: list[pql.Expr] = []
    pql.walk(expr, pre_visit=found.append)
    return found


def selectors(expr: pql.Expr) -> list[pql.VectorSelector]:
    inside = [node.vector_selector for node in nodes(expr) if isinstance(node, pql.MatrixSelector)]
    plain = [node for node in nodes(expr) if isinstance(node, pql.VectorSelector)]
    texts = {str(one): one for one in (*inside, *plain)}
    return list(texts.values())


def labels_used(expr: pql.Expr) -> set[str]:
    """Labels that aggregations and joins go by."""
    found: set[str] = set()
    for node in nodes(expr):
        if isinstance(node, pql.AggregateExpr) and node.modifier is not None:
            found |= set(node.modifier.labels)
        if isinstance(node, pql.BinaryExpr) and node.modifier is not None:
            if node.modifier.matching is not None:
                found |= set(node.modifier.matching.labels)
            found |= set(node.modifier.group_labels or ())
    return found


def counted(expr: pql.Expr) -> Iterator[tuple[str, str]]:
    """Function and metric of every rate."""
    for node in nodes(expr):
        if isinstance(node, pql.Call) and node.func.name in ("rate", "irate", "increase"):
            for argument in node.args:
                yield node.func.name, str(argument.vector_selector.name)


_SETS = frozenset({"and", "or", "unless"})
_COMPARISONS = frozenset({">", ">=", "<", "<=", "==", "!="})


def operands(expr: pql.Expr) -> list[str]:
    """What an alert looks at, its comparisons taken away: each must have data, whether the alert fires or not."""
    match expr:
        case pql.NumberLiteral():
            return []
        case pql.ParenExpr() | pql.UnaryExpr() | pql.SubqueryExpr():
            return operands(expr.expr)
        case pql.VectorSelector():
            return [without_offset(expr)]
        case pql.Call(func=func, args=args) if func.name == "absent" or _filters(expr):
            return [text for one in args for text in operands(one)]
        case pql.AggregateExpr() if _filters(expr):
            return operands(expr.expr)
        case pql.BinaryExpr() if _filters(expr):
            return operands(expr.lhs) + operands(expr.rhs)
        case _:
            return [str(expr)]


def _filters(expr: pql.Expr) -> bool:
    """Something in it drops series on purpose."""
    return any(
        (isinstance(node, pql.BinaryExpr) and str(node.op).split()[0] in _SETS | _COMPARISONS)
        or (isinstance(node, pql.Call) and node.func.name == "absent")
        for node in nodes(expr)
    )


def without_offset(selector: pql.VectorSelector) -> str:
    """Nothing of a farm that has just begun is an hour old."""
    return str(selector).partition(" offset ")[0]
