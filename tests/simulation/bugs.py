"""Bugs to plant, one at a time: a simulator that does not notice them is of no use.

Each patches the code under test through *put* (`monkeypatch.setattr`) and names the checks that may notice it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from farm.core import oversee as overseeing
from farm.core import plan as planning
from farm.core import settle as settling
from farm.core.fairshare import Shares
from farm.core.oversee import Oversight
from farm.core.queues import Head, Line
from farm.core.retry import RetryAt
from farm.core.shard import Poisoned, minus, ordinals_of
from farm.loops import scheduler as looping
from farm.loops.mate import Mate
from farm.loops.roster import Roster
from farm.store import memory_campaigns, memory_farm, memory_scheduler
from farm.store.memory import MemoryStore
from farm.store.memory_scheduler import MemorySchedulerTx
from farm.store.memory_state import Campaigns, Spend
from farm.usecases import collect_garbage, dispatch_shards, reclaim_shards
from schemas.campaign import CampaignState
from tests.simulation.faults import NONE, Disaster, Faults

Put = Callable[[object, str, object], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """*within* how many seeds of a small farm it must be noticed, by one of *checks*; *faults* bring it to light."""

    name: str
    plant: Callable[[Put], None]
    checks: tuple[str, ...]
    within: int = 10
    faults: Faults | None = None  # those that the seed draws


def _no_fence(put: Put) -> None:
    put(settling, "accepts", lambda *, fence, current, state: current is not None)


def _no_reclaim(put: Put) -> None:
    plan = planning.plan
    put(looping, "plan", lambda view: [one for one in plan(view) if not isinstance(one, planning.Reclaim)])


def _no_epoch(put: Put) -> None:
    @contextmanager
    def as_scheduler(self: MemoryStore, leadership: object) -> Any:
        with self.change() as state:
            tx = MemorySchedulerTx(state)
            yield tx
            tx.flush()

    put(MemoryStore, "as_scheduler", as_scheduler)


def _no_dedupe(put: Put) -> None:
    put(dispatch_shards, "_known", lambda tx, shard, rows: settling.reuse(shard, []))


def _unfair(put: Put) -> None:
    put(Shares, "served", lambda self, team: float(team))


def _charged_twice(put: Put) -> None:
    charge = Spend.charge

    def twice(self: Spend, *what: Any) -> None:
        charge(self, *what)
        charge(self, *what)

    put(Spend, "charge", twice)


def _acknowledged_early(put: Put) -> None:
    hear = Mate.hear

    def hasty(self: Mate, collected: Any) -> Any:
        told = hear(self, collected)
        self.seen_seq = max((report.seq for report in told.reports), default=self.seen_seq)
        return told

    put(Mate, "hear", hasty)


def _avoid_ignored(put: Put) -> None:
    def first(self: Line, *_: object) -> Head | None:
        return next((head for head in self.queue.heads if head.shard not in self.taken), None)

    put(Line, "head_for", first)


def _put_back_loses(put: Put) -> None:
    put_back = MemorySchedulerTx.put_back

    def careless(self: MemorySchedulerTx, shard: Any, **how: Any) -> None:
        put_back(self, shard, **how)
        row = self._state.shards.rows[shard.id]
        if row.renders > 1:
            todo = minus(row.todo, ordinals_of(row.todo)[:1])
            self._state.shards.put(shard.id, row._replace(todo=todo, renders=row.renders - 1))

    put(MemorySchedulerTx, "put_back", careless)


def _takes_the_cancelled(put: Put) -> None:
    for module in (memory_scheduler, memory_farm):
        put(module, "RUNNABLE", tuple(CampaignState))
    put(memory_campaigns.Campaigning, "_become", lambda *_, **__: None)
    put(MemorySchedulerTx, "finish_campaigns", lambda _: 0)


def _never_revokes(put: Put) -> None:
    put(planning, "_revocations", lambda *_: [])


def _garbage_at_once(put: Put) -> None:
    delete_due = collect_garbage.delete_due

    def hasty(begin: Any, depot: Any, *, grace: timedelta, **more: Any) -> Any:
        return delete_due(begin, depot, grace=timedelta(0), **more)

    put(collect_garbage, "delete_due", hasty)


def _no_garbage_collection(put: Put) -> None:
    put(collect_garbage, "delete_due", lambda *_, **__: iter(()))


def _proof_skipped(put: Put) -> None:
    add_shard = memory_campaigns.Campaigning._add_shard

    def ready(self: Any, new: Any, cut: Any) -> None:
        add_shard(self, new, replace(cut, state="ready"))

    put(memory_campaigns.Campaigning, "_add_shard", ready)


def _key_forgotten(put: Put) -> None:
    class Forgetful(dict[Any, Any]):
        def get(self, *_: object) -> None:
            return None

        def __contains__(self, _: object) -> bool:
            return False

    init = Campaigns.__init__

    def begin(self: Campaigns, log: Any) -> None:
        init(self, log)
        self.by_key = Forgetful()

    put(Campaigns, "__init__", begin)


def _quarantine_ignored(put: Put) -> None:
    oversee = overseeing.oversee

    def lenient(view: Any) -> Oversight:
        found = oversee(view)
        return replace(found, verdict=replace(found.verdict, closed=frozenset(), probing=frozenset()))

    put(looping, "oversee", lenient)


def _nobody_quarantined(put: Put) -> None:
    oversee = overseeing.oversee

    def blind(view: Any) -> Oversight:
        return oversee(replace(view, accusations=()))

    put(looping, "oversee", blind)


def _no_drain(put: Put) -> None:
    put(Roster, "_why_go", lambda *_: "")


def _gives_up_at_once(put: Put) -> None:
    put(reclaim_shards, "after_lost_lease", lambda **_: Poisoned())


def _never_gives_up(put: Put) -> None:
    put(settling, "after_failure", lambda kind, *, now, **_: RetryAt(now + timedelta(seconds=1)))


_STALLS = Faults(until=1.0, stall=0.01, disasters=())
_FROZEN = Faults(until=1.0, every=6.0, disasters=(Disaster.RENDERER_FROZEN,))
_LOSSES = Faults(
    until=1.0, every=5.0, disasters=(Disaster.RENDERER_KILLED, Disaster.RENDERER_FROZEN, Disaster.NODE_LOST)
)
_COMMITS = Faults(until=1.0, commit_lost=0.1, commit_unknown=0.1, disasters=())
_UPLOADS = Faults(until=1.0, put_lost=0.2, put_unknown=0.2, disasters=())
_BROKEN = Faults(until=1.0, every=5.0, disasters=(Disaster.GPU_BROKEN,))

BUGS = (
    Bug("no fence", _no_fence, ("P5 no repeat", "charges", "P2 nothing lost"), 20, faults=_FROZEN),
    Bug("no reclaim", _no_reclaim, ("alive",), faults=_LOSSES),
    Bug("no epoch", _no_epoch, ("P6 one leader",), faults=_STALLS),
    Bug("no dedupe", _no_dedupe, ("P12 known",)),
    Bug("unfair", _unfair, ("P8 newcomer", "P8 shares"), faults=NONE),
    Bug("charged twice", _charged_twice, ("charges",)),
    Bug("acknowledged early", _acknowledged_early, ("P5 no repeat", "alive"), faults=_COMMITS),
    Bug("avoid ignored", _avoid_ignored, ("blame",), faults=_BROKEN),
    Bug("put back loses", _put_back_loses, ("P2 nothing lost", "alive"), faults=_LOSSES),
    Bug("takes the cancelled", _takes_the_cancelled, ("P9 cancelled",), faults=NONE),
    Bug("never revokes", _never_revokes, ("P9 cancelled",), 20, faults=NONE),
    Bug("garbage at once", _garbage_at_once, ("P3 object there",), faults=_UPLOADS),
    Bug("no garbage collection", _no_garbage_collection, ("P4 no orphan",), faults=_UPLOADS),
    Bug("proof skipped", _proof_skipped, ("proof",)),
    Bug("key forgotten", _key_forgotten, ("P10 one campaign",), faults=_COMMITS),
    Bug("quarantine ignored", _quarantine_ignored, ("blame",), faults=_BROKEN),
    Bug("nobody quarantined", _nobody_quarantined, ("blame",), faults=_BROKEN),
    Bug("no drain", _no_drain, ("P7 drained",), faults=NONE),
    Bug("gives up at once", _gives_up_at_once, ("blame",), faults=_LOSSES),
    Bug("never gives up", _never_gives_up, ("alive",), faults=NONE),
)

__all__ = ["BUGS", "Bug", "Put"]
