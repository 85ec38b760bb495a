"""The scheduler: leads, listens, settles, oversees, plans, acts.

Whatever it has in memory can be lost at any point: leases, fences and epochs in the database decide, and a renderer
keeps its reports until they are acknowledged.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

import structlog

from farm.core.errors import FarmError, LeadershipLost, ValuesRefused
from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import CampaignId, Epoch, RendererName, ShardId
from farm.core.lease import Leadership
from farm.core.oversee import Oversight, Overview, Scale, oversee
from farm.core.placement import Queue
from farm.core.plan import (
    Decision,
    Dispatch,
    End,
    LookUp,
    Reclaim,
    Release,
    Retire,
    Revoke,
    Snapshot,
    Wake,
    plan,
)
from farm.core.sound import sound
from farm.loops.counting import count_cache, count_ends, count_goings, count_gpu, count_settled, count_waits
from farm.loops.depot_watch import DepotWatch
from farm.loops.governing import farm_view, govern, learn_loads
from farm.loops.lead import Lead
from farm.loops.looking import Looked, Looking
from farm.loops.mate import Mate
from farm.loops.roster import Roster
from farm.loops.showing import Showing, Sight
from farm.ports import Depot, Fleet, News, SchedulerStore, SchedulerTx
from farm.telemetry import SchedulerMetrics
from farm.usecases.dispatch_shards import Work, look_up_shards, take_shards, write_order
from farm.usecases.reclaim_shards import reclaim_shards
from farm.usecases.settle_reports import From, Tally, settle_reports
from schemas.campaign import ResolvedCampaign
from schemas.report import CacheCounts, Published

_log = structlog.get_logger()

_CAMPAIGNS_KEPT = 256
_DEPOT_CHECK = 2.0
_SHOW_EVERY = 2.0
_LISTEN = 0.05
"""Seconds between two looks whether work has come: what a first picture may wait for its scheduler."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the scheduler, and the fleets that it may wake."""

    scale: Scale
    tick: timedelta
    lease_ttl: timedelta
    leader_ttl: timedelta
    link_ttl: timedelta
    drain_time: timedelta = timedelta(seconds=20)


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
        watch: DepotWatch | None = None,
    ) -> None:
        self._store, self._fleet, self._depot = store, fleet, depot
        self._pace, self._metrics, self._token, self._monotonic = pace, metrics, token, monotonic
        self._lead = Lead(holder=holder, store=store, ttl=pace.leader_ttl, metrics=metrics, monotonic=monotonic)
        self._next_tick = self._next_depot_check = self._next_view = 0.0
        self._depot_up = True
        self._watch = watch or DepotWatch(depot, metrics)
        self._in_doubt = False  # something heard may not have been settled
        self._roster = Roster(
            fleet=fleet,
            store=store,
            lead=self._lead,
            prefixes=tuple(one.prefix for one in pace.scale.fleets),
            lease_ttl=pace.lease_ttl,
            drain_time=pace.drain_time,
            monotonic=monotonic,
        )
        self._looking = Looking(monotonic)
        self._showing = Showing(metrics, [one.name for one in pace.scale.fleets])
        self._looked_up: set[ShardId] = set()
        self._succeeded: set[RendererName] = set()  # since the renderers were last judged
        self._gpus: dict[str, str] = {}  # by fleet
        self._noted: dict[RendererName, float] = {}
        self._campaigns: dict[CampaignId, ResolvedCampaign] = {}
        self._orders = 0

    # the service

    @property
    def leadership(self) -> Leadership | None:
        """What it leads by, for services that only run beside the leader."""
        return self._lead.held

    def run_once(self) -> None:
        """Hears what has come in, settles it, and once a tick plans and acts."""
        self._metrics.turned_at.set_to_current_time()
        if not self._lead.keep():
            self._forget()
            self._fleet.news(min(self._pace.leader_ttl / 5, timedelta(seconds=1)))
            return
        try:
            if self._in_doubt:
                self._roster.again()
                self._in_doubt = False
            self._settle(self._roster.hear(self._listen()))
            if self._monotonic() >= self._next_tick:
                self._next_tick = self._monotonic() + self._pace.tick.total_seconds()
                with self._metrics.tick_seconds.time():
                    self._tick()
        except LeadershipLost as error:
            _log.warning("leadership_lost", detail=error.detail)
            self._step_down()

    def _listen(self) -> Sequence[News]:
        """News of the renderers, for a moment at most. The next tick comes at once when people have sent work."""
        if self._store.work_came():
            self._next_tick = 0.0
        left = self._next_tick - self._monotonic()
        return self._fleet.news(timedelta(seconds=max(0.0, min(left, _LISTEN))))

    def trouble(self, error: FarmError) -> None:
        self._metrics.unavailable.labels(error.code).inc()
        self._in_doubt = True

    def stop(self) -> None:
        """Another may lead at once; the renderers live on and keep their reports."""
        self._lead.resign()
        self._forget()
        self._watch.close()
        self._fleet.close()

    def _step_down(self) -> None:
        self._lead.drop()
        self._forget()

    def _forget(self) -> None:
        """What was known is not true any more by the time that it leads again."""
        self._roster.forget()
        self._looking.forget()
        self._showing.forget()
        self._next_view = 0.0

    @property
    def _epoch(self) -> Epoch:
        return self._lead.mine.epoch

    # settling

    def _settle(self, heard: Sequence[Mate]) -> None:
        """Acknowledged is what is committed: a failure in between makes the renderer say it again."""
        batch: list[tuple[Mate, From]] = []
        loads: list[tuple[str, CacheCounts]] = []
        for mate in heard:
            if mate.hello is not None and mate.pending is not None:
                told = mate.hear(mate.pending)
                count_cache(self._metrics, told.cache, self._looking.loading(mate.hello.gpu))
                count_gpu(self._metrics, mate.name, told.gpu, told.wear)
                loads.append((mate.hello.gpu, told.cache))
                if told.reports:
                    heard_of = [sound(report) for report in told.reports]
                    batch.append((mate, From(mate.name, mate.hello.numerics, mate.hello.gpu, heard_of)))
                if mate.pending.fault:
                    self._roster.break_off(mate, mate.pending.fault)
        if batch:
            self._settle_all(batch, loads)
        for mate in heard:
            self._roster.collect(mate)

    def _settle_all(self, batch: Sequence[tuple[Mate, From]], loads: Sequence[tuple[str, CacheCounts]]) -> None:
        """A report that cannot be written down ends its renderer, neither this scheduler nor the one after it."""
        try:
            self._settle_batch(batch, loads)
        except ValuesRefused:
            if len(batch) > 1:
                for one in batch:
                    self._settle_all([one], ())
                return
            _log.exception("report_not_settled", name=batch[0][0].name)
            self._fleet.end(batch[0][0].name)

    def _settle_batch(self, batch: Sequence[tuple[Mate, From]], loads: Sequence[tuple[str, CacheCounts]]) -> None:
        with self._metrics.work.stage_seconds.labels("settle").time(), self._store.as_scheduler(self._lead.mine) as tx:
            prices = self._looking.prices(tx)
            tally = settle_reports(tx, [sender for _, sender in batch], self._resolved_in, prices)
            learn_loads(tx, loads)
            noted = [RendererName(name) for name in sorted(tally.succeeded_on) if self._worth_noting(name)]
            names = self._looking.names(tx, {team for team, _ in tally.charged})
            if noted:
                tx.note_success(noted)
        self._noted.update({name: self._monotonic() for name in noted})
        self._succeeded.update(RendererName(name) for name in tally.succeeded_on)
        for mate, sender in batch:
            mate.settled(max(report.seq for report in sender.reports), tally.ended)
        count_settled(self._metrics, tally, names)
        _report(tally)
        self._drop(tally.unwanted)
        self._next_tick = 0.0  # a slot may be free

    def _worth_noting(self, name: str) -> bool:
        """Once in a while: it is evidence of health, not a count."""
        return self._monotonic() >= self._noted.get(RendererName(name), -1e9) + 2.0

    def _drop(self, pictures: Sequence[Published]) -> None:
        """Pictures that nothing refers to. What a crash leaves behind here is found later by the garbage collection."""
        if not pictures:
            return
        with self._store.as_scheduler(self._lead.mine) as tx:
            used = tx.keys_in_use([picture.key for picture in pictures])
        self._watch.drop([picture for picture in pictures if picture.key not in used])

    # planning

    def _tick(self) -> None:
        self._roster.muster()
        with self._store.as_scheduler(self._lead.mine) as tx:
            self._roster.save(tx)
            tx.finish_campaigns()
            looked = self._looking.look(tx, len(self._roster.mates))
        self._roster.beaten()
        self._looked_up &= {head.shard for queue in looked.queues for head in queue.heads}
        self._roster.refused &= {(lease.shard, lease.fence) for lease in looked.held}
        oversight = self._oversee(looked)
        self._show(looked, oversight)
        decisions = plan(self._snapshot(looked, oversight))
        with_placed = sum(isinstance(decision, Dispatch) for decision in decisions)
        if self._looking.placed(looked, with_placed):
            self._next_tick = 0.0
        self._act(decisions, looked.queues)

    def _oversee(self, looked: Looked) -> Oversight:
        """Verdicts and warnings are written before anything is placed by them."""
        oversight = oversee(
            Overview(
                now=looked.now,
                purses=looked.purses,
                team_purses=looked.team_purses,
                backlog=looked.backlog,
                held_back=looked.held_back,
                held=looked.held,
                teams=looked.teams,
                seen=self._roster.seen(),
                speeds=looked.speeds,
                load_costs=looked.load_costs,
                prices=looked.prices,
                accusations=looked.accusations,
                quarantined=looked.quarantined,
                succeeded=frozenset(self._succeeded),
                scale=self._known_scale(),
            )
        )
        if oversight.decisions:
            with self._store.as_scheduler(self._lead.mine) as tx:
                govern(tx, oversight.decisions, self._metrics)
            self._looking.forget()
        self._succeeded.clear()
        return oversight

    def _known_scale(self) -> Scale:
        """With the type of GPU of each fleet as far as it was set, or a renderer of it ever said."""
        for mate in self._roster.mates.values():
            if mate.hello is not None:
                fleet = mate.name.rpartition("/")[0] + "/"
                self._gpus[fleet] = mate.hello.gpu
        fleets = [replace(fleet, gpu=fleet.gpu or self._gpus.get(fleet.prefix)) for fleet in self._pace.scale.fleets]
        return replace(self._pace.scale, fleets=fleets)

    def _snapshot(self, looked: Looked, oversight: Oversight) -> Snapshot:
        depot_answers = self._depot_answers()
        verdict = oversight.verdict
        return Snapshot(
            queues=looked.queues if depot_answers else (),
            backlog=looked.backlog if depot_answers else {},
            looked_up=frozenset(self._looked_up),
            held=looked.held,
            refused=frozenset(self._roster.refused),
            seen=self._roster.seen(),
            teams=looked.teams,
            rules=oversight.rules,
            may_reclaim=self._lead.led_for(self._pace.lease_ttl),
            suspects=verdict.suspects,
            closed=verdict.closed,
            probing=verdict.probing,
            wake=oversight.wake if depot_answers else (),
            retire=oversight.retire,
        )

    def _show(self, looked: Looked, oversight: Oversight) -> None:
        count_goings(self._metrics, self._roster)
        if self._monotonic() >= self._next_view:
            self._next_view = self._monotonic() + _SHOW_EVERY
            mates, going = tuple(self._roster.mates.values()), len(self._roster.going)
            self._showing.show(Sight(looked, oversight, self._known_scale(), mates, going, self._monotonic()))
            view = farm_view(looked, oversight, self._roster.mates.values(), self._pace.scale, depot_up=self._depot_up)
            with self._store.as_scheduler(self._lead.mine) as tx:
                tx.show_farm(view)

    def _depot_answers(self) -> bool:
        if self._monotonic() >= self._next_depot_check:
            self._next_depot_check = self._monotonic() + _DEPOT_CHECK
            self._depot_up = self._watch.answers()
        return self._depot_up

    # acting

    def _act(self, decisions: Sequence[Decision], queues: Sequence[Queue]) -> None:
        self._end_leases([decision for decision in decisions if isinstance(decision, Reclaim | Release)])
        shifts = [decision for decision in decisions if isinstance(decision, Rejoin | Rest)]
        if shifts:
            with self._store.as_scheduler(self._lead.mine) as tx:
                tx.turn(shifts)
        for decision in decisions:
            self._do(decision)
        self._dispatch([decision for decision in decisions if isinstance(decision, Dispatch)], queues)

    def _end_leases(self, ended: Sequence[Reclaim | Release]) -> None:
        if not ended:
            return
        with self._store.as_scheduler(self._lead.mine) as tx:
            counts = reclaim_shards(tx, ended)
            names = self._looking.names(tx, counts.ends.teams)
        count_ends(self._metrics, counts.ends, names)
        self._metrics.work.leases_expired.inc(counts.expired)
        self._metrics.work.leases_released.inc(counts.released)
        _log.info(
            "leases_ended",
            expired=counts.expired,
            released=counts.released,
            bisected=counts.bisected,
            poisoned=counts.poisoned,
        )
        self._next_tick = 0.0

    def _do(self, decision: Decision) -> None:
        match decision:
            case Wake(name):
                _log.info("renderer_woken", name=name)
                self._fleet.wake(name)
            case Retire(name):
                _log.info("renderer_idle", name=name)
                self._roster.dismiss(self._roster.mates[name], "idle")
            case Revoke(name, shards, running):
                self._fleet.revoke(name, self._epoch, shards, running=running)
            case End(name):
                _log.error("renderer_hangs", name=name)
                self._roster.end(self._roster.mates[name])
            case LookUp(shards):
                self._look_up(shards)
            case Dispatch() | Reclaim() | Release() | Rejoin() | Rest():
                pass
            case _:
                assert_never(decision)

    def _look_up(self, shards: Sequence[ShardId]) -> None:
        with self._store.as_scheduler(self._lead.mine) as tx:
            ends = look_up_shards(tx, shards, self._resolved_in)
            names = self._looking.names(tx, ends.teams)
        count_ends(self._metrics, ends, names)
        self._looked_up.update(shards)
        self._next_tick = 0.0  # now renderers may be woken, or the next shards looked up

    def _dispatch(self, decisions: Sequence[Dispatch], queues: Sequence[Queue]) -> None:
        if not decisions:
            return
        with self._store.as_scheduler(self._lead.mine) as tx:
            taken = take_shards(tx, [decision.placed for decision in decisions], self._resolved_in)
            names = self._looking.names(tx, taken.ends.teams)
        count_ends(self._metrics, taken.ends, names)
        count_waits(self._metrics, [work.shard.id for work in taken.work], queues)
        for work in taken.work:
            self._offer(work)
        if taken.ends.by_team:
            self._next_tick = 0.0  # their slots are free again

    def _offer(self, work: Work) -> None:
        self._orders += 1
        order = write_order(
            work,
            epoch=self._epoch,
            number=self._orders,
            depot=self._depot,
            ttl=self._pace.link_ttl,
            token=self._token(),
        )
        self._fleet.offer(work.name, order)
        self._metrics.work.dispatched.inc()

    # what is kept between transactions

    def _resolved_in(self, tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
        """A campaign's spec never changes, so it is read once, and again when others were used since."""
        found = self._campaigns.pop(campaign, None) or tx.resolved(campaign)
        while len(self._campaigns) >= _CAMPAIGNS_KEPT:
            del self._campaigns[next(iter(self._campaigns))]
        self._campaigns[campaign] = found  # last in line to be forgotten
        return found


def _report(tally: Tally) -> None:
    """A line for what went otherwise than planned; success is in the metrics."""
    if tally.failed or tally.refused or tally.retried or tally.handed_back:
        _log.info(
            "settled",
            succeeded=tally.succeeded,
            failed=tally.failed,
            retried=len(tally.retried),
            handed_back=tally.handed_back,
            refused=tally.refused,
        )
