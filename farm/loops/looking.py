"""What the leader reads: the heads of the queues at each tick, what changes slowly or costs much less often."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from farm.core.budget import Purse, TeamPurse
from farm.core.costs import load_seconds, speeds
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId
from farm.core.placement import SLOTS, Backlog, Queue
from farm.core.plan import Held
from farm.core.records import Accusation, LoadCost, Quarantined
from farm.ports import SchedulerTx

BACKLOG_EVERY = 2.0
COSTS_EVERY = 10.0
JUDGED_EVERY = 1.0
FEWEST_HEADS = 4
EVIDENCE_WINDOW = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at the database."""

    now: datetime
    queues: Sequence[Queue]
    backlog: Mapping[tuple[CampaignId, str], Backlog]
    held: Sequence[Held]
    teams: Sequence[TeamShare]
    purses: Sequence[Purse]
    team_purses: Sequence[TeamPurse]
    accusations: Sequence[Accusation]
    quarantined: Sequence[Quarantined]
    speeds: Mapping[str, float]
    load_costs: Sequence[LoadCost]
    prices: Mapping[str, float]


class Looking:
    """Remembers what was read lately. Nothing here decides over a lease; those are read at each tick."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due: dict[str, float] = {}
        self._backlog: Mapping[tuple[CampaignId, str], Backlog] = {}
        self._speeds: Mapping[str, float] = {}
        self._loads: Sequence[LoadCost] = ()
        self._prices: Mapping[str, float] = {}
        self._accusations: Sequence[Accusation] = ()
        self._quarantined: Sequence[Quarantined] = ()
        self._queues: int | None = None  # how many there were at the last look
        self._heads = FEWEST_HEADS

    def look(self, tx: SchedulerTx, renderers: int) -> Looked:
        slots = SLOTS * max(1, renderers)
        enough = FEWEST_HEADS if self._queues is None else -(-slots // self._queues)
        queues = tx.queues(min(slots + FEWEST_HEADS, max(self._heads, enough)))
        self._queues = max(1, len(queues))
        self._refresh(tx, queues)
        purses, team_purses = tx.purses()
        return Looked(
            now=tx.now(),
            queues=queues,
            backlog=self._backlog,
            held=tx.held(),
            teams=tx.teams(),
            purses=purses,
            team_purses=team_purses,
            accusations=self._accusations,
            quarantined=self._quarantined,
            speeds=self._speeds,
            load_costs=self._loads,
            prices=self._prices,
        )

    def placed(self, looked: Looked, taken: int) -> bool:
        """Says how many shards found a renderer; True when more heads might have been of use, which come next time."""
        shown = sum(len(queue.heads) for queue in looked.queues)
        short = 0 < taken == shown < sum(backlog.shards for backlog in self._backlog.values())
        self._heads = self._heads * 2 if short else FEWEST_HEADS
        return short

    def prices(self, tx: SchedulerTx) -> Mapping[str, float]:
        if self._is_due("costs", COSTS_EVERY):
            self._speeds, self._loads, self._prices = speeds(tx.costs()), tx.load_costs(), tx.prices()
        return self._prices

    def loading(self, gpu: str) -> dict[str, float]:
        """Seconds that loading weights takes there, by kind, as far as they were learned."""
        return {kind: load_seconds(self._loads, gpu, kind) for kind in ("checkpoint", "lora")}

    def forget(self) -> None:
        """Another has led meanwhile, or an operator's order was carried out: everything is read anew."""
        self._due.clear()

    def _refresh(self, tx: SchedulerTx, queues: Sequence[Queue]) -> None:
        self.prices(tx)
        unknown = any((queue.campaign, queue.engine_key) not in self._backlog for queue in queues)
        if self._is_due("backlog", BACKLOG_EVERY) or unknown:
            self._backlog = tx.backlog()
        if self._is_due("judged", JUDGED_EVERY):
            self._accusations, self._quarantined = tx.accusations(EVIDENCE_WINDOW), tx.quarantined()

    def _is_due(self, what: str, every: float) -> bool:
        now = self._monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every
        return True
