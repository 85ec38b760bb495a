"""Logs and metrics. A metric's help text is its documentation; names follow the Prometheus conventions."""

from prometheus_client import disable_created_metrics

from farm.telemetry.api import ApiMetrics
from farm.telemetry.logs import configure_logging
from farm.telemetry.parts import PartMetrics
from farm.telemetry.renderers import FleetMetrics, GpuMetrics
from farm.telemetry.scheduler import SchedulerMetrics
from farm.telemetry.teams import TeamMetrics

__all__ = [
    "ApiMetrics",
    "FleetMetrics",
    "GpuMetrics",
    "PartMetrics",
    "SchedulerMetrics",
    "TeamMetrics",
    "configure_logging",
]

disable_created_metrics()  # type: ignore[no-untyped-call]  # or each counter had a second series, of when it began
