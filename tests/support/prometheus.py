"""Debian's Prometheus, scraping as the chart says: its ServiceMonitors become jobs, its rules are loaded.

What an operator adds to each series (namespace, service, job, pod, endpoint) is added here in the same way.
"""

import json
import math
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.chart.policies import selects
from tests.chart.rendering import Object, Release
from tests.support.faults import until

HOST = "127.0.0.1"
PROMETHEUS = shutil.which("prometheus")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a component of the farm answers, in place of its pods."""

    component: str
    port: int


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def ask(self, path: str, **query: str | float) -> Any:
        """Raises `AssertionError` with Prometheus' own words when it refuses."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def series(self, expr: str, *, start: float, end: float, step: float = 1) -> list[Mapping[str, Any]]:
        """Its course; points that are no number are left out, and series without any other."""
        found = self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [one for one in found if any(math.isfinite(float(value)) for _, value in one["values"])]

    def value(self, expr: str) -> float | None:
        """Of a single figure, now."""
        result = self.ask("query", query=expr)["result"]
        return float(result[0]["value"][1]) if result else None

    def up(self) -> list[tuple[str, str]]:
        """Health of each target, by job."""
        targets = self.ask("targets")["activeTargets"]
        return sorted((target["labels"]["job"], target["health"]) for target in targets)


def scrape_jobs(release: Release, targets: Sequence[Target], *, interval: str | None = None) -> list[Object]:
    """One job for each endpoint of each ServiceMonitor. *interval* goes before the chart's."""
    jobs = []
    for monitor in release.of("ServiceMonitor"):
        for service in release.of("Service"):
            if selects(monitor["spec"]["selector"], service["metadata"].get("labels") or {}):
                jobs += [_job(release, monitor, service, end, targets, interval) for end in _ends(monitor, service)]
    return jobs


def _ends(monitor: Object, service: Object) -> Iterator[Object]:
    ports = {port.get("name") for port in service["spec"]["ports"]}
    yield from (end for end in monitor["spec"]["endpoints"] if end["port"] in ports)


def _job(
    release: Release, monitor: Object, service: Object, end: Object, targets: Sequence[Target], interval: str | None
) -> Object:
    name, labels = service["metadata"]["name"], service["metadata"].get("labels") or {}
    component = service["spec"]["selector"]["app.kubernetes.io/component"]
    own = {
        "namespace": release.namespace_of(service),
        "service": name,
        "endpoint": end["port"],
        "pod": f"{name}-0",
        "__meta_kubernetes_namespace": release.namespace_of(service),
        "__meta_kubernetes_service_name": name,
        "__meta_kubernetes_pod_name": f"{name}-0",
    }
    addresses = [f"{HOST}:{target.port}" for target in targets if target.component == component]
    return {
        # The operator's name for it; the label `job` is the service's unless `jobLabel` names a label of it.
        "job_name": str(labels.get(monitor["spec"].get("jobLabel", ""), name)),
        "metrics_path": end.get("path", "/metrics"),
        "scheme": end.get("scheme", "http"),
        "scrape_interval": interval or end.get("interval", "30s"),
        "scrape_timeout": interval or end.get("scrapeTimeout", "10s"),
        "honor_labels": bool(end.get("honorLabels", False)),
        "static_configs": [{"targets": addresses, "labels": own}],
        "relabel_configs": _relabelled(end.get("relabelings", ())),
        "metric_relabel_configs": _relabelled(end.get("metricRelabelings", ())),
    }


def _relabelled(rules: Sequence[Object]) -> list[Object]:
    """The operator writes them in camel case."""
    return [{re.sub(r"[A-Z]", lambda c: f"_{c[0].lower()}", key): value for key, value in r.items()} for r in rules]


def rule_groups(release: Release) -> list[Object]:
    return [group for one in release.of("PrometheusRule") for group in one["spec"]["groups"]]


@contextmanager
def prometheus(
    folder: Path, jobs: Sequence[Object], groups: Sequence[Object] = (), *, evaluated: str = "1s"
) -> Iterator[Prometheus]:
    """Up until the block ends. Its data and its log lie in *folder*."""
    assert PROMETHEUS is not None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{**one, "interval": evaluated} for one in groups]}))
    settings: Object = {"global": {"evaluation_interval": evaluated}, "scrape_configs": list(jobs)}
    settings["rule_files"] = [str(folder / "rules.yaml")]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = _free_port()
    argv = [PROMETHEUS, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    argv += [f"--web.listen-address={HOST}:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://{HOST}:{port}"
        until(lambda: _ready(url, process, folder / "log"), "Prometheus is ready", seconds=30)
        yield Prometheus(url)
    finally:
        _end(process)


def _ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        psutil.Process(process.pid).kill()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


def waited(prometheus: Prometheus, expr: str, *, seconds: float = 30) -> None:
    """Until the expression has a value."""
    until(lambda: prometheus.value(expr) is not None, f"{expr} has a value", seconds=seconds)


def now() -> float:
    """As Prometheus counts it."""
    return time.time()
