"""What happened, as metrics that count up. How things stand is in `farm.loops.showing`."""

from collections.abc import Collection, Iterable, Mapping

from farm.core.ids import ShardId, TeamId
from farm.core.placement import Queue
from farm.core.settle import Ends
from farm.loops.mate import Wear
from farm.loops.roster import Roster
from farm.telemetry import SchedulerMetrics
from farm.telemetry.work import CACHES
from farm.usecases.settle_reports import Tally
from schemas.report import CacheCounts, GpuTime, Seconds

DOING = ("encode", "denoise", "decode", "load", "swap", "wait", "idle")
"""What a GPU thread does, one thing at a time."""


def count_settled(metrics: SchedulerMetrics, tally: Tally, names: Mapping[TeamId, str]) -> None:
    """*names* are those of all teams that it is about."""
    count_ends(metrics, tally.ends, names)
    metrics.work.refused_rows.inc(tally.refused)
    for seconds in tally.seconds:
        for stage in Seconds.model_fields:
            metrics.work.stage_seconds.labels(stage).observe(getattr(seconds, stage))
    for failure in tally.failures:
        metrics.work.failures.labels(failure.code).inc()
    for kind in tally.retried:
        metrics.work.retries.labels(kind).inc()
    metrics.work.rerolls.inc(tally.rerolls)
    for check, renders in tally.missed.items():
        metrics.work.checks_missed.labels(check).inc(renders)
    for (team, fleet), spent in tally.charged.items():
        metrics.teams.gpu_seconds.labels(names.get(team, ""), fleet).inc(spent.gpu_seconds)
        metrics.teams.money.labels(names.get(team, ""), fleet).inc(spent.money)


def count_ends(metrics: SchedulerMetrics, ends: Ends, names: Mapping[TeamId, str]) -> None:
    for (team, outcome), renders in ends.by_team.items():
        metrics.work.renders.labels(outcome).inc(renders)
        metrics.teams.renders.labels(names.get(team, ""), outcome).inc(renders)
    for kind, renders in ends.given_up.items():
        metrics.work.given_up.labels(kind).inc(renders)


def count_cache(metrics: SchedulerMetrics, grown: CacheCounts, loading: Mapping[str, float]) -> None:
    """*loading*: seconds that a load of weights takes there, by kind: what a hit has saved."""
    for kind in CACHES:
        hits = getattr(grown, f"{kind}_hits")
        metrics.cache.hits.labels(kind).inc(hits)
        if kind in loading:
            metrics.cache.saved_seconds.labels(kind).inc(hits * loading[kind])
        metrics.cache.loads.labels(kind).inc(getattr(grown, f"{kind}_loads"))
        metrics.cache.load_seconds.labels(kind).inc(getattr(grown, f"{kind}_load_seconds"))


def count_gpu(metrics: SchedulerMetrics, renderer: str, grown: GpuTime, wear: Wear) -> None:
    for doing in DOING:
        metrics.gpus.seconds.labels(renderer, doing).inc(getattr(grown, doing))
    metrics.gpus.passes.labels(renderer).inc(grown.passes)
    metrics.gpus.pass_rows.labels(renderer).inc(grown.rows)
    if wear.energy_joules is not None:
        metrics.gpus.energy.labels(renderer).inc(wear.energy_joules)
    for kind, errors in (("corrected", wear.ecc_corrected), ("uncorrected", wear.ecc_uncorrected)):
        if errors is not None:
            metrics.gpus.ecc.labels(renderer, kind).inc(errors)


def count_waits(metrics: SchedulerMetrics, offered: Collection[ShardId], queues: Iterable[Queue]) -> None:
    """Of shards that were offered, how long they had been ready when the queues were looked at."""
    wanted = frozenset(offered)
    for queue in queues:
        for head in queue.heads:
            if head.shard in wanted:
                metrics.work.waits.labels(queue.lane).observe(head.waited)


def count_goings(metrics: SchedulerMetrics, roster: Roster) -> None:
    """Renderers that were told to go or were lost since the last time."""
    for counter, found in ((metrics.fleets.drains, roster.drained), (metrics.fleets.losses, roster.lost)):
        for labels, renderers in found.items():
            counter.labels(*labels).inc(renderers)
        found.clear()
