"""What the scheduler saw, as metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from farm.core.oversee import Oversight
from farm.core.placement import Backlog
from farm.core.plan import Held
from farm.loops.looking import Looked
from farm.telemetry import SchedulerMetrics
from farm.usecases.settle_reports import Tally
from schemas.report import CacheCounts, GpuTime, Seconds


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
    metrics.rerolls.inc(tally.rerolls)
    for check, renders in tally.missed.items():
        metrics.checks_missed.labels(check).inc(renders)
    metrics.gpu_seconds.inc(tally.gpu_seconds)
    metrics.money.inc(tally.money)


def count_cache(metrics: SchedulerMetrics, grown: CacheCounts, loading: Mapping[str, float]) -> None:
    """*loading*: seconds that a load of weights takes there, by kind: what a hit has saved."""
    for kind in ("checkpoint", "lora", "source", "prompt"):
        hits = getattr(grown, f"{kind}_hits")
        metrics.cache_hits.labels(kind).inc(hits)
        if kind in loading:
            metrics.warm_seconds.labels(kind).inc(hits * loading[kind])
        metrics.cache_loads.labels(kind).inc(getattr(grown, f"{kind}_loads"))
        metrics.cache_load_seconds.labels(kind).inc(getattr(grown, f"{kind}_load_seconds"))


def count_gpu(metrics: SchedulerMetrics, renderer: str, grown: GpuTime) -> None:
    for doing in ("encode", "denoise", "decode", "load", "swap", "wait", "idle"):
        metrics.renderer_seconds.labels(renderer, doing).inc(getattr(grown, doing))
    metrics.passes.labels(renderer).inc(grown.passes)
    metrics.pass_rows.labels(renderer).inc(grown.rows)


def show_queue(metrics: SchedulerMetrics, backlogs: Iterable[Backlog], held: Sequence[Held]) -> None:
    ready = list(backlogs)
    metrics.queue_renders.labels("ready").set(sum(backlog.renders for backlog in ready))
    metrics.queue_gpu_seconds.labels("ready").set(sum(backlog.seconds for backlog in ready))
    metrics.queue_renders.labels("leased").set(sum(lease.renders for lease in held))
    metrics.queue_gpu_seconds.labels("leased").set(sum(lease.gpu_seconds for lease in held))


def show_renderers(metrics: SchedulerMetrics, states: Iterable[str]) -> None:
    found = Counter(states)
    for name in ("starting", "idle", "busy", "draining"):
        metrics.renderers.labels(name).set(found[name])


def show_oversight(metrics: SchedulerMetrics, oversight: Oversight, looked: Looked) -> None:
    metrics.renderers.labels("quarantined").set(len(looked.quarantined))
    metrics.renderers_wanted.set(oversight.wanted)
    metrics.teams_waiting.set(len({queue.team for queue in looked.queues}))
    metrics.late_campaigns.set(sum("deadline_at_risk" in purse.warnings for purse in looked.purses))
