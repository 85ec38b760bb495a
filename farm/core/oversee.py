"""What stands above single shards: budgets, deadlines, bad renderers, how many renderers there should be.

`oversee` turns what is known of them into decisions, and into the rules that `plan` places by.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
from farm.core.scaling import FleetSpec, Load, Standing, Window, in_window, most_of, surplus, until_window, wanted

_LEAST_SECONDS = 1e-3
"""Of a shard, however little it is said to take: it takes a renderer."""

_STUCK_SECONDS = 600.0
"""A renderer that has had no node for so long stays as demand, and takes no work away from the next fleet."""

Governing = Pause | Resume | Warn | Unwarn | Quarantine | Release


Loads = dict[str | None, Load]
"""What waits, by the type of GPU that it asks for."""


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
    held_back: Mapping[CampaignId, float] = field(default_factory=dict)  # GPU seconds that wait for approval


@dataclass(frozen=True, slots=True)
class FleetSize:
    """How many renderers the work asks for, and how many there may be now."""

    wanted: int
    most: int


@dataclass(frozen=True, slots=True)
class Oversight:
    decisions: tuple[Governing, ...]
    rules: Rules
    verdict: Verdict
    finish: Mapping[CampaignId, datetime]  # when campaigns with a deadline will be through, as it looks
    wake: tuple[RendererName, ...]
    retire: tuple[RendererName, ...]
    fleets: Mapping[str, FleetSize]
    off_peak: bool

    @property
    def wanted(self) -> int:
        return sum(fleet.wanted for fleet in self.fleets.values())


@dataclass(frozen=True, slots=True)
class _Scaled:
    wake: tuple[RendererName, ...]
    retire: tuple[RendererName, ...]
    fleets: Mapping[str, FleetSize]


def oversee(view: Overview) -> Oversight:
    off_peak = in_window(view.scale.off_peak, view.now)
    under_way = _under_way(view.held)
    budgets = judge_budgets(
        view.purses, view.team_purses, under_way=under_way, money_per_second=_money_per_second(view)
    )
    left = _left(view, under_way)
    names = frozenset(renderer.name for renderer in view.seen if renderer.session is not None)
    verdict = judge(view.accusations, view.quarantined, names=names, succeeded=view.succeeded, now=view.now)
    times = _forecast(view, left, verdict)
    loads = _loads(view, left, budgets, _blocked(view, budgets, off_peak=off_peak))
    scaled = _scaled(view, loads, verdict, off_peak=off_peak)
    return Oversight(
        decisions=(*budgets.decisions, *times.decisions, *verdict.decisions),
        rules=Rules(
            loading=_loading(view),
            room=budgets.room,
            team_room=budgets.team_room,
            urgent=times.urgent,
            off_peak=off_peak,
            speeds={gpu: view.speeds.get(gpu, 1.0) for gpu in sorted({r.gpu for r in view.seen if r.gpu})},
        ),
        verdict=verdict,
        finish=times.finish,
        wake=scaled.wake,
        retire=scaled.retire,
        fleets=scaled.fleets,
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


def _forecast(view: Overview, left: Mapping[CampaignId, float], verdict: Verdict) -> Forecast:
    working = [r for r in view.seen if r.session is not None and r.name not in verdict.closed and not r.draining]
    strength = sum(view.speeds.get(renderer.gpu, 1.0) for renderer in working)
    most = max(strength, float(sum(fleet.most for fleet in view.scale.fleets)))
    weights = {share.team: share.weight for share in view.teams}
    total = sum(weights.values())
    later = until_window(view.scale.off_peak, view.now)
    demands = [
        Demand(
            purse,
            left.get(purse.campaign, 0.0),
            view.held_back.get(purse.campaign, 0.0),
            later if purse.off_peak else 0.0,
        )
        for purse in view.purses
    ]
    # A team that has nothing but what awaits approval is not among the others yet.
    shares = {p.team: weights[p.team] / total if p.team in weights else 1 / (total + 1) for p in view.purses}
    return forecast(
        demands,
        capacity={team: strength * share for team, share in shares.items()},
        most={team: most * share for team, share in shares.items()},
        now=view.now,
    )


def _blocked(view: Overview, budgets: Budgets, *, off_peak: bool) -> frozenset[CampaignId]:
    """Campaigns that nobody is woken for: they wait for other hours, or for money."""
    asleep = {purse.campaign for purse in view.purses if purse.off_peak and not off_peak}
    paused = {decision.campaign for decision in budgets.decisions if isinstance(decision, Pause)}
    broke = {campaign for campaign, room in budgets.room.items() if room <= 0}
    return frozenset(asleep | paused | broke)


def _loads(
    view: Overview, left: Mapping[CampaignId, float], budgets: Budgets, blocked: Collection[CampaignId]
) -> Loads:
    """What waits, by the type of GPU that it asks for (None: any). No more than budgets allow."""
    pins = {purse.campaign: purse.gpu for purse in view.purses if purse.gpu is not None}
    urgent = {
        purse.campaign: left.get(purse.campaign, 0.0) / max(1.0, (purse.deadline - view.now).total_seconds())
        for purse in view.purses
        if purse.deadline is not None
    }
    found: Loads = {None: Load(0.0, 0)}
    for (campaign, _), backlog in view.backlog.items():
        if campaign not in blocked:
            seconds = max(backlog.seconds, backlog.shards * _LEAST_SECONDS)
            more = Load(min(seconds, budgets.room.get(campaign, seconds)), backlog.shards, urgent.pop(campaign, 0.0))
            pin = pins.get(campaign)
            found[pin] = found.get(pin, Load(0.0, 0)).plus(more)
    return found


def _scaled(view: Overview, loads: Loads, verdict: Verdict, *, off_peak: bool) -> _Scaled:
    """The first fleet fills first; what asks for a type of GPU counts only where that is, or may be."""
    wake: list[RendererName] = []
    retire: list[RendererName] = []
    sizes: dict[str, FleetSize] = {}
    other_hours = off_peak and bool(view.scale.off_peak)
    types = {fleet.name: fleet.gpu for fleet in view.scale.fleets}
    anywhere = loads[None]
    for fleet in view.scale.fleets:
        mine = [renderer for renderer in view.seen if renderer.name.startswith(fleet.prefix)]
        shut = [renderer for renderer in mine if renderer.name in verdict.closed]
        there = [renderer for renderer in mine if renderer not in shut and not renderer.draining]
        own = _own_load(view, mine)
        for gpu, pinned in loads.items():
            if gpu is not None and (gpu == types[fleet.name] or (gpu not in types.values() and not types[fleet.name])):
                own = own.plus(pinned)
        count = wanted(
            fleet,
            Standing(present=len(there), quarantined=len(shut)),
            own.plus(anywhere),
            drain_seconds=view.scale.drain_seconds,
            off_peak=other_hours,
        )
        sizes[fleet.name] = FleetSize(count, most_of(fleet, off_peak=other_hours))
        stuck = sum(renderer.session is None and renderer.idle > _STUCK_SECONDS for renderer in there)
        spare = max(0, count - stuck - own.needed(view.scale.drain_seconds))
        anywhere = anywhere.without(spare, view.scale.drain_seconds)
        names = {renderer.name for renderer in mine}
        missing = (name for n in range(fleet.most) if (name := RendererName(f"{fleet.prefix}{n}")) not in names)
        wake += [name for name, _ in zip(missing, range(count - len(there)), strict=False)]
        retire += surplus(there, wanted=count, idle_seconds=view.scale.idle_seconds)
    return _Scaled(tuple(wake), tuple(retire), sizes)


def _own_load(view: Overview, mine: Sequence[Seen]) -> Load:
    """What the renderers of a fleet have already."""
    sessions = {renderer.session for renderer in mine}
    leases = [lease for lease in view.held if lease.session in sessions]
    return Load(sum(max(lease.gpu_seconds, _LEAST_SECONDS) for lease in leases), len(leases))
