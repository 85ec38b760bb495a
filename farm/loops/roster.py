"""The renderers as the leader knows them: adopted, listened to, drained."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import assert_never

import structlog

from farm.core.errors import LeadershipLost
from farm.core.ids import Epoch, Fence, RendererName, Session, ShardId, fleet_of
from farm.core.plan import Seen
from farm.core.records import Heartbeat
from farm.loops.lead import Lead
from farm.loops.mate import Mate
from farm.ports import Answered, Died, Fleet, Heard, Introduced, News, SchedulerStore, SchedulerTx, Silent
from schemas.order import WIRE_MAJOR
from schemas.report import Collected, Offered

_log = structlog.get_logger()

_COLLECT = timedelta(seconds=2)
"""How long a renderer waits for something to report: also its heartbeat."""

_HANGS = 4
"""Lease times without a word, after which a renderer is ended. One that has yet to start may take its time."""

DRAINED = ("node", "revision", "idle")
LOST = ("died", "hung", "fault")

_ALL = "farm/"
"""What every renderer's name begins with."""

_FULL_FOR = 5.0
"""Seconds for which one that refused a shard for want of room gets none: asked at once it would refuse again."""

_CALLS: dict[type[News], str] = {Introduced: "adopt", Heard: "collect"}


class Roster:
    """``refused`` are offers that were turned down, ``died`` sessions whose process is known to have ended, ``going``
    nodes that were told to go. ``drained`` and ``lost`` count renderers by fleet and why, one of `DRAINED` or `LOST`.

    *prefixes* are those of the fleets in this revision, ``farm/<fleet>/<revision>/``; renderers of other revisions, and
    of fleets that are no more, are drained and retired. Rows that are still in a GPU *drain_time* after it was told to
    go are stopped: a spot node leaves 30 s.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        store: SchedulerStore,
        lead: Lead,
        prefixes: tuple[str, ...],
        lease_ttl: timedelta,
        drain_time: timedelta,
        monotonic: Callable[[], float],
    ) -> None:
        self._fleet, self._store, self._lead = fleet, store, lead
        self._prefixes, self._lease_ttl, self._drain_time = prefixes, lease_ttl, drain_time
        self._monotonic = monotonic
        self._attended = monotonic()
        self._new = True  # nobody has been looked for since we lead
        self.mates: dict[RendererName, Mate] = {}
        self.refused: set[tuple[ShardId, Fence]] = set()
        self.died: list[Session] = []
        self._left: dict[RendererName, Session] = {}  # by whom: the last one that was taken for dead
        self.going: frozenset[str] = frozenset()
        self.drained: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()

    @property
    def _epoch(self) -> Epoch:
        return self._lead.mine.epoch

    def hear(self, news: Sequence[News]) -> list[Mate]:
        """Takes in what was heard; returns the renderers that have answered `collect`."""
        self._attend()
        known = [(mate, item) for item in news if (mate := self.mates.get(item.name)) is not None]
        for mate, item in known:  # first of all: should the database fail below, each is asked again
            mate.asked.discard(item.call if isinstance(item, Silent) else _CALLS.get(type(item), ""))
        heard = []
        for mate, item in known:
            match item:
                case Introduced():
                    self._introduced(mate, item)
                case Heard():
                    if self._spoke(mate, item.collected):
                        heard.append(mate)
                case Answered():
                    self._answered(mate, item)
                case Silent():
                    self._silent(mate, item)
                case Died():
                    _log.warning("renderer_died", name=item.name, why=item.why)
                    self._lose(mate)
                case _:
                    assert_never(item)
        return heard

    def _attend(self) -> None:
        """While we stood still (stopped, or held up by the database) nobody could be heard: that time is ours."""
        now = self._monotonic()
        away, self._attended = now - self._attended, now
        if away > self._lease_ttl.total_seconds() / 2:
            _log.warning("scheduler_stood_still", seconds=away)
            for mate in self.mates.values():
                mate.excused += away

    def forget(self) -> None:
        """We lead no more; should we lead again, somebody else may have been told of all that they did meanwhile."""
        self.mates.clear()
        self._left.clear()
        self._new = True

    def again(self) -> None:
        """What was heard and not settled is asked for once more."""
        for mate in self.mates.values():
            if mate.hello is None:
                self.adopt(mate)
            else:
                self.collect(mate)

    def seen(self) -> list[Seen]:
        now = self._monotonic()
        return [mate.seen(now) for mate in self.mates.values()]

    def save(self, tx: SchedulerTx) -> None:
        """What was heard and seen of the renderers; `beaten` follows when it is committed."""
        if self.died:
            tx.end_sessions([*self.died])
        tx.end_absent(_ALL, sorted(self.mates))
        beats = self._beats()
        if beats:
            tx.heartbeat(beats, self._lease_ttl)

    def _beats(self) -> list[Heartbeat]:
        """Of those heard since `beaten`."""
        return [beat for mate in self.mates.values() if (beat := mate.heartbeat()) is not None]

    def beaten(self) -> None:
        """Heartbeats and deaths are in the database."""
        self.died.clear()
        for mate in self.mates.values():
            mate.fresh = False

    def _introduced(self, mate: Mate, item: Introduced) -> None:
        if item.hello.epoch > self._epoch:
            raise LeadershipLost(f"{item.name} has seen epoch {item.hello.epoch}; ours is {self._epoch}.")
        if item.hello.wire != WIRE_MAJOR:
            _log.warning("renderer_speaks_otherwise", name=item.name, wire=item.hello.wire)
            self._fleet.drain(item.name, self._epoch)
            self._fleet.retire(item.name)
            mate.dismissed = True
            return
        with self._store.as_scheduler(self._lead.mine) as tx:
            tx.greet(item.hello, self._lease_ttl)
        if mate.session not in (None, item.hello.session):
            self._note_death(mate)  # and Ray has started another
        if mate.hello is None and self._left.get(mate.name) == item.hello.session:
            mate.inherited = True  # Ray had lost sight of it: what it counted so far is counted
        known = mate.session == item.hello.session
        mate.greet(item.hello)
        if not (known and "collect" in mate.asked):  # it can say who it is while the call that brings its work hangs
            mate.answered(self._monotonic())
        _log.info("renderer_adopted", name=item.name, session=item.hello.session, holds=len(item.hello.holds))
        self.collect(mate)

    def _spoke(self, mate: Mate, collected: Collected) -> bool:
        """False when it is another process than the one that we know."""
        if mate.hello is None or collected.session != mate.hello.session:
            self.adopt(mate)
            return False
        if collected.leaving and mate.last is not None and not mate.draining:
            self.drained[fleet_of(mate.name), "node"] += 1  # somebody else has told it, with a signal
        mate.pending = collected
        mate.answered(self._monotonic())
        return True

    def _answered(self, mate: Mate, item: Answered) -> None:
        if item.offered is Offered.STALE_EPOCH:
            raise LeadershipLost(f"{item.name} has seen a newer epoch than {self._epoch}.")
        if item.offered not in (Offered.TAKEN, Offered.ALREADY):
            self.refused.add((item.shard, Fence(item.fence)))
            if item.offered is Offered.FULL:
                mate.full_until = self._monotonic() + _FULL_FOR
            if item.offered is Offered.DRAINING:  # a former leader drained it, or it has a fault: it takes no more
                mate.draining = True
            _log.info("offer_refused", name=item.name, shard=item.shard, why=item.offered)

    def _silent(self, mate: Mate, item: Silent) -> None:
        _log.info("renderer_silent", name=item.name, call=item.call, why=item.why)
        if item.call in ("collect", "adopt"):  # perhaps it restarts: it is asked who it is, once a tick
            mate.silent = True

    def _lose(self, mate: Mate) -> None:
        if self.mates.pop(mate.name, None) is None:
            return  # two of its calls brought the same news
        self._note_death(mate)
        if mate.session is not None:
            self.died.append(mate.session)
            self._left[mate.name] = mate.session

    def _note_death(self, mate: Mate) -> None:
        if not (mate.draining or mate.dismissed):
            self.lost[fleet_of(mate.name), "died"] += 1

    def adopt(self, mate: Mate) -> None:
        if "adopt" not in mate.asked:
            self._fleet.adopt(mate.name, self._epoch)
            mate.asked.add("adopt")

    def collect(self, mate: Mate) -> None:
        if self._lead.held is not None and mate.hello is not None and "collect" not in mate.asked:
            self._fleet.collect(mate.name, self._epoch, mate.seen_seq, _COLLECT)
            mate.asked.add("collect")

    def muster(self) -> None:
        """Renderers that exist are adopted, whoever made them; those that must go are drained, then retired."""
        self._attend()
        names = [name for name in self._fleet.names() if name.startswith(_ALL)]
        for name in names:
            if name not in self.mates:
                self.mates[name] = Mate(name, heard_at=self._monotonic(), inherited=self._new)
                self.adopt(self.mates[name])
        self._new = False
        for name in [name for name in self.mates if name not in names]:
            self._lose(self.mates[name])
        for mate in self.mates.values():
            quiet = mate.quiet(self._monotonic()) / self._lease_ttl.total_seconds()
            if mate.hello is not None and quiet > 1:
                mate.silent = True  # a call that never ends: it would lose every shard that it is given
            if quiet > _HANGS and (mate.hello is not None or not mate.name.startswith(self._prefixes)):
                _log.error("renderer_ended", name=mate.name, quiet_seconds=quiet * self._lease_ttl.total_seconds())
                self.end(mate)  # it keeps a GPU, and nobody would ever replace it
            elif mate.silent:
                self.adopt(mate)
        self._drain()

    def end(self, mate: Mate) -> None:
        """At once: it hangs."""
        if mate.hello is not None and not mate.dismissed:
            self.lost[fleet_of(mate.name), "hung"] += 1
        mate.dismissed = True
        self._fleet.end(mate.name)

    def dismiss(self, mate: Mate, why: str) -> None:
        """It is drained from now on, and retired when it holds nothing any more. *why* is one of `DRAINED`."""
        if not mate.draining:
            self.drained[fleet_of(mate.name), why] += 1
        mate.draining = True

    def break_off(self, mate: Mate, fault: str) -> None:
        """It answers, and can render no more."""
        if not mate.draining:
            _log.error("renderer_fault", name=mate.name, fault=fault)
            self.lost[fleet_of(mate.name), "fault"] += 1
        mate.draining = True

    def _drain(self) -> None:
        """Said anew each time: a call may be lost, and saying it twice does no harm."""
        self.going = self._fleet.draining()
        for mate in self.mates.values():
            if mate.hello is not None and not mate.draining and (why := self._why_go(mate.name, mate.hello.node)):
                _log.info("renderer_draining", name=mate.name, node=mate.hello.node, why=why)
                self.dismiss(mate, why)
            if mate.draining and mate.hello is None:
                self._fleet.end(mate.name)  # it has no node yet, and is not wanted: nobody shall buy it one
            elif mate.draining and mate.obeyed and not mate.holds:
                self._fleet.retire(mate.name)
            elif mate.draining:  # what was offered last may not be in what it said last
                self._fleet.drain(mate.name, self._epoch)
                mate.told = True
                self._hurry(mate)

    def _hurry(self, mate: Mate) -> None:
        """Its time is nearly over: better hand back than be killed in the middle."""
        if mate.draining_since is None:
            mate.draining_since = self._monotonic()
        if mate.holds and self._monotonic() - mate.draining_since > self._drain_time.total_seconds():
            self._fleet.revoke(mate.name, self._epoch, sorted({shard for shard, _ in mate.holds}), running=True)

    def _why_go(self, name: RendererName, node: str) -> str:
        """Of `DRAINED`, or nothing."""
        if node in self.going:
            return "node"
        return "" if name.startswith(self._prefixes) else "revision"
