"""The renderers as the leader knows them, without a database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from farm.core.errors import LeadershipLost, StoreDown
from farm.core.ids import Epoch, RendererName, ShardId
from farm.core.lease import Leadership
from farm.loops.lead import Lead
from farm.loops.mate import Mate, Told, Wear
from farm.loops.roster import Roster
from farm.ports import Answered, Died, Fleet, Heard, Introduced, News, SchedulerStore, Silent
from farm.telemetry import SchedulerMetrics
from schemas.order import WIRE_MAJOR
from schemas.report import CacheCounts, Collected, Device, GpuTime, Hello, Offered, RenderReport, Warm

ONE, TWO = RendererName("farm/a/1/0"), RendererName("farm/a/1/1")
TTL = timedelta(seconds=30)


@dataclass
class World:
    """Stands for fleet and store, and notes what is asked of them."""

    existing: list[RendererName] = field(default_factory=lambda: [ONE, TWO])
    going: frozenset[str] = frozenset()
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    now: float = 0.0
    down: bool = False

    # the fleet

    def names(self) -> list[RendererName]:
        return self.existing

    def draining(self) -> frozenset[str]:
        return self.going

    def __getattr__(self, what: str) -> Any:
        if what not in ("adopt", "collect", "drain", "retire", "end", "greet", "revoke"):
            raise AttributeError(what)
        return lambda *arguments, **_: self.asked.append((what, *arguments))

    def take(self) -> list[tuple[Any, ...]]:
        """What was asked since the last look: (call, renderer)."""
        asked, self.asked = [call[:2] for call in self.asked], []
        return asked

    # the store

    def elect(self, holder: str, ttl: timedelta) -> Leadership:
        return Leadership(holder, Epoch(3))

    @contextmanager
    def as_scheduler(self, leadership: Leadership) -> Iterator["World"]:
        if self.down:
            raise StoreDown("no")
        yield self


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def roster(world: World) -> Roster:
    store, fleet = cast("SchedulerStore", world), cast("Fleet", world)
    lead = Lead(holder="h", store=store, ttl=TTL, metrics=SchedulerMetrics(), monotonic=lambda: world.now)
    assert lead.keep()
    return Roster(
        fleet=fleet,
        store=store,
        lead=lead,
        prefixes=("farm/a/1/", "farm/b/1/"),
        lease_ttl=TTL,
        drain_time=timedelta(seconds=20),
        monotonic=lambda: world.now,
    )


def hello(name: RendererName = ONE, session: str = "s", *, epoch: int = 3, wire: int = WIRE_MAJOR) -> Introduced:
    said = Hello(
        wire=wire, name=name, session=session, node="n", pid=1, gpu="g", numerics="m", epoch=epoch, holds=((9, "f"),)
    )
    return Introduced(name, said)


def collected(*seqs: int, session: str = "s", holds: Sequence[tuple[int, str]] = (), hits: int = 0) -> Collected:
    reports = tuple(RenderReport(seq=seq, shard=1, fence="f", epoch=3, rows=()) for seq in seqs)
    warm, cache = Warm(engine_key="e", checkpoint="c"), CacheCounts(lora_hits=hits)
    return Collected(session=session, reports=reports, holds=tuple(holds), waiting=0, busy="", warm=warm, cache=cache)


def heard(*seqs: int, session: str = "s") -> Heard:
    return Heard(ONE, collected(*seqs, session=session))


def met(world: World, roster: Roster, *, renderers: Sequence[RendererName] = (ONE,)) -> Mate:
    """A roster whose renderers have introduced themselves."""
    world.existing = list(renderers)
    roster.muster()
    roster.hear([hello(name, f"s-{name}" if name != ONE else "s") for name in renderers])
    world.take()
    return roster.mates[ONE]


def stand_by(world: World, roster: Roster, seconds: float) -> None:
    """Time passes in which the scheduler is there, and hears nothing."""
    for _ in range(int(seconds)):
        world.now += 1.0
        roster.muster()
    world.now += seconds % 1
    roster.muster()


def test_whoever_exists_is_adopted_once_and_then_listened_to(world: World, roster: Roster) -> None:
    world.existing.append(RendererName("somebody-elses"))
    roster.muster()
    roster.muster()
    assert world.take() == [("adopt", ONE), ("adopt", TWO)]
    assert [mate.state for mate in roster.mates.values()] == ["starting", "starting"]
    assert roster.hear([hello()]) == []
    assert [call[0] for call in world.take()] == ["greet", "collect"]
    assert roster.mates[ONE].state == "busy"
    roster.muster()
    assert world.take() == []


def test_an_answer_of_the_session_we_know_is_heard_and_that_of_another_is_not(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    assert roster.hear([heard(7)]) == [mate]
    assert mate.pending is not None
    mate.pending = None
    assert roster.hear([heard(8, session="newer")]) == []
    assert (mate.pending, world.take()) == (None, [("adopt", ONE)])


def test_a_renderer_that_dies_in_the_middle_of_two_calls_dies_once(world: World, roster: Roster) -> None:
    met(world, roster)
    assert roster.hear([Died(ONE, "gone"), Died(ONE, "gone")]) == []
    assert (roster.mates, roster.died) == ({}, ["s"])


def test_one_that_the_fleet_lists_no_more_has_ended(world: World, roster: Roster) -> None:
    met(world, roster, renderers=(ONE, TWO))
    world.existing = [TWO]
    roster.muster()
    assert (list(roster.mates), roster.died) == ([TWO], ["s"])
    roster.beaten()
    assert roster.died == []


def test_a_silent_renderer_is_asked_who_it_is_once_a_tick_and_gets_no_work(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    for _ in range(3):
        roster.hear([Silent(ONE, "collect", "lost"), Silent(ONE, "adopt", "lost")])
        assert world.take() == [], "or the loop would spin as fast as its calls fail"
        assert mate.seen(0.0).silent
        roster.muster()
        assert world.take() == [("adopt", ONE)]
    roster.hear([hello()])
    assert not mate.seen(0.0).silent
    assert [call[0] for call in world.take()] == ["greet", "collect"]


def test_an_offer_that_failed_says_nothing_of_the_renderer(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    roster.hear([Silent(ONE, "offer", "lost"), Silent(ONE, "revoke", "lost")])
    assert not mate.seen(0.0).silent


def test_one_that_has_not_answered_for_the_lease_time_is_silent_until_it_does(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    stand_by(world, roster, TTL.total_seconds())
    assert not mate.seen(0.0).silent
    world.now += 0.1
    roster.muster()
    assert mate.seen(0.0).silent
    assert world.take() == [("adopt", ONE)]
    roster.hear([heard()])
    assert not mate.seen(0.0).silent


def test_a_newer_epoch_ends_our_lead(world: World, roster: Roster) -> None:
    met(world, roster)
    with pytest.raises(LeadershipLost):
        roster.hear([hello(epoch=4)])
    with pytest.raises(LeadershipLost):
        roster.hear([Answered(ONE, 1, "f", Offered.STALE_EPOCH)])  # type: ignore[arg-type]  # a ShardId


@pytest.mark.parametrize("offered", Offered)
def test_refused_offers_are_remembered_until_their_leases_end(world: World, roster: Roster, offered: Offered) -> None:
    met(world, roster)
    if offered is not Offered.STALE_EPOCH:
        roster.hear([Answered(ONE, 1, "f", offered)])  # type: ignore[arg-type]  # a ShardId
        expected = set() if offered in (Offered.TAKEN, Offered.ALREADY) else {(1, "f")}
        assert roster.refused == expected


def test_a_renderer_of_another_wire_is_drained_and_retired_not_adopted(world: World, roster: Roster) -> None:
    world.existing = [ONE]
    roster.muster()
    roster.hear([hello(wire=WIRE_MAJOR + 1)])
    assert world.take() == [("adopt", ONE), ("drain", ONE), ("retire", ONE)]
    assert roster.mates[ONE].session is None


def test_those_of_a_node_that_must_go_are_drained_and_then_retired(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    world.going = frozenset({"n"})
    roster.muster()
    roster.muster()
    assert world.take() == [("drain", ONE), ("drain", ONE)], "it still holds a shard"
    mate.hear(collected(holds=[]))
    roster.muster()
    assert world.take() == [("retire", ONE)]
    assert mate.state == "draining"


@pytest.mark.parametrize("name", ["farm/a/0/0", "farm/gone/1/0"])
def test_renderers_of_another_revision_or_fleet_are_drained_and_retired(
    world: World, roster: Roster, name: str
) -> None:
    old = RendererName(name)
    met(world, roster, renderers=[ONE, old])
    roster.muster()
    assert ("drain", old) in world.take()
    assert not roster.mates[ONE].draining
    roster.mates[old].hear(collected(holds=[]))
    roster.muster()
    assert ("retire", old) in world.take()


def test_those_of_another_revision_are_drained_as_soon_as_they_are_known(world: World, roster: Roster) -> None:
    older = RendererName("farm/a/0/0")
    world.existing = [older]
    roster.muster()
    roster.hear([hello(older)])
    assert [call for call in world.take() if call[0] != "greet"] == [("adopt", older), ("collect", older)]
    roster.muster()
    assert world.take() == [("drain", older)]
    assert roster.mates[older].seen(0.0).draining


def test_one_that_hangs_is_ended_and_one_that_has_yet_to_start_is_not(world: World, roster: Roster) -> None:
    met(world, roster)
    world.existing.append(TWO)
    roster.muster()
    world.take()
    stand_by(world, roster, 4 * TTL.total_seconds() + 1)
    assert {call for call in world.take() if call[0] == "end"} == {("end", ONE)}


def test_one_that_says_who_it_is_and_never_what_it_did_is_ended_too(world: World, roster: Roster) -> None:
    """Else it would keep its leases for ever: the call that brings reports hangs, another one is answered."""
    mate = met(world, roster)
    for _ in range(4):
        stand_by(world, roster, TTL.total_seconds())
        roster.hear([hello()])
        assert ("end", ONE) not in world.take()
    assert mate.seen(0.0).silent, "it gets no work meanwhile"
    stand_by(world, roster, 1.0)
    assert ("end", ONE) in world.take()


def test_one_whose_call_was_lost_has_spoken_when_it_says_who_it_is(world: World, roster: Roster) -> None:
    met(world, roster)
    for _ in range(9):
        stand_by(world, roster, TTL.total_seconds() - 1)
        roster.hear([Silent(ONE, "collect", "lost"), hello()])
    assert ("end", ONE) not in world.take()


def test_a_leader_that_stood_still_takes_nobody_for_silent_that_it_could_not_hear(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    world.now += 9 * TTL.total_seconds()
    roster.muster()
    assert not mate.seen(0.0).silent
    assert "end" not in [call[0] for call in world.take()]
    assert mate.seen(world.now).heard_age == 9 * TTL.total_seconds(), "what it holds was said before that"


def test_rows_that_are_still_in_the_gpu_when_the_drain_time_is_over_are_stopped(world: World, roster: Roster) -> None:
    met(world, roster)
    world.going = frozenset({"n"})
    roster.muster()
    world.now += 20.0
    roster.muster()
    assert "revoke" not in [call[0] for call in world.asked]
    world.now += 0.1
    roster.muster()
    assert world.asked[-1] == ("revoke", ONE, 3, [9])


def test_a_drain_is_said_until_it_is_heard(world: World, roster: Roster) -> None:
    met(world, roster)
    world.going = frozenset({"n"})
    for _ in range(2):
        roster.muster()
        assert world.take() == [("drain", ONE)]


def test_one_that_refuses_because_it_drains_gets_no_more_and_is_retired(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    roster.hear([Answered(ONE, ShardId(1), "f", Offered.DRAINING)])
    assert mate.seen(0.0).draining
    mate.hear(collected(holds=[]))
    roster.muster()
    assert world.take() == [("drain", ONE)], "what it said before it was told says nothing of the last offer"
    mate.hear(collected(holds=[]))
    roster.muster()
    assert ("retire", ONE) in world.take()


def test_news_behind_a_failing_transaction_does_not_silence_anybody(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    assert "collect" in mate.asked
    world.existing.append(TWO)
    roster.muster()
    world.down = True
    with pytest.raises(StoreDown):
        roster.hear([hello(TWO, "t"), Silent(ONE, "collect", "away")])
    world.down = False
    world.take()
    roster.again()
    assert world.take() == [("collect", ONE), ("adopt", TWO)]


def test_after_a_failure_of_the_database_everybody_is_asked_again(world: World, roster: Roster) -> None:
    world.existing = [ONE, TWO]
    roster.muster()
    roster.hear([hello()])
    world.take()
    world.down = True
    items: list[News] = [hello(TWO, "t"), heard(5)]
    with pytest.raises(StoreDown):
        roster.hear(items)
    roster.again()
    assert world.take() == [("collect", ONE), ("adopt", TWO)]


# one renderer


def seqs(told: Told) -> list[int]:
    return [report.seq for report in told.reports]


def test_only_reports_that_were_not_settled_are_given_on() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)
    assert seqs(mate.hear(collected(5, 6))) == [5, 6]
    assert seqs(mate.hear(collected(5, 6, 7))) == [5, 6, 7], "nothing was settled yet"
    mate.settled(6, frozenset())
    assert seqs(mate.hear(collected(5, 6, 7))) == [7]


def test_a_new_session_begins_from_nothing() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)
    mate.hear(collected(5, hits=3))
    mate.settled(5, frozenset())
    mate.greet(hello().hello)
    assert mate.seen_seq == 5, "the same session introduced itself again"
    mate.greet(hello(session="newer").hello)
    assert (mate.seen_seq, mate.last, mate.seen(0.0).engine_key) == (0, None, "")
    assert mate.holds == {(9, "f")}


def test_what_was_settled_to_its_end_is_not_held_any_more_under_that_fence() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)
    mate.hear(collected(5, holds=[(1, "f"), (1, "newer"), (2, "g")]))
    mate.settled(5, frozenset({(1, "f")}))  # type: ignore[arg-type]  # a ShardId
    assert mate.holds == {(1, "newer"), (2, "g")}


def test_cache_counts_are_told_as_what_was_added() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)
    assert mate.hear(collected(hits=3)).cache.lora_hits == 3
    assert mate.hear(collected(hits=5)).cache.lora_hits == 2
    mate.greet(hello(session="newer").hello)
    assert mate.hear(collected(hits=1)).cache.lora_hits == 1


def test_what_the_gpu_did_is_told_as_what_was_added_and_never_as_less_than_nothing() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)

    def heard_of(gpu: GpuTime) -> GpuTime:
        return mate.hear(collected().model_copy(update={"gpu": gpu})).gpu

    assert heard_of(GpuTime(denoise=3.0, passes=4, rows=9)) == GpuTime(denoise=3.0, passes=4, rows=9)
    assert heard_of(GpuTime(denoise=3.5, idle=1.0, passes=5, rows=9)) == GpuTime(denoise=0.5, idle=1.0, passes=1)
    assert heard_of(GpuTime()) == GpuTime()


def test_what_a_renderer_did_under_a_former_leader_is_not_counted_again(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    assert mate.hear(collected(hits=300)).cache.lora_hits == 0
    assert mate.hear(collected(hits=305)).cache.lora_hits == 5
    mate.greet(hello(session="newer").hello)
    assert mate.hear(collected(hits=2)).cache.lora_hits == 2, "it began anew under our eyes"
    world.existing.append(TWO)
    roster.muster()
    other = roster.mates[TWO]
    other.greet(hello(TWO).hello)
    assert other.hear(collected(hits=7)).cache.lora_hits == 7, "one that has come since we lead"
    roster.forget()
    assert met(world, roster).hear(collected(hits=400)).cache.lora_hits == 0, "we lead again"


def test_what_a_renderer_did_before_ray_lost_sight_of_it_is_not_counted_again(world: World, roster: Roster) -> None:
    world.existing = []
    roster.muster()  # nobody was there when we began to lead
    mate = met(world, roster)
    assert mate.hear(collected(hits=300)).cache.lora_hits == 300
    world.existing = []
    roster.muster()
    assert roster.mates == {}
    assert met(world, roster).hear(collected(hits=301)).cache.lora_hits == 0, "the same process, back on the list"
    world.existing = []
    roster.muster()
    world.existing = [ONE]
    roster.muster()
    roster.hear([hello(session="newer")])
    assert roster.mates[ONE].hear(collected(session="newer", hits=2)).cache.lora_hits == 2, "another process"


def test_energy_and_memory_errors_are_told_as_what_was_added_since_the_first_look() -> None:
    mate = Mate(ONE)
    mate.greet(hello().hello)

    def worn(**counters: Any) -> Wear:
        device = Device(uuid="GPU-1").model_copy(update=counters)
        return mate.hear(collected().model_copy(update={"device": device})).wear

    assert worn(energy_joules=900.0, ecc_corrected=7) == Wear(0.0, 0, None), "it was counting long before we came"
    assert worn(energy_joules=950.5, ecc_corrected=9, ecc_uncorrected=1) == Wear(50.5, 2, 0)
    assert worn(energy_joules=3.0, ecc_uncorrected=2) == Wear(0.0, None, 1), "the driver was loaded anew"
    assert worn(energy_joules=4.0, ecc_corrected=1, uuid="GPU-2") == Wear(0.0, 0, None), "another GPU"
    mate.greet(hello(session="newer").hello)
    assert worn(energy_joules=50.0, uuid="GPU-2") == Wear(0.0, None, None)


# who came to go, and why


def test_renderers_are_counted_as_drained_once_each_and_by_why(world: World, roster: Roster) -> None:
    old = RendererName("farm/b/0/0")
    met(world, roster, renderers=[ONE, TWO, old])
    world.going = frozenset({"n"})
    for _ in range(2):
        roster.muster()
    assert roster.drained == {("a", "node"): 2, ("b", "node"): 1}
    assert roster.going == {"n"}
    roster.dismiss(roster.mates[ONE], "idle")
    assert roster.drained.total() == 3, "it was going already"


def test_a_revision_that_is_not_wanted_and_idleness_are_other_reasons(world: World, roster: Roster) -> None:
    met(world, roster, renderers=[ONE, RendererName("farm/b/0/0")])
    roster.muster()
    roster.dismiss(roster.mates[ONE], "idle")
    assert roster.drained == {("b", "revision"): 1, ("a", "idle"): 1}


def test_one_that_was_told_by_a_signal_goes_with_its_node(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    leaving = Heard(ONE, collected().model_copy(update={"leaving": True}))
    roster.hear([heard()])
    mate.hear(collected())
    roster.hear([leaving])
    mate.hear(leaving.collected)
    roster.hear([leaving])
    assert roster.drained == {("a", "node"): 1}


def test_what_a_former_leader_has_drained_is_not_counted_anew(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    leaving = Heard(ONE, collected().model_copy(update={"leaving": True}))
    roster.hear([leaving])
    mate.hear(leaving.collected)
    assert (mate.draining, roster.drained) == (True, {})


def test_a_renderer_that_dies_or_vanishes_is_lost_and_one_that_was_told_to_go_is_not(
    world: World, roster: Roster
) -> None:
    names = [ONE, TWO, RendererName("farm/b/1/0"), RendererName("farm/b/1/1")]
    met(world, roster, renderers=names)
    for name in names[2:]:
        roster.dismiss(roster.mates[name], "idle")
    roster.hear([Died(ONE, "gone"), Died(ONE, "gone"), Died(names[2], "gone")])
    world.existing = []
    roster.muster()
    assert roster.lost == {("a", "died"): 2}


def test_one_that_ray_has_started_anew_was_lost(world: World, roster: Roster) -> None:
    met(world, roster)
    roster.hear([hello()])
    assert roster.lost == {}, "the same process introduced itself again"
    for _ in range(2):
        roster.hear([hello(session="newer")])
    assert roster.lost == {("a", "died"): 1}
    roster.dismiss(roster.mates[ONE], "idle")
    roster.hear([hello(session="newest")])
    assert roster.lost == {("a", "died"): 1}, "it was told to go"


def test_one_that_hangs_is_lost_once_however_long_its_end_takes(world: World, roster: Roster) -> None:
    met(world, roster)
    stand_by(world, roster, 4 * TTL.total_seconds() + 10)
    assert roster.lost == {("a", "hung"): 1}
    roster.hear([Died(ONE, "ended")])
    assert roster.lost == {("a", "hung"): 1}


def test_one_with_a_fault_is_lost_once_and_drained(world: World, roster: Roster) -> None:
    mate = met(world, roster)
    for _ in range(2):
        roster.break_off(mate, "its GPU thread ended")
    roster.hear([Died(ONE, "retired")])
    assert (roster.lost, mate.draining, roster.drained) == ({("a", "fault"): 1}, True, {})


def test_a_heartbeat_is_written_once_for_each_answer() -> None:
    mate = Mate(ONE)
    assert mate.heartbeat() is None
    mate.greet(hello().hello)
    beat = mate.heartbeat()
    assert beat is not None
    assert (beat.session, beat.state) == ("s", "busy")
    mate.fresh = False
    assert mate.heartbeat() is None
    mate.hear(collected())
    assert mate.heartbeat() is not None
