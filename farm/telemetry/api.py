"""What the API counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from farm.telemetry.parts import PartMetrics
from farm.telemetry.shown import from_zero


class ApiMetrics:
    """It has a registry of its own, so that two apps in one process stay apart."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.parts = PartMetrics(registry)
        self.requests = Counter(
            "farm_api_requests_total",
            "Requests by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "farm_api_request_seconds",
            "Seconds until a request's reply was sent; event streams are left out.",
            ["method", "route"],
            registry=registry,
        )
        self.streams = Gauge("farm_api_event_streams", "Event streams that are open.", registry=registry)
        self.uploaded = Counter("farm_api_uploaded_bytes_total", "Bytes taken in as uploads.", registry=registry)
        self.submitted = Counter(
            "farm_api_submitted_renders_total", "Renders in accepted campaigns.", registry=registry
        )
        self.errors = Counter(
            "farm_api_unavailable_total",
            "Requests refused because a part did not answer, by code: store_down, depot_down, disk_full.",
            ["code"],
            registry=registry,
        )
        from_zero(self.errors, ("store_down", "depot_down", "disk_full"))
