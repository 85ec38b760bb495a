"""Service levels: what share of events may be bad, and alerts on how fast that share is used up.

A service level of 99.9 % leaves a budget of 0.1 %. A burn rate of 1 uses it up in exactly its 30 days, one of 14.4 uses
2 % of it in one hour. Each alert wants the rate in a long window, so that a hiccup wakes nobody, and in a short one, so
that it ends soon after the fault does. (Beyer et al., The Site Reliability Workbook, chapter 5, table 5-8.)

`python -m ops.alerts` writes what this says to rules/slo.yaml; a test compares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "rules" / "slo.yaml"
_HEAD = "# Made by `python -m ops.alerts` from ops/alerts/slo.py; do not edit.\n"

LEAST_BAD = 10
"""Bad events in the long window, below which nobody is told. Of 60 requests an hour one that fails is a burn rate of
16, and no reason to get up."""

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Window:
    """An alert when the budget burns *factor* times too fast, in the *long* and in the *short* window."""

    severity: str
    factor: float
    long: str
    short: str
    pending: str


WINDOWS = (
    Window("page", 14.4, "1h", "5m", "2m"),
    Window("page", 6.0, "6h", "30m", "5m"),
    Window("ticket", 3.0, "1d", "2h", "15m"),
    Window("ticket", 1.0, "3d", "6h", "30m"),
)


@dataclass(frozen=True, slots=True)
class Slo:
    """*bad* and *total* are vectors of events a second; ``$w`` stands for the window. *budget* is the share that may
    be bad."""

    name: str
    alert: str
    record: str
    budget: float
    bad: str
    total: str
    summary: str
    promise: str


_REQUESTS = 'route!~"/healthz|/readyz|/metrics"'  # what machines ask every few seconds would hide what people ask
_GETS = f'method="GET",{_REQUESTS}'
_OURS = 'kind!~"bad_source|bad_weights"'  # the other two are faults of what was uploaded
_SUCCEEDED = 'farm_renders_total{outcome="succeeded"}'

SLOS = (
    Slo(
        name="api-availability",
        alert="HalftoneApiAvailabilityBurn",
        record="farm_api_requests_failed",
        budget=0.001,
        bad=f'rate(farm_api_requests_total{{status=~"5..",{_REQUESTS}}}[$w])'
        f"\n  or 0 * rate(farm_api_requests_total{{{_REQUESTS}}}[$w])",
        total=f"rate(farm_api_requests_total{{{_REQUESTS}}}[$w])",
        summary="The API fails {{ $value | humanizePercentage }} of its requests",
        promise="99.9 % of requests are not answered with 5xx",
    ),
    Slo(
        name="api-latency",
        alert="HalftoneApiLatencyBurn",
        record="farm_api_requests_slow",
        budget=0.01,
        bad=f"rate(farm_api_request_seconds_count{{{_GETS}}}[$w])"
        f'\n  - ignoring (le) rate(farm_api_request_seconds_bucket{{{_GETS},le="1.0"}}[$w])',
        total=f"rate(farm_api_request_seconds_count{{{_GETS}}}[$w])",
        summary="{{ $value | humanizePercentage }} of what the API is asked takes longer than a second",
        promise="99 % of GET requests are answered within a second",
    ),
    Slo(
        name="renders",
        alert="HalftoneRendersFailBurn",
        record="farm_renders_given_up",
        budget=0.005,
        bad=f"rate(farm_renders_failed_total{{{_OURS}}}[$w])\n  or 0 * rate({_SUCCEEDED}[$w])",
        total=f"rate({_SUCCEEDED}[$w])\n  or rate(farm_renders_failed_total{{{_OURS}}}[$w])",
        summary="{{ $value | humanizePercentage }} of renders are given up",
        promise="99.5 % of renders succeed, bad sources and weights left out",
    ),
    Slo(
        name="interactive-wait",
        alert="HalftoneInteractiveWaitBurn",
        record="farm_shard_waits_long",
        budget=0.05,
        bad='rate(farm_shard_wait_seconds_count{lane="interactive"}[$w])'
        '\n  - ignoring (le) rate(farm_shard_wait_seconds_bucket{lane="interactive",le="300.0"}[$w])',
        total='rate(farm_shard_wait_seconds_count{lane="interactive"}[$w])',
        summary="{{ $value | humanizePercentage }} of interactive work waits longer than five minutes",
        promise="95 % of interactive shards get a renderer within five minutes",
    ),
)


def page() -> str:
    """The rule file."""
    groups = [group for slo in SLOS for group in (_recordings(slo), _alerts(slo))]
    return _HEAD + yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=200, allow_unicode=True)


def _recordings(slo: Slo) -> Mapping[str, Any]:
    windows = sorted({window for one in WINDOWS for window in (one.long, one.short)}, key=_seconds)
    rules = [{"record": _ratio(slo, window), "expr": _share(slo, window)} for window in windows]
    for one in WINDOWS:
        bad = _sum(slo.bad, one.long)
        rules.append({"record": _count(slo, one.long), "expr": f"{bad} * {_seconds(one.long)}"})
    return {"name": f"halftone-slo-{slo.name}-windows", "rules": rules}


def _alerts(slo: Slo) -> Mapping[str, Any]:
    return {"name": f"halftone-slo-{slo.name}", "rules": [_alert(slo, window) for window in WINDOWS]}


def _alert(slo: Slo, window: Window) -> Mapping[str, Any]:
    limit = f"{window.factor * slo.budget:.4g}"
    parts = (
        f"{_ratio(slo, window.long)} > {limit}",
        f"and {_ratio(slo, window.short)} > {limit}",
        f"and {_count(slo, window.long)} >= {LEAST_BAD}",
    )
    return {
        "alert": slo.alert,
        "expr": "\n".join(parts),
        "for": window.pending,
        "labels": {"severity": window.severity, "slo": slo.name, "window": window.long},
        "annotations": {
            "summary": slo.summary,
            "description": f"More than {100 * float(limit):.4g} % were bad in the last {window.long} and in the last "
            f"{window.short}. Promised: {slo.promise}. At this rate the budget of 30 days is used up in "
            f"{_until_spent(window.factor)}.",
            "runbook_url": f"ops/runbooks/alerts/{slo.alert}.md",
        },
    }


def _share(slo: Slo, window: str) -> str:
    """Without traffic there is no sample, and so no alert and no division by zero."""
    return f"{_sum(slo.bad, window)}\n/ ({_sum(slo.total, window)} > 0)"


def _sum(events: str, window: str) -> str:
    return f"sum by (namespace) (\n  {events}\n)".replace("$w", window)


def _ratio(slo: Slo, window: str) -> str:
    return f"namespace:{slo.record}:ratio_rate{window}"


def _count(slo: Slo, window: str) -> str:
    return f"namespace:{slo.record}:increase{window}"


def _seconds(window: str) -> int:
    return int(window[:-1]) * _SECONDS[window[-1]]


def _until_spent(factor: float) -> str:
    days = 30 / factor
    return f"{days:.3g} days" if days >= 3 else f"{days * 24:.3g} hours"


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
