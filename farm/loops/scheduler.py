"""The scheduler: leads, listens, settles, plans, acts.

Whatever it has in memory can be lost at any point: leases, fences and epochs in the database decide, and a renderer
keeps its reports until they are acknowledged.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

import structlog

from farm.core.errors import DepotDown, FarmError, LeadershipLost
from farm.core.ids import CampaignId, Epoch, Fence, RendererName, Session, ShardId
from farm.core.keys import provenance_key, thumbnail_key
from farm.core.lease import Leadership
from farm.core.plan import Decision, Dispatch, LookUp, Reclaim, Release, Revoke, Snapshot, Wake, plan
from farm.core.records import QueueDepth
from farm.loops.roster import Mate
from farm.ports import Answered, Depot, Died, Fleet, Heard, Introduced, News, SchedulerStore, SchedulerTx, Silent
from farm.telemetry import SchedulerMetrics
from farm.usecases.dispatch_shards import Work, look_up_shards, take_shards, write_order
from farm.usecases.reclaim_shards import reclaim_shards
from farm.usecases.settle_reports import From, Tally, settle_reports
from schemas.campaign import ResolvedCampaign
from schemas.order import WIRE_MAJOR
from schemas.report import CacheCounts, Offered

_log = structlog.get_logger()

_COLLECT = timedelta(seconds=2)
"""How long a renderer waits for something to report: also its heartbeat."""

_PER_QUEUE = 8
_CAMPAIGNS_KEPT = 64
_DEPOT_CHECK = 2.0
_CALLS: dict[type[News], str] = {Introduced: "adopt", Heard: "collect"}


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the scheduler, and the names of its renderers at full strength."""

    names: Sequence[RendererName]
    prefix: str  # of every renderer of this fleet and revision
    tick: timedelta
    lease_ttl: timedelta
    leader_ttl: timedelta
    link_ttl: timedelta


class Scheduler:
    """*token* gives a new random text each time: the keys of an attempt end in it."""

    def __init__(
        self,
        *,
        holder: str,
        store: SchedulerStore,
        fleet: Fleet,
        depot: Depot,
        pace: Pace,
        metrics: SchedulerMetrics,
        token: Callable[[], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holder, self._store, self._fleet, self._depot = holder, store, fleet, depot
        self._pace, self._metrics, self._token, self._monotonic = pace, metrics, token, monotonic
        self._leadership: Leadership | None = None
        self._led_since = self._next_renewal = self._next_tick = self._next_depot_check = 0.0
        self._depot_up = True
        self._mates: dict[RendererName, Mate] = {}
        self._died: list[Session] = []
        self._looked_up: set[ShardId] = set()
        self._refused: set[tuple[ShardId, Fence]] = set()
        self._campaigns: dict[CampaignId, ResolvedCampaign] = {}

    # the service

    def run_once(self) -> None:
        """Hears what has come in, settles it, and once a tick plans and acts."""
        if not self._lead():
            self._fleet.news(min(self._pace.leader_ttl / 5, timedelta(seconds=1)))
            return
        try:
            left = max(0.0, self._next_tick - self._monotonic())
            self._settle(self._apply(self._fleet.news(timedelta(seconds=left))))
            if self._monotonic() >= self._next_tick:
                self._next_tick = self._monotonic() + self._pace.tick.total_seconds()
                with self._metrics.tick_seconds.time():
                    self._tick()
        except LeadershipLost as error:
            _log.warning("leadership_lost", detail=error.detail)
            self._step_down()

    def trouble(self, error: FarmError) -> None:
        self._metrics.unavailable.labels(error.code).inc()
        for mate in self._mates.values():  # what was heard and not settled is asked for again
            if mate.hello is None:
                self._adopt(mate)
            else:
                self._collect(mate)

    def stop(self) -> None:
        """Another may lead at once; the renderers live on and keep their reports."""
        if self._leadership is not None:
            try:
                self._store.resign(self._leadership)
            except FarmError as error:
                _log.warning("resign_failed", detail=error.detail)
            self._step_down()
        self._fleet.close()

    # leading

    def _lead(self) -> bool:
        if self._leadership is None:
            self._leadership = self._store.elect(self._holder, self._pace.leader_ttl)
            if self._leadership is not None:
                self._led_since = self._monotonic()
                self._next_tick = 0.0
                self._due_renewal()
                self._metrics.leading.set(1)
                self._metrics.epoch.set(self._leadership.epoch)
                _log.info("leading", epoch=self._leadership.epoch, holder=self._holder)
        elif self._monotonic() >= self._next_renewal:
            if not self._store.renew(self._leadership, self._pace.leader_ttl):
                _log.warning("leadership_expired", epoch=self._leadership.epoch)
                self._step_down()
            self._due_renewal()
        return self._leadership is not None

    def _due_renewal(self) -> None:
        self._next_renewal = self._monotonic() + self._pace.leader_ttl.total_seconds() / 3

    def _step_down(self) -> None:
        self._leadership = None
        self._mates.clear()
        self._metrics.leading.set(0)

    @property
    def _mine(self) -> Leadership:
        if self._leadership is None:
            raise LeadershipLost("This scheduler does not lead.")
        return self._leadership

    @property
    def _epoch(self) -> Epoch:
        return self._mine.epoch

    # listening

    def _apply(self, news: Sequence[News]) -> list[Mate]:
        """Takes in what was heard; returns the renderers that have answered `collect`."""
        known = [(mate, item) for item in news if (mate := self._mates.get(item.name)) is not None]
        for mate, item in known:  # first of all: should the database fail below, each is asked again
            mate.asked.discard(_CALLS.get(type(item), ""))
        heard = []
        for mate, item in known:
            match item:
                case Introduced():
                    self._introduced(mate, item)
                case Heard():
                    if mate.hello is not None and item.collected.session == mate.hello.session:
                        heard.append(mate)
                        mate.pending = item.collected
                    else:  # another process than the one we know
                        self._adopt(mate)
                case Answered():
                    self._answered(item)
                case Silent():
                    self._silent(mate, item)
                case Died():
                    _log.warning("renderer_died", name=item.name, why=item.why)
                    self._lose(mate)
                case _:
                    assert_never(item)
        return heard

    def _introduced(self, mate: Mate, item: Introduced) -> None:
        if item.hello.epoch > self._epoch:
            raise LeadershipLost(f"{item.name} has seen epoch {item.hello.epoch}; ours is {self._epoch}.")
        if item.hello.wire != WIRE_MAJOR:
            _log.warning("renderer_speaks_otherwise", name=item.name, wire=item.hello.wire)
            self._fleet.drain(item.name, self._epoch)
            self._fleet.retire(item.name)
            return
        with self._store.as_scheduler(self._mine) as tx:
            tx.greet(item.hello, self._pace.lease_ttl)
        mate.greet(item.hello)
        _log.info("renderer_adopted", name=item.name, session=item.hello.session, holds=len(item.hello.holds))
        self._collect(mate)

    def _answered(self, item: Answered) -> None:
        if item.offered is Offered.STALE_EPOCH:
            raise LeadershipLost(f"{item.name} has seen a newer epoch than {self._epoch}.")
        if item.offered not in (Offered.TAKEN, Offered.ALREADY):
            self._refused.add((item.shard, Fence(item.fence)))
            _log.info("offer_refused", name=item.name, shard=item.shard, why=item.offered)

    def _silent(self, mate: Mate, item: Silent) -> None:
        mate.asked.discard(item.call)
        _log.info("renderer_silent", name=item.name, call=item.call, why=item.why)
        if item.call in ("collect", "adopt"):  # perhaps it restarts: who answers next says which session it is
            self._adopt(mate)

    def _lose(self, mate: Mate) -> None:
        if mate.session is not None:
            self._died.append(mate.session)
        del self._mates[mate.name]

    def _adopt(self, mate: Mate) -> None:
        if "adopt" not in mate.asked:
            mate.asked.add("adopt")
            self._fleet.adopt(mate.name, self._epoch)

    def _collect(self, mate: Mate) -> None:
        if self._leadership is not None and mate.hello is not None and "collect" not in mate.asked:
            mate.asked.add("collect")
            self._fleet.collect(mate.name, self._epoch, mate.seen_seq, _COLLECT)

    # settling

    def _settle(self, heard: Sequence[Mate]) -> None:
        """Acknowledged is what is committed: a failure in between makes the renderer say it again."""
        batch = []
        for mate in heard:
            if mate.hello is not None and mate.pending is not None:
                reports, cache = mate.hear(mate.pending)
                self._count_cache(cache)
                if reports:
                    batch.append((mate, From(mate.name, mate.hello.numerics, reports)))
                if mate.pending.fault:
                    _log.error("renderer_fault", name=mate.name, fault=mate.pending.fault)
                    self._fleet.retire(mate.name)
        if batch:
            with self._metrics.stage_seconds.labels("settle").time(), self._store.as_scheduler(self._mine) as tx:
                tally = settle_reports(tx, [sender for _, sender in batch], self._resolved_in)
            for mate, sender in batch:
                mate.settled(max(report.seq for report in sender.reports), tally.ended)
            self._count(tally)
            self._drop(tally.unwanted)
            self._next_tick = 0.0  # a slot may be free
        for mate in heard:
            self._collect(mate)

    def _drop(self, keys: Sequence[str]) -> None:
        """Pictures that nothing refers to. What a crash leaves behind here is found later by the garbage collection."""
        if not keys:
            return
        with self._store.as_scheduler(self._mine) as tx:
            used = tx.keys_in_use(keys)
        unwanted = [key for key in keys if key not in used]
        try:
            self._depot.delete([k for key in unwanted for k in (key, thumbnail_key(key), provenance_key(key))])
            self._metrics.deleted.inc(len(unwanted))
        except DepotDown as error:
            _log.warning("unwanted_pictures_stay", count=len(unwanted), detail=error.detail)

    # planning

    def _tick(self) -> None:
        self._muster()
        with self._store.as_scheduler(self._mine) as tx:
            if self._died:
                tx.end_sessions([*self._died])
            tx.end_absent(self._pace.prefix, sorted(self._mates))
            beats = [beat for mate in self._mates.values() if (beat := mate.heartbeat()) is not None]
            if beats:
                tx.heartbeat(beats, self._pace.lease_ttl)
            tx.finish_cancelled()
            waiting, ready = tx.waiting(_PER_QUEUE)
            held, depths = tx.held(), tx.depths()
        self._died.clear()
        self._looked_up &= {shard.shard for shard in waiting}
        self._refused &= {(lease.shard, lease.fence) for lease in held}
        for mate in self._mates.values():
            mate.fresh = False
        self._show(depths)
        view = Snapshot(
            waiting=waiting if self._depot_answers() else (),
            ready_shards=ready,
            looked_up=frozenset(self._looked_up),
            held=held,
            refused=frozenset(self._refused),
            seen=[mate.seen() for mate in self._mates.values()],
            names=self._pace.names,
            may_reclaim=self._monotonic() - self._led_since > self._pace.lease_ttl.total_seconds(),
        )
        self._act(plan(view))

    def _muster(self) -> None:
        """Renderers that exist are adopted, whoever made them; those of nodes that must go are drained."""
        names = [name for name in self._fleet.names() if name.startswith(self._pace.prefix)]
        for name in names:
            if name not in self._mates:
                self._mates[name] = Mate(name)
                self._adopt(self._mates[name])
        for name in [name for name in self._mates if name not in names]:
            self._lose(self._mates[name])
        going = self._fleet.draining()
        for mate in self._mates.values():
            if mate.hello is not None and mate.hello.node in going and not mate.draining:
                _log.info("renderer_draining", name=mate.name, node=mate.hello.node)
                mate.draining = True
                self._fleet.drain(mate.name, self._epoch)
            elif mate.draining and not mate.holds:
                self._fleet.retire(mate.name)

    def _depot_answers(self) -> bool:
        """While the store is down shards wait: a render whose picture cannot be kept is GPU time thrown away."""
        if self._monotonic() >= self._next_depot_check:
            self._next_depot_check = self._monotonic() + _DEPOT_CHECK
            try:
                self._depot.ready()
                self._depot_up = True
            except DepotDown as error:
                self._depot_up = False
                self._metrics.unavailable.labels(error.code).inc()
                _log.warning("depot_down", detail=error.detail)
        return self._depot_up

    # acting

    def _act(self, decisions: Sequence[Decision]) -> None:
        ended = [decision for decision in decisions if isinstance(decision, Reclaim | Release)]
        if ended:
            with self._store.as_scheduler(self._mine) as tx:
                counts = reclaim_shards(tx, ended)
            self._metrics.leases_expired.inc(counts.expired)
            self._metrics.leases_released.inc(counts.released)
            _log.info(
                "leases_ended",
                expired=counts.expired,
                released=counts.released,
                bisected=counts.bisected,
                poisoned=counts.poisoned,
            )
            self._next_tick = 0.0
        for decision in decisions:
            match decision:
                case Wake(name):
                    _log.info("renderer_woken", name=name)
                    self._fleet.wake(name)
                case Revoke(name, shards):
                    self._fleet.revoke(name, self._epoch, shards)
                case LookUp(shards):
                    self._look_up(shards)
                case Dispatch() | Reclaim() | Release():
                    pass
                case _:
                    assert_never(decision)
        self._dispatch([decision for decision in decisions if isinstance(decision, Dispatch)])

    def _look_up(self, shards: Sequence[ShardId]) -> None:
        with self._store.as_scheduler(self._mine) as tx:
            reused = look_up_shards(tx, shards, self._resolved_in)
        self._metrics.renders.labels("reused").inc(reused)
        self._looked_up.update(shards)
        self._next_tick = 0.0  # now renderers may be woken, or the next shards looked up

    def _dispatch(self, decisions: Sequence[Dispatch]) -> None:
        if not decisions:
            return
        with self._store.as_scheduler(self._mine) as tx:
            taken = take_shards(tx, [decision.placed for decision in decisions], self._resolved_in)
        self._metrics.renders.labels("reused").inc(taken.reused)
        self._metrics.renders.labels("failed").inc(taken.failed)
        for work in taken.work:
            self._offer(work)
        if taken.reused or taken.failed:
            self._next_tick = 0.0  # their slots are free again

    def _offer(self, work: Work) -> None:
        order = write_order(work, epoch=self._epoch, depot=self._depot, ttl=self._pace.link_ttl, token=self._token())
        self._fleet.offer(work.name, order)
        self._metrics.dispatched.inc()

    # what is kept between transactions

    def _resolved_in(self, tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
        """A campaign's spec never changes, so it is read once."""
        if campaign not in self._campaigns:
            while len(self._campaigns) >= _CAMPAIGNS_KEPT:
                del self._campaigns[next(iter(self._campaigns))]
            self._campaigns[campaign] = tx.resolved(campaign)
        return self._campaigns[campaign]

    # counting

    def _count(self, tally: Tally) -> None:
        metrics = self._metrics
        metrics.renders.labels("succeeded").inc(tally.succeeded)
        metrics.renders.labels("failed").inc(tally.failed)
        metrics.refused_rows.inc(tally.refused)
        for seconds in tally.seconds:
            for stage in type(seconds).model_fields:
                metrics.stage_seconds.labels(stage).observe(getattr(seconds, stage))
        for failure in tally.failures:
            metrics.failures.labels(failure.code).inc()
        for kind, count in Counter(tally.retried).items():
            metrics.retries.labels(kind).inc(count)
        if tally.failed or tally.refused or tally.retried or tally.handed_back:
            _log.info(
                "settled",
                succeeded=tally.succeeded,
                failed=tally.failed,
                retried=len(tally.retried),
                handed_back=tally.handed_back,
                refused=tally.refused,
            )

    def _count_cache(self, cache: CacheCounts) -> None:
        for kind in ("checkpoint", "lora"):
            self._metrics.cache_hits.labels(kind).inc(getattr(cache, f"{kind}_hits"))
            self._metrics.cache_loads.labels(kind).inc(getattr(cache, f"{kind}_loads"))
            self._metrics.cache_load_seconds.labels(kind).inc(getattr(cache, f"{kind}_load_seconds"))

    def _show(self, depths: Sequence[QueueDepth]) -> None:
        found = {depth.state: depth for depth in depths}
        for state in ("ready", "leased"):
            depth = found.get(state)
            self._metrics.queue_renders.labels(state).set(depth.renders if depth else 0)
            self._metrics.queue_gpu_seconds.labels(state).set(depth.gpu_seconds if depth else 0)
        states = Counter(mate.state for mate in self._mates.values())
        for name in ("starting", "idle", "busy", "draining"):
            self._metrics.renderers.labels(name).set(states[name])
