"""Dashboards, rules and scrapes reach the cluster as they are in `ops`."""

import json
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from farm.config import ApiSettings
from tests.chart.pods import pods_of
from tests.chart.policies import selects
from tests.chart.references import number_of
from tests.chart.rendering import CHART, Object, Release, laid_over, render, type_loader
from tests.chart.variants import rendered, values_of

OPS = CHART.parent / "ops"
RULES = sorted((OPS / "alerts" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((OPS / "dashboards" / "json").glob("*.json"))


@pytest.fixture
def everything() -> Release:
    return rendered("everything")


def groups(release: Release) -> dict[str, Object]:
    return {group["name"]: group for one in release.of("PrometheusRule") for group in one["spec"]["groups"]}


def test_there_are_rules_and_dashboards() -> None:
    assert RULES
    assert DASHBOARDS


def test_every_rule_of_ops_is_in_the_cluster(everything: Release) -> None:
    base, wanted = everything.values["monitoring"]["rules"]["runbookBase"], {}
    for path in RULES:
        for group in yaml.load(path.read_text(encoding="utf-8"), Loader=type_loader)["groups"]:
            for rule in group["rules"]:
                if link := rule.get("annotations", {}).get("runbook_url"):
                    rule["annotations"]["runbook_url"] = base + link
            wanted[group["name"]] = group
    assert groups(everything) == wanted


def test_runbooks_of_alerts_are_there(everything: Release) -> None:
    base = everything.values["monitoring"]["rules"]["runbookBase"]
    for rule in alerts(everything):
        link = rule["annotations"]["runbook_url"]
        assert link.startswith(base)
        assert (OPS.parent / link.removeprefix(base)).is_file(), link


def alerts(release: Release) -> list[Object]:
    return [rule for group in groups(release).values() for rule in group["rules"] if "alert" in rule]


def test_expressions_are_ones_that_prometheus_reads(everything: Release) -> None:
    for group in groups(everything).values():
        for rule in group["rules"]:
            promql_parser.parse(str(rule["expr"]))
    with pytest.raises(ValueError, match=r"\w"):
        promql_parser.parse("sum by (team (farm_up)")


def test_templates_of_prometheus_survive_those_of_helm(everything: Release) -> None:
    """Both write {{ }}: an annotation that Helm had read would have lost its values."""
    texts = [text for rule in alerts(everything) for text in rule["annotations"].values()]
    assert any("{{ $value" in text or "{{ $labels" in text or "{{$" in text for text in texts)


def test_every_dashboard_of_ops_is_a_config_map(everything: Release) -> None:
    assert boards(everything) == {
        path.name: as_in_ops(path, str(ApiSettings.model_fields["currency"].default)) for path in DASHBOARDS
    }


def test_dashboards_show_money_in_the_currency_of_the_farm() -> None:
    patch: Object = {"api": {"settings": {"FARM_CURRENCY": "CHF"}}}
    held = boards(render(laid_over(values_of("everything"), patch)))
    assert held == {path.name: as_in_ops(path, "CHF") for path in DASHBOARDS}
    assert "suffix: CHF/h" in json.dumps(held)


def as_in_ops(path: Path, currency: str) -> Any:
    return json.loads(path.read_text(encoding="utf-8").replace("suffix: ¤", f"suffix: {currency}"))


def boards(release: Release) -> dict[str, Any]:
    """What the sidecar of Grafana finds, by its file's name."""
    label = release.values["monitoring"]["dashboards"]["labels"]
    held: dict[str, Any] = {}
    for one in release.of("ConfigMap"):
        if label.items() <= (one["metadata"].get("labels") or {}).items():
            held |= {name: json.loads(text) for name, text in one["data"].items()}
            assert len(json.dumps(one)) < 2**20, "a ConfigMap holds 1 MiB"
    return held


def test_without_monitoring_nothing_of_it_is_rendered() -> None:
    release = rendered("defaults")
    assert release.of("ServiceMonitor", "PodMonitor", "PrometheusRule") == []
    assert [
        one for one in release.of("ConfigMap") if "grafana_dashboard" in (one["metadata"].get("labels") or {})
    ] == []


def test_api_and_scheduler_are_scraped_once_each(everything: Release) -> None:
    """A farm counted twice looks twice as large."""
    scraped = []
    for one in everything.of("ServiceMonitor"):
        for service in everything.of("Service"):
            if selects(one["spec"]["selector"], service["metadata"].get("labels") or {}):
                for end in one["spec"]["endpoints"]:
                    scraped += hit(everything, service, end)
    assert sorted(scraped) == [("api", 8080), ("scheduler", 9090)]
    assert all(end["path"] == "/metrics" for one in everything.of("ServiceMonitor") for end in one["spec"]["endpoints"])


def hit(release: Release, service: Object, end: Object) -> list[tuple[str, int]]:
    ports = [port for port in service["spec"]["ports"] if port.get("name") == end["port"]]
    pods = [pod for pod in pods_of(release) if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)]
    numbers = [(pod.component, number_of(pod, port.get("targetPort", port["port"]))) for pod in pods for port in ports]
    return [(component, number) for component, number in numbers if number is not None]


def test_ray_pods_are_scraped_where_they_tell(everything: Release) -> None:
    (monitor,) = everything.of("PodMonitor")
    chosen = {pod.component for pod in pods_of(everything) if selects(monitor["spec"]["selector"], pod.labels)}
    assert chosen >= {"ray-head", "renderer"}
    assert chosen <= {"ray-head", "renderer", "scheduler"}


def test_monitors_carry_the_labels_that_prometheus_looks_for() -> None:
    from tests.chart.rendering import laid_over, render
    from tests.chart.variants import values_of

    made = render(laid_over(values_of("everything"), {"monitoring": {"labels": {"release": "prometheus"}}}))
    for one in made.of("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert one["metadata"]["labels"]["release"] == "prometheus", one["kind"]
