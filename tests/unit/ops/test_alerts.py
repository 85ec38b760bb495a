"""The alerts: rules and cases run in promtool, and what they name exists: metrics, labels, values, runbooks."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from farm.telemetry import ApiMetrics, SchedulerMetrics
from ops.alerts import slo
from ops.docs import metrics_of
from schemas.report import FailureKind

ROOT = Path(__file__).resolve().parents[3]
RULES = sorted((ROOT / "ops" / "alerts" / "rules").glob("*.yaml"))
CASES = sorted((ROOT / "ops" / "alerts" / "tests").glob("*.yaml"))
SEVERITIES = {"page", "ticket", "info"}
SHARD_STATES = {"ready", "leased"}
"""Of the queue, as farm/loops/counting.py sets them."""

OF_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus itself writes down of every target."""
OF_THE_TARGET = {"namespace", "job", "instance"}
"""Labels that come with the scrape, not with the metric."""

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is missing")


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metrics() -> dict[str, MetricWrapperBase]:
    """By the name of each of their series, as Prometheus stores it."""
    found: dict[str, MetricWrapperBase] = {}
    for owner in (ApiMetrics(), SchedulerMetrics()):
        for metric in metrics_of(owner):
            about = next(iter(metric.describe()))
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(about.type, [""])
            found.update({about.name + ending: metric for ending in endings})
    return found


METRICS = metrics()


def selectors(expression: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        if isinstance(inner, promql_parser.Expr):
            yield from selectors(inner)
    for inner in getattr(expression, "args", ()):
        yield from selectors(inner)


def groupings(text: str) -> set[str]:
    """Labels that an expression groups or joins by."""
    return {
        label.strip() for inner in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", text) for label in inner.split(",")
    }


def labels_of(name: str) -> set[str]:
    if name in OF_PROMETHEUS:
        return OF_PROMETHEUS[name]
    if name in RECORDED:
        return {"namespace"}
    return {*METRICS[name]._labelnames, *({"le"} if name.endswith("_bucket") else ())}


def values_of(metric: MetricWrapperBase, label: str) -> set[str]:
    """Those that the help text names; of a histogram its bounds."""
    if label == "le":
        assert isinstance(metric, Histogram)
        return {str(bound) for bound in metric._upper_bounds}
    words = set(re.findall(r"\w+", next(iter(metric.describe())).documentation))
    further = {"kind": {kind.value for kind in FailureKind}, "state": SHARD_STATES}
    return words | further.get(label, set())


# Rules


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", *map(str, RULES))


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    fired = [
        bool(case["exp_alerts"])
        for path in CASES
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert {True, False} <= set(fired)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_what_since_when_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Halftone[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert re.fullmatch(r"[1-9]\d*m", rule["for"])
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert re.search(r"\{\{|\d", notes["description"]), "a number tells more"
    assert notes["runbook_url"] == f"ops/runbooks/alerts/{rule['alert']}.md"
    assert (ROOT / notes["runbook_url"]).is_file()


@pytest.mark.parametrize("path", [path for path in RULES if path != slo.FILE], ids=lambda path: path.stem)
def test_every_threshold_written_by_hand_is_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("- alert:"):
            assert lines[number - 1].lstrip().startswith("# "), line


def test_farms_in_one_prometheus_are_told_apart() -> None:
    for rule in rules():
        for inner in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            assert "namespace" in inner, rule


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_metrics_labels_and_values_that_exist(rule: dict[str, Any]) -> None:
    used = list(selectors(promql_parser.parse(rule["expr"])))
    assert used
    known = set(OF_THE_TARGET)
    for one in used:
        assert one.name is not None
        assert one.name in {*METRICS, *RECORDED, *OF_PROMETHEUS}
        known |= labels_of(one.name)
        for matcher in one.matchers.matchers:
            assert matcher.name in labels_of(one.name), f"{one.name} has no label {matcher.name}"
            if matcher.name not in ("status", "route", "method"):
                assert set(matcher.value.split("|")) <= values_of(METRICS[one.name], matcher.name)
    assert groupings(rule["expr"]) <= known
    named = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", ""))))
    assert named <= groupings(rule["expr"]) | (
        {"job", "instance"} if rule.get("alert") == "HalftoneTargetDown" else set()
    )


def test_what_does_not_exist_is_noticed() -> None:
    with pytest.raises(AssertionError):
        test_rules_use_metrics_labels_and_values_that_exist({"alert": "a", "expr": 'farm_renderers{state="lazy"} > 0'})
    with pytest.raises(AssertionError):
        test_rules_use_metrics_labels_and_values_that_exist({"alert": "a", "expr": 'farm_renderers{gpu="H100"} > 0'})
    with pytest.raises(AssertionError):
        test_rules_use_metrics_labels_and_values_that_exist({"alert": "a", "expr": "farm_painters > 0"})


# Service levels


def test_the_service_levels_are_written_out() -> None:
    assert slo.FILE.read_text() == slo.page(), "python -m ops.alerts"


BAD_AND_GOOD = {
    "api-availability": (
        'farm_api_requests_total{method="GET",route="/v1/campaigns",status="500"}',
        'farm_api_requests_total{method="GET",route="/v1/campaigns",status="200"}',
    ),
    "renders": ('farm_renders_failed_total{kind="engine"}', 'farm_renders_total{outcome="succeeded"}'),
}


def burning(level: slo.Slo, times: float) -> dict[str, Any]:
    """A case: bad events *times* as many as the budget has, and the alerts that then fire."""
    events = 100_000.0
    bad = events * level.budget * times
    if level.name in BAD_AND_GOOD:
        first, second = BAD_AND_GOOD[level.name]
        series = [(first, bad), (second, events - bad)]
    else:
        name, labels, bound = {
            "api-latency": ("farm_api_request_seconds", 'method="GET",route="/v1/campaigns"', "1.0"),
            "interactive-wait": ("farm_shard_wait_seconds", 'lane="interactive"', "300.0"),
        }[level.name]
        series = [(f'{name}_bucket{{{labels},le="{bound}"}}', events - bad), (f"{name}_count{{{labels}}}", events)]
    firing = [one for one in slo.WINDOWS if times > one.factor]
    expected = [{"severity": one.severity, "slo": level.name, "window": one.long} for one in firing]
    query = f'sort(ALERTS{{alertname="{level.alert}",alertstate="firing"}})'
    return {
        "name": f"{level.name}, {times} times too fast",
        "interval": "1m",
        "input_series": [{"series": name, "values": f"0+{step}x80"} for name, step in series],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": "70m",
                "exp_samples": [{"labels": _alert_labels(level.alert, labels), "value": 1} for labels in expected],
            }
        ],
    }


def _alert_labels(alert: str, labels: dict[str, str]) -> str:
    inner = {"alertname": alert, "alertstate": "firing", **labels}
    return "ALERTS{" + ",".join(f'{name}="{value}"' for name, value in inner.items()) + "}"


@needs_promtool
@pytest.mark.parametrize("level", slo.SLOS, ids=lambda level: level.name)
def test_a_burn_rate_fires_the_alerts_whose_factor_it_passes_and_no_other(level: slo.Slo, tmp_path: Path) -> None:
    rates = [factor for one in slo.WINDOWS for factor in (0.97 * one.factor, 1.03 * one.factor)]
    cases = {
        "rule_files": [str(_rules_of(level, tmp_path))],
        "evaluation_interval": "1m",
        "tests": [burning(level, rate) for rate in rates],
    }
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump(cases))
    promtool("test", "rules", str(file))


@needs_promtool
def test_a_fault_that_is_over_is_not_paged_although_its_hour_is_still_bad(tmp_path: Path) -> None:
    bad, good = BAD_AND_GOOD["api-availability"]
    case = {
        "name": "all of ten minutes failed, twenty minutes ago",
        "interval": "1m",
        "input_series": [
            {"series": bad, "values": "0x50 100+100x9 1000x40"},
            {"series": good, "values": "0+100x50 5000x9 5100+100x40"},
        ],
        "alert_rule_test": [
            {"eval_time": "80m", "alertname": "HalftoneApiAvailabilityBurn", "exp_alerts": []},
        ],
        "promql_expr_test": [
            {
                "expr": "namespace:farm_api_requests_failed:ratio_rate1h > bool 0.0144",
                "eval_time": "80m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }
    file = tmp_path / "case.yaml"
    rules_file = _rules_of(slo.SLOS[0], tmp_path, alerts=1)
    file.write_text(yaml.safe_dump({"rule_files": [str(rules_file)], "evaluation_interval": "1m", "tests": [case]}))
    promtool("test", "rules", str(file))


def _rules_of(level: slo.Slo, folder: Path, *, alerts: int = len(slo.WINDOWS)) -> Path:
    """Those of one service level, with so many of its alerts: the others take time and say nothing here."""
    groups = yaml.safe_load(slo.FILE.read_text())["groups"]
    windows, burns = (group for group in groups if group["name"].startswith(f"halftone-slo-{level.name}"))
    burns["rules"] = burns["rules"][:alerts]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [windows, burns]}))
    return file
