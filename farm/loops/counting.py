"""What the scheduler saw, as metrics."""

from collections import Counter
from collections.abc import Iterable, Sequence

from farm.core.records import QueueDepth
from farm.telemetry import SchedulerMetrics
from farm.usecases.settle_reports import Tally
from schemas.report import CacheCounts, Seconds


def count_settled(metrics: SchedulerMetrics, tally: Tally) -> None:
    metrics.renders.labels("succeeded").inc(tally.succeeded)
    metrics.renders.labels("failed").inc(tally.failed)
    metrics.refused_rows.inc(tally.refused)
    for seconds in tally.seconds:
        for stage in Seconds.model_fields:
            metrics.stage_seconds.labels(stage).observe(getattr(seconds, stage))
    for failure in tally.failures:
        metrics.failures.labels(failure.code).inc()
    for kind in tally.retried:
        metrics.retries.labels(kind).inc()


def count_cache(metrics: SchedulerMetrics, grown: CacheCounts) -> None:
    for kind in ("checkpoint", "lora"):
        metrics.cache_hits.labels(kind).inc(getattr(grown, f"{kind}_hits"))
        metrics.cache_loads.labels(kind).inc(getattr(grown, f"{kind}_loads"))
        metrics.cache_load_seconds.labels(kind).inc(getattr(grown, f"{kind}_load_seconds"))


def show_queue(metrics: SchedulerMetrics, depths: Sequence[QueueDepth]) -> None:
    found = {depth.state: depth for depth in depths}
    for state in ("ready", "leased"):
        depth = found.get(state)
        metrics.queue_renders.labels(state).set(depth.renders if depth else 0)
        metrics.queue_gpu_seconds.labels(state).set(depth.gpu_seconds if depth else 0)


def show_renderers(metrics: SchedulerMetrics, states: Iterable[str]) -> None:
    found = Counter(states)
    for name in ("starting", "idle", "busy", "draining"):
        metrics.renderers.labels(name).set(found[name])
