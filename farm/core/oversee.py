"""What stands above single shards: budgets, deadlines, bad renderers, how many renderers there should be.

`oversee` turns what is known of them into decisions, and into the rules that `plan` places by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm.core.budget import Budgets, Pause, Purse, Resume, TeamPurse, Unwarn, Warn, judge_budgets
from farm.core.costs import load_seconds, price_of
from farm.core.deadline import Demand, Forecast, forecast
from farm.core.evidence import Quarantine, Release, Verdict, judge
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, RendererName
from farm.core.placement import Backlog, Loading, Rules
from farm.core.plan import Held, Seen
from farm.core.records import Accusation, LoadCost, Quarantined
from farm.core.scaling import FleetSpec, Load, Standing, Window, in_window, surplus, wanted

_LEAST_SECONDS = 1e-3
"""Of a shard, however little it is said to take: it takes a renderer."""

Governing = Pause | Resume | Warn | Unwarn | Quarantine | Release


@dataclass(frozen=True, slots=True)
class Scale:
    """How renderers come and go."""

    fleets: Sequence[FleetSpec]
    drain_seconds: float
    idle_seconds: float
    off_peak: Sequence[Window] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    now: datetime
    purses: Sequence[Purse]
    team_purses: Sequence[TeamPurse]
    backlog: Mapping[tuple[CampaignId, str], Backlog]
    held: Sequence[Held]
    teams: Sequence[TeamShare]
    seen: Sequence[Seen]
    speeds: Mapping[str, float]  # by type of GPU, against the farm's mean
    load_costs: Sequence[LoadCost]
    prices: Mapping[str, float]
    accusations: Sequence[Accusation]
    quarantined: Sequence[Quarantined]
    succeeded: frozenset[RendererName]
    scale: Scale


@dataclass(frozen=True, slots=True)
class Oversight:
    decisions: tuple[Governing, ...]
    rules: Rules
    verdict: Verdict
    finish: Mapping[CampaignId, datetime]  # when campaigns with a deadline will be through, as it looks
    wake: tuple[RendererName, ...]
    retire: tuple[RendererName, ...]
    wanted: int
    off_peak: bool


def oversee(view: Overview) -> Oversight:
    off_peak = in_window(view.scale.off_peak, view.now)
    measured = view.speeds
    under_way = _under_way(view.held)
    budgets = judge_budgets(
        view.purses, view.team_purses, under_way=under_way, money_per_second=_money_per_second(view)
    )
    left = _left(view, under_way)
    times = _forecast(view, left, measured)
    names = frozenset(renderer.name for renderer in view.seen if renderer.session is not None)
    verdict = judge(view.accusations, view.quarantined, names=names, succeeded=view.succeeded, now=view.now)
    wake, retire, most = _scaled(view, _load(view, left, budgets, off_peak=off_peak), verdict, off_peak=off_peak)
    return Oversight(
        decisions=(*budgets.decisions, *times.decisions, *verdict.decisions),
        rules=Rules(
            loading=_loading(view),
            room=budgets.room,
            team_room=budgets.team_room,
            urgent=times.urgent,
            off_peak=off_peak,
            speeds={gpu: measured.get(gpu, 1.0) for gpu in sorted({r.gpu for r in view.seen if r.gpu})},
        ),
        verdict=verdict,
        finish=times.finish,
        wake=wake,
        retire=retire,
        wanted=most,
        off_peak=off_peak,
    )


def _under_way(held: Sequence[Held]) -> dict[CampaignId, float]:
    found: dict[CampaignId, float] = {}
    for lease in held:
        found[lease.campaign] = found.get(lease.campaign, 0.0) + lease.gpu_seconds
    return found


def _left(view: Overview, under_way: Mapping[CampaignId, float]) -> dict[CampaignId, float]:
    """GPU seconds that each campaign still needs."""
    found = dict(under_way)
    for (campaign, _), backlog in view.backlog.items():
        found[campaign] = found.get(campaign, 0.0) + backlog.seconds
    return found


def _money_per_second(view: Overview) -> float:
    """The mean over the renderers there are; before there is one, over what has a price."""
    gpus = [renderer.gpu for renderer in view.seen if renderer.gpu]
    hourly = [price_of(view.prices, gpu) for gpu in gpus] or list(view.prices.values())
    return sum(hourly) / len(hourly) / 3600 if hourly else 0.0


def _loading(view: Overview) -> Loading:
    gpus = sorted({renderer.gpu for renderer in view.seen if renderer.gpu})
    return Loading(
        checkpoint={gpu: load_seconds(view.load_costs, gpu, "checkpoint") for gpu in gpus},
        lora={gpu: load_seconds(view.load_costs, gpu, "lora") for gpu in gpus},
    )


def _forecast(view: Overview, left: Mapping[CampaignId, float], measured: Mapping[str, float]) -> Forecast:
    strength = sum(measured.get(renderer.gpu, 1.0) for renderer in view.seen if renderer.session is not None)
    most = max(strength, float(sum(fleet.most for fleet in view.scale.fleets)))
    weights = {share.team: share.weight for share in view.teams} or {}
    total = sum(weights.values()) or 1.0
    demands = [Demand(purse, left.get(purse.campaign, 0.0)) for purse in view.purses]
    teams = {purse.team for purse in view.purses}
    return forecast(
        demands,
        capacity={team: strength * weights.get(team, 1.0) / total for team in teams},
        most={team: most * weights.get(team, 1.0) / total for team in teams},
        now=view.now,
    )


def _load(view: Overview, left: Mapping[CampaignId, float], budgets: Budgets, *, off_peak: bool) -> Load:
    """What renderers are wanted for: no more than budgets allow, and nothing that waits for other hours."""
    asleep = {purse.campaign for purse in view.purses if purse.off_peak and not off_peak}
    paused = {decision.campaign for decision in budgets.decisions if isinstance(decision, Pause)}
    seconds = sum(lease.gpu_seconds for lease in view.held)
    shards = len(view.held)
    for (campaign, _), backlog in view.backlog.items():
        room = budgets.room.get(campaign, backlog.seconds)
        if campaign not in asleep and campaign not in paused and room > 0:
            seconds += min(max(backlog.seconds, backlog.shards * _LEAST_SECONDS), room)
            shards += backlog.shards
    urgent = sum(
        left.get(purse.campaign, 0.0) / max(1.0, (purse.deadline - view.now).total_seconds())
        for purse in view.purses
        if purse.deadline is not None and purse.campaign not in asleep | paused
    )
    return Load(seconds=seconds, shards=shards, deadline_renderers=urgent)


def _scaled(
    view: Overview, load: Load, verdict: Verdict, *, off_peak: bool
) -> tuple[tuple[RendererName, ...], tuple[RendererName, ...], int]:
    """Renderers to wake, renderers to retire, and how many are wanted in all. The first fleet fills first."""
    wake: list[RendererName] = []
    retire: list[RendererName] = []
    all_wanted = 0
    for fleet in view.scale.fleets:
        mine = [renderer for renderer in view.seen if renderer.name.startswith(fleet.prefix)]
        shut = [renderer for renderer in mine if renderer.name in verdict.closed]
        there = [renderer for renderer in mine if renderer not in shut and not renderer.draining]
        standing = Standing(present=len(there), quarantined=len(shut))
        count = wanted(
            fleet,
            standing,
            load,
            drain_seconds=view.scale.drain_seconds,
            off_peak=off_peak and bool(view.scale.off_peak),
        )
        all_wanted += count
        load = load.without(count, view.scale.drain_seconds)
        names = {renderer.name for renderer in mine}
        missing = (name for n in range(fleet.most) if (name := RendererName(f"{fleet.prefix}{n}")) not in names)
        wake += [name for name, _ in zip(missing, range(count - len(there)), strict=False)]
        retire += surplus(there, wanted=count, idle_seconds=view.scale.idle_seconds)
    return tuple(wake), tuple(retire), all_wanted
