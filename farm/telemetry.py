"""Logs and metrics. A metric's help text is its documentation; names follow the Prometheus conventions."""

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


def configure_logging(*, json: bool = True, level: str = "INFO") -> None:
    """structlog to stderr: JSON for machines, else lines for people. What libraries log goes the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[meta, last]))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class ApiMetrics:
    """What the API counts. It has a registry of its own, so that two apps in one process stay apart."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
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
