"""What the leader reads: the heads of the queues at each tick, what changes slowly or costs much less often."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from farm.core.budget import Purse, TeamPurse
from farm.core.costs import ANY, load_seconds, price_of, speeds
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, TeamId
from farm.core.measured import (
    Steps,
    backlog_as_measured,
    held_as_measured,
    measured_steps,
    queue_as_measured,
    seconds_by_campaign,
)
from farm.core.placement import SLOTS, Backlog, Queue
from farm.core.plan import Held
from farm.core.records import Accusation, LoadCost, Quarantined
from farm.ports import SchedulerTx
from schemas.campaign import CampaignState

BACKLOG_EVERY = 2.0
COSTS_EVERY = 10.0
JUDGED_EVERY = 1.0
SIZE_EVERY = 60.0
FEWEST_HEADS = 4
EVIDENCE_WINDOW = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at the database. What shards take is as measured by now."""

    now: datetime
    queues: Sequence[Queue]
    backlog: Mapping[tuple[CampaignId, str], Backlog]
    held_back: Mapping[CampaignId, float]  # GPU seconds that wait for a proof to be approved
    held: Sequence[Held]
    teams: Sequence[TeamShare]
    purses: Sequence[Purse]
    team_purses: Sequence[TeamPurse]
    accusations: Sequence[Accusation]
    quarantined: Sequence[Quarantined]
    speeds: Mapping[str, float]
    load_costs: Sequence[LoadCost]
    prices: Mapping[str, float]
    names: Mapping[TeamId, str]  # of all teams that occur in it
    campaigns: Mapping[CampaignState, int]  # how many are under way
    database_bytes: int

    def price(self, gpu: str) -> float | None:
        """Money an hour; None when operators have not said it."""
        return price_of(self.prices, gpu) if gpu in self.prices or ANY in self.prices else None


class Looking:
    """Remembers what was read lately. Nothing here decides over a lease; those are read at each tick."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due: dict[str, float] = {}
        self._backlog: Mapping[tuple[CampaignId, str], Backlog] = {}
        self._held_back: Mapping[CampaignId, float] = {}
        self._speeds: Mapping[str, float] = {}
        self._steps: Steps = {}
        self._loads: Sequence[LoadCost] = ()
        self._prices: Mapping[str, float] = {}
        self._accusations: Sequence[Accusation] = ()
        self._quarantined: Sequence[Quarantined] = ()
        self._names: dict[TeamId, str] = {}
        self._campaigns: Mapping[CampaignState, int] = {}
        self._database_bytes = 0
        self._queues: int | None = None  # how many there were at the last look
        self._heads = FEWEST_HEADS

    def look(self, tx: SchedulerTx, renderers: int) -> Looked:
        slots = SLOTS * max(1, renderers)
        enough = FEWEST_HEADS if self._queues is None else -(-slots // self._queues)
        queues = tx.queues(min(slots + FEWEST_HEADS, max(self._heads, enough)))
        self._queues = max(1, len(queues))
        purses, team_purses = tx.purses()
        self._refresh(tx, queues, purses)
        teams = tx.teams()
        return Looked(
            now=tx.now(),
            queues=[queue_as_measured(queue, self._steps) for queue in queues],
            backlog=self._backlog,
            held_back=self._held_back,
            held=[held_as_measured(held, self._steps) for held in tx.held()],
            teams=teams,
            purses=purses,
            team_purses=team_purses,
            accusations=self._accusations,
            quarantined=self._quarantined,
            speeds=self._speeds,
            load_costs=self._loads,
            prices=self._prices,
            names=self.names(tx, [*(share.team for share in teams), *(purse.team for purse in purses)]),
            campaigns=self._campaigns,
            database_bytes=self._database_bytes,
        )

    def placed(self, looked: Looked, taken: int) -> bool:
        """Says how many shards found a renderer; True when more heads might have been of use, which come next time."""
        shown = sum(len(queue.heads) for queue in looked.queues)
        short = 0 < taken == shown < sum(backlog.shards for backlog in self._backlog.values())
        self._heads = self._heads * 2 if short else FEWEST_HEADS
        return short

    def prices(self, tx: SchedulerTx) -> Mapping[str, float]:
        if self._is_due("costs", COSTS_EVERY):
            costs = tx.costs()
            self._speeds, self._loads, self._prices = speeds(costs), tx.load_costs(), tx.prices()
            self._steps = measured_steps(costs, self._speeds)
        return self._prices

    def names(self, tx: SchedulerTx, teams: Iterable[TeamId]) -> Mapping[TeamId, str]:
        """Read once: a team keeps its name."""
        wanted = set(teams)
        if not wanted <= self._names.keys():
            self._names.update(tx.team_names(wanted - self._names.keys()))
        return {team: self._names[team] for team in wanted if team in self._names}

    def loading(self, gpu: str) -> dict[str, float]:
        """Seconds that loading weights takes there, by kind, as far as they were learned."""
        return {kind: load_seconds(self._loads, gpu, kind) for kind in ("checkpoint", "lora")}

    def forget(self) -> None:
        """Another has led meanwhile, or an operator's order was carried out: everything is read anew."""
        self._due.clear()

    def _refresh(self, tx: SchedulerTx, queues: Sequence[Queue], purses: Sequence[Purse]) -> None:
        self.prices(tx)
        unknown = any((queue.campaign, queue.engine_key) not in self._backlog for queue in queues)
        if self._is_due("backlog", BACKLOG_EVERY) or unknown:
            teams = {purse.campaign: purse.team for purse in purses}
            self._backlog = backlog_as_measured(tx.backlog(), teams, self._steps)
            self._campaigns = tx.campaign_states()
            self._held_back = seconds_by_campaign(backlog_as_measured(tx.held_back(), teams, self._steps))
        if self._is_due("size", SIZE_EVERY):
            self._database_bytes = tx.database_bytes()
        if self._is_due("judged", JUDGED_EVERY):
            self._accusations, self._quarantined = tx.accusations(EVIDENCE_WINDOW), tx.quarantined()

    def _is_due(self, what: str, every: float) -> bool:
        now = self._monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every
        return True
