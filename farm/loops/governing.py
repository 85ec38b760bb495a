"""Carries out what `oversee` decided, and says how the farm looks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import assert_never

import structlog

from farm.core.budget import Pause, Resume, Unwarn, Warn
from farm.core.evidence import Quarantine, Release
from farm.core.oversee import Governing, Oversight, Scale
from farm.core.records import FarmView
from farm.loops.looking import Looked
from farm.loops.mate import Mate
from farm.ports import SchedulerTx
from farm.telemetry import SchedulerMetrics
from schemas.report import CacheCounts

_log = structlog.get_logger()


def govern(tx: SchedulerTx, decisions: Sequence[Governing], metrics: SchedulerMetrics) -> None:
    """In one transaction. Each may be asked for again; what is done already is left alone."""
    for decision in decisions:
        match decision:
            case Pause(campaign, by, detail):
                if tx.pause(campaign, by, detail):
                    _log.info("campaign_paused", campaign=campaign, by=by, detail=detail)
            case Resume(campaign):
                if tx.resume(campaign):
                    _log.info("campaign_resumed", campaign=campaign)
            case Warn(campaign, code, detail, data):
                tx.warn(campaign, code, detail, dict(data))
                metrics.teams.warnings.labels(code).inc()
            case Unwarn(campaign, code):
                tx.unwarn(campaign, code)
            case Quarantine(name, why, lasts):
                _log.error("renderer_quarantined", name=name, why=why, seconds=lasts.total_seconds())
                tx.quarantine(name, why=why, lasts=lasts)
                metrics.fleets.quarantines.inc()
            case Release(name):
                _log.info("renderer_released", name=name)
                tx.release(name)
            case _:
                assert_never(decision)


def learn_loads(tx: SchedulerTx, loads: Iterable[tuple[str, CacheCounts]]) -> None:
    """What loading weights takes, by type of GPU."""
    found: dict[tuple[str, str], list[float]] = {}
    for gpu, cache in loads:
        for kind in ("checkpoint", "lora"):
            total = found.setdefault((gpu, kind), [0.0, 0.0])
            total[0] += getattr(cache, f"{kind}_load_seconds")
            total[1] += getattr(cache, f"{kind}_loads")
    for (gpu, kind), (seconds, count) in sorted(found.items()):
        if count:
            tx.learn_load(gpu, kind, seconds=seconds, loads=int(count))


def farm_view(looked: Looked, oversight: Oversight, mates: Iterable[Mate], scale: Scale, *, depot_up: bool) -> FarmView:
    """The leader's look at the farm, for those who cannot see the renderers."""
    closed = oversight.verdict.closed
    states = Counter(
        (mate.hello.gpu if mate.hello else "", "quarantined" if mate.name in closed else mate.state) for mate in mates
    )
    known = {gpu for gpu, _ in states if gpu} | {fleet.gpu for fleet in scale.fleets if fleet.gpu}
    return FarmView(
        at=looked.now,
        leading=True,
        depot_up=depot_up,
        off_peak=oversight.off_peak,
        renderers=tuple((gpu, state, count) for (gpu, state), count in sorted(states.items())),
        wanted=oversight.wanted,
        most=sum(fleet.most for fleet in scale.fleets),
        gpus=tuple(sorted(known)),
    )
