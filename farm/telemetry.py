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


class SchedulerMetrics:
    """What the scheduler counts. Measurements of renderers come with their reports; it exposes them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.leading = Gauge("farm_scheduler_leading", "1 while this scheduler leads.", registry=registry)
        self.epoch = Gauge("farm_scheduler_epoch", "Epoch in which this scheduler leads or led.", registry=registry)
        self.renders = Counter(
            "farm_renders_total",
            "Renders with an outcome: succeeded, failed, or reused from an earlier campaign.",
            ["outcome"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "farm_render_stage_seconds",
            "Seconds of a succeeded render by stage: fetch, load, encode, denoise, decode, publish; settle by batch.",
            ["stage"],
            buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.tick_seconds = Histogram(
            "farm_scheduler_tick_seconds", "Seconds to look, plan and act.", registry=registry
        )
        self.queue_renders = Gauge(
            "farm_queue_renders",
            "Renders without an outcome, by the state of their shard.",
            ["state"],
            registry=registry,
        )
        self.queue_gpu_seconds = Gauge(
            "farm_queue_gpu_seconds", "GPU seconds that those are expected to take.", ["state"], registry=registry
        )
        self.renderers = Gauge(
            "farm_renderers",
            "Renderers by state: starting, idle, busy, draining, quarantined.",
            ["state"],
            registry=registry,
        )
        self.cache_hits = Counter(
            "farm_cache_hits_total",
            "Weights that were warm when a shard began, and sources and prompts that had been encoded before.",
            ["kind"],
            registry=registry,
        )
        self.cache_loads = Counter(
            "farm_cache_loads_total",
            "Weights that had to be loaded, sources and prompts that had to be encoded.",
            ["kind"],
            registry=registry,
        )
        self.cache_load_seconds = Counter(
            "farm_cache_load_seconds_total",
            "Seconds spent loading weights, and encoding sources and prompts.",
            ["kind"],
            registry=registry,
        )
        self.dispatched = Counter("farm_shards_dispatched_total", "Shards offered to a renderer.", registry=registry)
        self.leases_expired = Counter(
            "farm_leases_expired_total", "Leases that ended with their renderer.", registry=registry
        )
        self.leases_released = Counter(
            "farm_leases_released_total", "Leases whose renderer never got the shard.", registry=registry
        )
        self.retries = Counter(
            "farm_render_retries_total",
            "Failed tries that are tried again, by kind of failure.",
            ["kind"],
            registry=registry,
        )
        self.failures = Counter(
            "farm_render_failed_tries_total", "Failed tries by their code.", ["code"], registry=registry
        )
        self.refused_rows = Counter(
            "farm_reports_refused_rows_total", "Rows reported under an old fence.", registry=registry
        )
        self.unavailable = Counter(
            "farm_scheduler_unavailable_total",
            "Turns lost because a part did not answer: store_down, depot_down, fleet_down.",
            ["code"],
            registry=registry,
        )
        self.deleted = Counter(
            "farm_depot_unwanted_pictures_total", "Pictures deleted because nothing refers to them.", registry=registry
        )
        self._add_engine(registry)
        self._add_overseen(registry)

    def _add_engine(self, registry: CollectorRegistry) -> None:
        """What happens inside of renderers."""
        self.renderer_seconds = Counter(
            "farm_renderer_gpu_seconds_total",
            "Seconds of a renderer's GPU thread by what it did: encode, denoise, decode, load, swap, wait, idle.",
            ["renderer", "doing"],
            registry=registry,
        )
        self.passes = Counter("farm_renderer_passes_total", "Passes of the UNet.", ["renderer"], registry=registry)
        self.pass_rows = Counter(
            "farm_renderer_pass_rows_total", "Rows in those passes, padding left out.", ["renderer"], registry=registry
        )
        self.rerolls = Counter(
            "farm_rerolls_total", "Tries made because an earlier one missed a check of its style.", registry=registry
        )
        self.checks_missed = Counter(
            "farm_checks_missed_total", "Checks that a kept picture misses.", ["check"], registry=registry
        )

    def _add_overseen(self, registry: CollectorRegistry) -> None:
        """What stands above single renders."""
        self.warm_seconds = Counter(
            "farm_cache_saved_seconds_total",
            "Seconds of loading that warm weights have saved, as loads are known to take.",
            ["kind"],
            registry=registry,
        )
        self.gpu_seconds = Counter("farm_charged_gpu_seconds_total", "GPU seconds charged to teams.", registry=registry)
        self.money = Counter("farm_charged_money_total", "What those cost, in the farm's currency.", registry=registry)
        self.renderers_wanted = Gauge("farm_renderers_wanted", "Renderers that the work asks for.", registry=registry)
        self.teams_waiting = Gauge("farm_teams_waiting", "Teams that have a shard ready.", registry=registry)
        self.late_campaigns = Gauge(
            "farm_campaigns_deadline_at_risk", "Campaigns that will miss their deadline.", registry=registry
        )
        self.warnings = Counter(
            "farm_campaign_warnings_total",
            "Warnings by code: deadline_at_risk, budget_near, budget_spent, team_budget_near.",
            ["code"],
            registry=registry,
        )
        self.quarantines = Counter("farm_quarantines_total", "Renderers put into quarantine.", registry=registry)
        self.garbage = Counter(
            "farm_garbage_objects_total",
            "Objects in the depot that belong to no picture: orphans found, spared (in use after all), deleted.",
            ["what"],
            registry=registry,
        )
        self.garbage_alarms = Counter(
            "farm_garbage_alarms_total",
            "Rounds that deleted nothing because too much would have gone; `farm garbage --force` deletes it.",
            registry=registry,
        )
        self.pruned = Counter(
            "farm_pruned_outcomes_total", "Outcomes forgotten because the retention time is over.", registry=registry
        )
        self.swept = Counter(
            "farm_swept_rows_total", "Rows deleted for their age, by table.", ["table"], registry=registry
        )
