"""What becomes of renders and shards, what caches save, and what is cleared away."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from farm.telemetry.shown import from_zero
from schemas.order import Lane
from schemas.report import FailureKind, Seconds

OUTCOMES = ("succeeded", "failed", "reused")
CACHES = ("checkpoint", "lora", "source", "prompt")
_WAITS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
_STAGES = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class WorkMetrics:
    """Renders and their shards."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.renders = Counter(
            "farm_renders_total",
            "Renders with an outcome: succeeded, failed, or reused from an earlier campaign.",
            ["outcome"],
            registry=registry,
        )
        self.given_up = Counter(
            "farm_renders_failed_total",
            "Renders that were given up, by the kind of failure.",
            ["kind"],
            registry=registry,
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
        self.rerolls = Counter(
            "farm_rerolls_total", "Tries made because an earlier one missed a check of its style.", registry=registry
        )
        self.checks_missed = Counter(
            "farm_checks_missed_total", "Checks that a kept picture misses.", ["check"], registry=registry
        )
        self.stage_seconds = Histogram(
            "farm_render_stage_seconds",
            "Seconds of a succeeded render by stage: fetch, load, encode, denoise, decode, publish; settle by batch.",
            ["stage"],
            buckets=_STAGES,
            registry=registry,
        )
        self._add_shards(registry)
        from_zero(self.renders, OUTCOMES)
        from_zero(self.given_up, FailureKind)
        from_zero(self.retries, FailureKind)
        from_zero(self.checks_missed, ("structure", "edges", "identity", "delta_e"))
        from_zero(self.stage_seconds, (*Seconds.model_fields, "settle"))
        from_zero(self.waits, Lane)

    def _add_shards(self, registry: CollectorRegistry) -> None:
        self.waits = Histogram(
            "farm_shard_wait_seconds",
            "Seconds that a shard was ready before a renderer got it, by lane: interactive, bulk.",
            ["lane"],
            buckets=_WAITS,
            registry=registry,
        )
        self.dispatched = Counter("farm_shards_dispatched_total", "Shards offered to a renderer.", registry=registry)
        self.leases_expired = Counter(
            "farm_leases_expired_total", "Leases that ended with their renderer.", registry=registry
        )
        self.leases_released = Counter(
            "farm_leases_released_total", "Leases whose renderer never got the shard.", registry=registry
        )
        self.refused_rows = Counter(
            "farm_reports_refused_rows_total", "Rows reported under an old fence.", registry=registry
        )


class QueueMetrics:
    """All teams' together. *view* is the registry of what only a leader knows."""

    def __init__(self, view: CollectorRegistry) -> None:
        self.renders = Gauge(
            "farm_queue_renders", "Renders without an outcome, by the state of their shard.", ["state"], registry=view
        )
        self.gpu_seconds = Gauge(
            "farm_queue_gpu_seconds", "GPU seconds that those are expected to take.", ["state"], registry=view
        )


class CacheMetrics:
    """By kind: checkpoint, lora, source, prompt. Of sources and prompts a load is an encoding."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hits = Counter(
            "farm_cache_hits_total",
            "Weights that were warm when a shard began, and sources and prompts that had been encoded before.",
            ["kind"],
            registry=registry,
        )
        self.loads = Counter(
            "farm_cache_loads_total",
            "Weights that had to be loaded, sources and prompts that had to be encoded.",
            ["kind"],
            registry=registry,
        )
        self.load_seconds = Counter(
            "farm_cache_load_seconds_total",
            "Seconds spent loading weights, and encoding sources and prompts.",
            ["kind"],
            registry=registry,
        )
        self.saved_seconds = Counter(
            "farm_cache_saved_seconds_total",
            "Seconds of loading that warm weights have saved, as loads are known to take.",
            ["kind"],
            registry=registry,
        )
        for counter in (self.hits, self.loads, self.load_seconds):
            from_zero(counter, CACHES)
        from_zero(self.saved_seconds, ("checkpoint", "lora"))


class UpkeepMetrics:
    """What the janitor and the depot's watch clear away. *view* is the registry of what only a leader knows."""

    def __init__(self, registry: CollectorRegistry, view: CollectorRegistry) -> None:
        self._registry: CollectorRegistry | None = registry
        self.unwanted = Counter(
            "farm_depot_unwanted_pictures_total", "Pictures deleted because nothing refers to them.", registry=registry
        )
        self.garbage = Counter(
            "farm_garbage_objects_total",
            "Objects in the depot that belong to no picture: orphans found, spared (in use after all), deleted.",
            ["what"],
            registry=registry,
        )
        self.alarms = Counter(
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
        self.done_at = Gauge(
            "farm_garbage_last_success_timestamp_seconds",
            "When a look for garbage last came to its end, on this process's watch; none before the first.",
            registry=None,
        )
        self.database_bytes = Gauge(
            "farm_database_bytes", "Size of the database, as of a minute ago at most.", registry=view
        )
        from_zero(self.garbage, ("orphans", "spared", "deleted"))
        from_zero(self.swept, ("events", "attempts", "sessions"))

    def cleaned(self, at: float) -> None:
        """A look for garbage came to its end, in seconds since 1970."""
        self.done_at.set(at)
        if self._registry is not None:
            self._registry.register(self.done_at)
            self._registry = None
