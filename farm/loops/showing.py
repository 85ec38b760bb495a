"""How the farm stands, as metrics that only the leader shows. What has happened is in `farm.loops.counting`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Gauge

from farm.core.ids import CampaignId, RendererName, Session, TeamId, fleet_of
from farm.core.oversee import Oversight, Scale
from farm.core.placement import Backlog
from farm.loops.looking import Looked
from farm.loops.mate import Mate
from farm.loops.roster import DRAINED, LOST
from farm.telemetry import SchedulerMetrics
from farm.telemetry.shown import Shown, from_zero
from farm.telemetry.work import OUTCOMES
from schemas.campaign import CampaignState
from schemas.report import Device

_STATES = ("starting", "idle", "busy", "draining", "quarantined")
_UNDER_WAY = (CampaignState.ACTIVE, CampaignState.PROOFING, CampaignState.AWAITING_APPROVAL, CampaignState.PAUSED)
_NEAR = frozenset({"budget_near", "budget_spent"})

FORGET_AFTER = 600.0
"""Seconds for which the counts of a renderer that is gone stay: scraped meanwhile, and not there for ever."""

Values = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the leader sees at a moment. *scale* has the types of GPU that are known; *now* is monotonic."""

    looked: Looked
    oversight: Oversight
    scale: Scale
    mates: Sequence[Mate]
    nodes_draining: int
    now: float


class Showing:
    """It has the last word on every series of the registry `view`; *fleets* are those that are set up."""

    def __init__(self, metrics: SchedulerMetrics, fleets: Iterable[str]) -> None:
        self._metrics = metrics
        self._fleets = tuple(fleets)
        self._teams: set[str] = set()
        self._last_seen: dict[RendererName, float] = {}
        self._gauges: dict[int, Shown] = {}
        from_zero(metrics.fleets.drains, self._fleets, DRAINED)
        from_zero(metrics.fleets.losses, self._fleets, LOST)

    def forget(self) -> None:
        """This scheduler leads no more: should it lead again, nothing of before is shown."""
        for gauge in self._gauges.values():
            gauge.show({})

    def show(self, sight: Sight) -> None:
        self._show_queue(sight.looked)
        self._show_gpus(sight.mates)
        self._show_fleets(sight)
        self._show_renderers(sight)
        self._show_teams(sight.looked, sight.oversight)
        self._show_campaigns(sight.looked)
        self._metrics.upkeep.database_bytes.set(sight.looked.database_bytes)
        self._drop_gone(sight)

    # work

    def _show_queue(self, looked: Looked) -> None:
        ready, held = looked.backlog.values(), looked.held
        queue = self._metrics.queue
        self._set(queue.renders, {("ready",): _renders(ready), ("leased",): sum(lease.renders for lease in held)})
        seconds = sum(lease.gpu_seconds for lease in held)
        self._set(queue.gpu_seconds, {("ready",): _seconds(ready), ("leased",): seconds})

    def _show_campaigns(self, looked: Looked) -> None:
        teams, purses = self._metrics.teams, looked.purses
        self._set(teams.campaigns, {(state,): looked.campaigns.get(state, 0) for state in _UNDER_WAY})
        teams.late.set(sum("deadline_at_risk" in purse.warnings for purse in purses))
        teams.budget_near.set(sum(not _NEAR.isdisjoint(purse.warnings) for purse in purses))

    # renderers

    def _show_gpus(self, mates: Sequence[Mate]) -> None:
        gpus = self._metrics.gpus
        known = [(mate.name, mate.hello) for mate in mates if mate.hello is not None]
        self._set(gpus.info, {(name, fleet_of(name), hello.node, hello.gpu): 1 for name, hello in known})
        heard = {(mate.name,): mate.last.device for mate in mates if mate.last is not None and not mate.silent}
        figures: Sequence[tuple[Gauge, Callable[[Device], float | None]]] = (
            (gpus.utilisation, lambda device: device.utilisation),
            (gpus.memory_used, lambda device: device.memory_used_bytes),
            (gpus.memory_total, lambda device: device.memory_total_bytes),
            (gpus.power, lambda device: device.power_watts),
            (gpus.power_limit, lambda device: device.power_limit_watts),
            (gpus.temperature, lambda device: device.temperature_celsius),
        )
        for gauge, figure in figures:
            self._set(gauge, {name: v for name, device in heard.items() if (v := figure(device)) is not None})
        real = {name: device for name, device in heard.items() if device.uuid}
        reasons = ("power", "thermal", "hardware")
        self._set(
            gpus.throttled,
            {(*n, reason): reason in device.throttled for n, device in real.items() for reason in reasons},
        )

    def _show_renderers(self, sight: Sight) -> None:
        fleets, closed = self._metrics.fleets, sight.oversight.verdict.closed
        found = Counter((fleet_of(m.name), "quarantined" if m.name in closed else m.state) for m in sight.mates)
        names = {*self._fleets, *(fleet for fleet, _ in found)}
        self._set(fleets.renderers, {(fleet, state): found[fleet, state] for fleet in names for state in _STATES})
        waits = dict.fromkeys(names, 0.0)
        for mate in sight.mates:
            if mate.hello is None:
                fleet = fleet_of(mate.name)
                waits[fleet] = max(waits[fleet], mate.asked_for(sight.now))
        self._set(fleets.starting_seconds, {(fleet,): seconds for fleet, seconds in waits.items()})

    def _show_fleets(self, sight: Sight) -> None:
        fleets, sizes = self._metrics.fleets, sight.oversight.fleets
        self._set(fleets.wanted, {(fleet,): size.wanted for fleet, size in sizes.items()})
        self._set(fleets.most, {(fleet,): size.most for fleet, size in sizes.items()})
        prices = {(one.name,): sight.looked.price(one.gpu) for one in sight.scale.fleets if one.gpu}
        self._set(fleets.price, {fleet: price for fleet, price in prices.items() if price is not None})
        fleets.nodes_draining.set(sight.nodes_draining)

    def _drop_gone(self, sight: Sight) -> None:
        gpus = self._metrics.gpus
        self._last_seen.update((mate.name, sight.now) for mate in sight.mates)
        for name in [name for name, at in self._last_seen.items() if sight.now - at > FORGET_AFTER]:
            del self._last_seen[name]
            for counter in (gpus.energy, gpus.ecc, gpus.seconds, gpus.passes, gpus.pass_rows):
                counter.remove_by_labels({"renderer": name})

    # teams

    def _show_teams(self, looked: Looked, oversight: Oversight) -> None:
        teams, names = self._metrics.teams, looked.names
        self._begin(names.values())
        shares = {share.team: share for share in looked.teams}

        def by_team(values: Mapping[TeamId, float]) -> Values:
            return {(names.get(team, ""),): value for team, value in values.items()}

        self._set(teams.weight, by_team({team: share.weight for team, share in shares.items()}))
        sessions: dict[TeamId, set[Session]] = {team: set() for team in shares}
        for lease in looked.held:
            sessions.setdefault(lease.team, set()).add(lease.session)
        self._set(teams.renderers, by_team({team: len(found) for team, found in sessions.items()}))
        ready = _by_team(looked, shares)
        self._set(teams.queue_renders, by_team({team: _renders(found) for team, found in ready.items()}))
        self._set(teams.queue_gpu_seconds, by_team({team: _seconds(found) for team, found in ready.items()}))
        self._set(teams.oldest_wait, by_team(_oldest(looked, shares, off_peak=oversight.off_peak)))
        self._set(teams.budget_used, by_team({purse.team: purse.used for purse in looked.team_purses}))

    def _begin(self, names: Iterable[str]) -> None:
        """Counts of a team begin when it first asks for something."""
        new = set(names) - self._teams
        if new:
            self._teams |= new
            from_zero(self._metrics.teams.renders, new, OUTCOMES)
            from_zero(self._metrics.teams.gpu_seconds, new, self._fleets)
            from_zero(self._metrics.teams.money, new, self._fleets)

    def _set(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        shown = self._gauges.get(id(gauge))
        if shown is None:
            shown = self._gauges[id(gauge)] = Shown(gauge)
        shown.show(values)


def _by_team(looked: Looked, teams: Iterable[TeamId]) -> dict[TeamId, list[Backlog]]:
    """What is ready, of each of *teams*, and of others that have something."""
    owners: dict[CampaignId, TeamId] = {purse.campaign: purse.team for purse in looked.purses}
    found: dict[TeamId, list[Backlog]] = {team: [] for team in teams}
    for (campaign, _), backlog in looked.backlog.items():
        if campaign in owners:
            found.setdefault(owners[campaign], []).append(backlog)
    return found


def _oldest(looked: Looked, teams: Iterable[TeamId], *, off_peak: bool) -> dict[TeamId, float]:
    """Of each of *teams*, the longest wait among the first shards of its queues. Who waits for other hours does not."""
    found = dict.fromkeys(teams, 0.0)
    for queue in looked.queues:
        if off_peak or not queue.off_peak:
            longest = max((head.waited for head in queue.heads), default=0.0)
            found[queue.team] = max(found.get(queue.team, 0.0), longest)
    return found


def _renders(backlogs: Iterable[Backlog]) -> int:
    return sum(backlog.renders for backlog in backlogs)


def _seconds(backlogs: Iterable[Backlog]) -> float:
    return sum((backlog.seconds for backlog in backlogs), 0.0)
