"""The janitor's rounds, over the twins and a clock that the tests move."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from farm.core.errors import BadRequest, DepotDown, StoreDown
from farm.core.garbage import ORPHAN, RETENTION
from farm.core.lease import Leadership
from farm.core.records import TeamRow
from farm.depot.memory import MemoryDepot
from farm.loops.janitor import Counts, Janitor, Upkeep, beside
from farm.ports import SchedulerStore, SchedulerTx
from farm.store.memory import MemoryStore
from farm.telemetry import SchedulerMetrics
from farm.usecases.collect_garbage import Bit, collect
from farm.usecases.sweep_tables import Keep
from tests.support.lasting import OURS, RenderedFarm, upload
from tests.support.lasting import beside as with_what_lies_beside

UPKEEP = Upkeep(
    grace=timedelta(hours=6),
    every=timedelta(hours=1),
    keep=Keep(events=timedelta(days=30), attempts=timedelta(days=90)),
    lease_ttl=timedelta(seconds=30),
    link_ttl=timedelta(hours=2),
)
ORPHANED = "outputs/1/22/3-abc/picture.png"


@dataclass
class Time:
    """The database's clock, the process's and the store's, which agree here."""

    now: datetime = datetime(2026, 11, 23, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.now.timestamp()

    def database(self) -> datetime:
        """No two looks at it are at the same moment."""
        self.now += timedelta(microseconds=1)
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)


class Farm(RenderedFarm):
    """With a janitor."""

    def __init__(self) -> None:
        self.time, self.metrics = Time(), SchedulerMetrics()
        self.memory, self.memory_depot = MemoryStore(clock=self.time.database), MemoryDepot(lambda: self.time.now)
        self.memory.add_team(TeamRow(OURS, "ours", 5_000_000))
        led = self.memory.elect("first", timedelta(days=1000))
        assert led is not None
        super().__init__(self.memory, self.memory, self.memory_depot, led, began=self.time.now)
        self.leads: Leadership | None = led
        self.idle: list[float] = []
        self.janitor = self.made(self.memory)

    def made(self, store: SchedulerStore) -> Janitor:
        return Janitor(
            store=store,
            depot=self.memory_depot,
            upkeep=UPKEEP,
            leadership=lambda: self.leads,
            metrics=self.metrics,
            idle=self.idle.append,
            monotonic=self.time.monotonic,
        )

    def begin(self) -> AbstractContextManager[SchedulerTx]:
        return self.memory.as_scheduler(self.leadership)

    def round(self) -> Counts:
        """The next one, from its beginning to its end."""
        total = Counts()
        self.time.passes(hours=1.2)
        total.add(self.janitor.run_once())
        self.time.passes(hours=1.2)  # the first time, a new leader waits
        while not total.rounds:
            total.add(self.janitor.run_once())
        return total

    def collected(self, *, force: bool = False, grace: timedelta = UPKEEP.grace) -> list[Bit]:
        return list(collect(self.begin, self.memory_depot, grace=grace, force=force))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def farm() -> Farm:
    return Farm()


def upload_many(farm: Farm, count: int) -> None:
    for number in range(count):
        farm.memory_depot.put(f"outputs/1/22/{number}-lost/thumbnail.webp", b"small", "image/webp")


# orphans


def test_an_orphan_is_marked_then_deleted_after_the_grace_and_pictures_in_use_stay(farm: Farm) -> None:
    _, kept = farm.rendered(7)
    upload(farm.depot, ORPHANED)
    first = farm.round()
    assert (first.seen, first.orphans, first.deleted) == (24, 3, 0)
    assert farm.tombstones() == dict.fromkeys(with_what_lies_beside([ORPHANED]), ORPHAN)
    farm.time.passes(hours=1)
    assert farm.round().deleted == 0, "the grace is not over"
    farm.time.passes(hours=6)
    assert farm.round().deleted == 3
    assert farm.objects() == with_what_lies_beside(kept)
    assert farm.tombstones() == {}
    assert farm.metric("farm_garbage_objects_total", what="deleted") == 3


def test_it_is_told_when_a_round_came_to_its_end(farm: Farm) -> None:
    done_at = "farm_garbage_last_success_timestamp_seconds"
    assert farm.metric(done_at) is None
    farm.round()
    ended = farm.time.now.timestamp()
    assert farm.metric(done_at) == pytest.approx(ended, abs=1)
    farm.memory_depot.answers = False
    with pytest.raises(DepotDown):
        farm.round()
    farm.janitor.trouble(DepotDown("no"))
    assert farm.metric(done_at) == pytest.approx(ended, abs=1), "that round did not come to its end"


def test_what_came_into_use_during_the_grace_is_spared(farm: Farm) -> None:
    farm.submit(2)
    (shard,) = farm.take()
    report = farm.good(shard)
    assert farm.round().orphans == 6, "it is uploaded, and not reported yet"
    kept = farm.settle(shard, report)
    farm.time.passes(hours=7)
    counts = farm.round()
    assert (counts.spared, counts.deleted, farm.tombstones()) == (6, 0, {})
    assert farm.objects() == with_what_lies_beside(kept)


def test_what_comes_into_use_between_two_looks_is_spared_too(farm: Farm) -> None:
    farm.submit(2)
    (shard,) = farm.take()
    report = farm.good(shard)
    farm.round()
    farm.time.passes(hours=7)
    bits = collect(farm.begin, farm.memory_depot, grace=UPKEEP.grace)
    assert next(bits).seen == 6
    assert next(bits) == Bit(), "looked through, all of it unused"
    farm.settle(shard, report)
    assert next(bits) == Bit(spared=6)
    assert len(farm.objects()) == 6


def test_only_outputs_are_looked_at(farm: Farm) -> None:
    farm.depot.put("sources/1/abc", b"a source that no campaign refers to", "image/png")
    farm.depot.put("loras/abc.safetensors", b"weights", "application/octet-stream")
    for _ in range(3):
        farm.time.passes(hours=7)
        assert farm.round().orphans == 0
    assert farm.memory_depot.size("sources/1/abc") is not None


def test_a_deletion_that_was_cut_off_is_done_again(farm: Farm) -> None:
    farm.rendered(1)
    upload(farm.depot, ORPHANED)
    farm.round()
    farm.time.passes(hours=7)
    farm.memory_depot.delete(sorted(with_what_lies_beside([ORPHANED])))  # and here the process died
    assert len(farm.tombstones()) == 3
    assert farm.round().deleted == 3
    assert farm.tombstones() == {}


def test_it_begins_only_when_the_leader_has_heard_every_renderer(farm: Farm) -> None:
    upload(farm.depot, ORPHANED)
    farm.janitor.run_once()
    farm.time.passes(seconds=5 * 30 - 1)
    assert farm.janitor.run_once() == Counts()
    farm.time.passes(seconds=2)
    while farm.tombstones() == {}:
        farm.janitor.run_once()


# alarms


def test_it_deletes_nothing_when_more_than_a_twentieth_would_go_at_once(farm: Farm) -> None:
    _, kept = farm.rendered(10)
    upload_many(farm, 1_001)
    farm.round()
    farm.time.passes(hours=7)
    with capture_logs() as logs:
        counts = farm.round()
    assert "More than 1000 of 1031 objects" in counts.why
    assert counts.deleted == 0
    assert len(farm.objects()) == 1_031
    assert [line["log_level"] for line in logs if line["event"] == "garbage_alarm"] == ["error"]
    assert farm.metric("farm_garbage_alarms_total") == 1
    assert farm.round().deleted == 0, "nor does it later"
    assert sum(bit.deleted for bit in farm.collected(force=True)) == 1_001
    assert farm.objects() == with_what_lies_beside(kept)


def test_a_thousand_orphans_are_no_reason_to_stop(farm: Farm) -> None:
    farm.rendered(10)
    upload_many(farm, 1_000)
    farm.round()
    farm.time.passes(hours=7)
    assert farm.round().deleted == 1_000


def test_orphans_that_came_into_use_again_raise_no_alarm(farm: Farm) -> None:
    """As after an operator brought back the right database."""
    _, kept = farm.rendered(500)
    with farm.begin() as tx:
        tx.doomed(sorted(with_what_lies_beside(kept)), ORPHAN)
    farm.time.passes(hours=7)
    counts = farm.round()
    assert (counts.why, counts.spared, counts.deleted) == ("", 1_500, 0)


def test_a_database_that_lost_its_pictures_deletes_none(farm: Farm) -> None:
    upload_many(farm, 150)
    with capture_logs():
        counts = farm.round()
        farm.time.passes(hours=7)
        later = farm.round()
    assert "no picture at all" in counts.why
    assert "no picture at all" in later.why
    assert len(farm.objects()) == 150


def test_a_store_that_does_not_answer_ends_the_round_and_nothing_else(farm: Farm) -> None:
    upload(farm.depot, ORPHANED)
    farm.rendered(1)
    farm.round()
    farm.time.passes(hours=7)
    farm.memory.down = True
    with pytest.raises(StoreDown):
        farm.janitor.run_once()
    farm.janitor.trouble(StoreDown("gone"))
    farm.memory.down = False
    farm.memory_depot.answers = False
    with pytest.raises(DepotDown):
        farm.round()
    farm.janitor.trouble(DepotDown("gone"))
    farm.memory_depot.answers = True
    assert len(farm.objects()) == 6
    assert farm.round().deleted == 3


# retention and old rows


def test_a_campaign_past_its_retention_is_forgotten_and_its_pictures_go(farm: Farm) -> None:
    farm.memory.set_limits(TeamRow(OURS, "ours", 5_000_000, retention_days=30))
    old, _ = farm.rendered(1_200)
    farm.time.passes(days=20)
    young, kept = farm.rendered(2)
    farm.time.passes(days=11)
    counts = farm.round()
    assert (counts.pruned, counts.orphans, counts.why) == (1_200, 3_600, "")
    assert set(farm.tombstones().values()) == {RETENTION}
    farm.time.passes(hours=7)
    counts = farm.round()
    assert (counts.deleted, counts.why) == (3_600, ""), "however many: the database says why they go"
    assert farm.objects() == with_what_lies_beside(kept)
    with farm.memory.as_team(OURS) as tx:
        assert tx.campaign(old).renders == 1_200
        assert tx.outcomes(old, 0, 2_000) == []
        assert len(tx.outcomes(young, 0, 10)) == 2


def test_a_farm_whose_every_picture_was_pruned_is_no_reason_for_an_alarm(farm: Farm) -> None:
    farm.memory.set_limits(TeamRow(OURS, "ours", 5_000_000, retention_days=1))
    farm.rendered(100)
    farm.time.passes(days=2)
    assert (farm.round().pruned, farm.round().why) == (100, "")
    farm.time.passes(hours=7)
    assert (farm.round().deleted, farm.objects()) == (300, set())


def test_a_picture_that_another_campaign_took_over_outlives_the_first(farm: Farm) -> None:
    farm.memory.set_limits(TeamRow(OURS, "ours", 5_000_000, retention_days=30))
    _, kept = farm.rendered(1)
    farm.time.passes(days=20)
    farm.submit(1)
    (shard,) = farm.take()
    again = farm.row(shard, 0)
    assert again.picture is not None
    same = f"{(shard.campaign - 1) * 10_000:064x}"  # ids of campaigns follow one another here
    farm.settle(shard, [again.model_copy(update={"fingerprint": same})])
    farm.time.passes(days=11)
    assert farm.round().pruned == 1
    farm.time.passes(hours=7)
    farm.round()
    assert farm.objects() == with_what_lies_beside(kept), "and the second picture of it is gone"


def test_old_rows_are_swept(farm: Farm) -> None:
    farm.rendered(20)
    assert farm.memory.state.events.rows
    farm.time.passes(days=25)
    young, _ = farm.rendered(5)  # by another process of the renderer
    farm.time.passes(days=8)
    counts = farm.round()
    assert counts.swept["events"] > 0
    assert {row.campaign for row in farm.memory.state.events.rows.values()} == {young}
    assert counts.swept["sessions"] == 1
    assert farm.metric("farm_swept_rows_total", table="events") == counts.swept["events"]


# leading


def test_it_does_nothing_unless_this_process_leads(farm: Farm) -> None:
    upload(farm.depot, ORPHANED)
    farm.leads = None
    for _ in range(3):
        farm.time.passes(hours=7)
        assert farm.janitor.run_once() == Counts()
    assert farm.idle == [1.0] * 3
    assert farm.tombstones() == {}


def test_a_leader_that_was_replaced_writes_nothing_more(farm: Farm) -> None:
    upload(farm.depot, ORPHANED)
    farm.janitor.run_once()
    farm.time.passes(hours=1)
    assert farm.memory.renew(farm.leadership, timedelta(0))
    second = farm.memory.elect("second", timedelta(days=9))
    assert second is not None
    assert farm.janitor.run_once() == Counts(), "it thinks that it leads"
    farm.leadership = second
    assert farm.tombstones() == {}


def test_a_new_leader_begins_with_a_round_of_its_own(farm: Farm) -> None:
    farm.rendered(1)
    farm.round()
    farm.leads = replace(farm.leadership, epoch=farm.leadership.epoch)
    assert farm.janitor.run_once() == Counts(), "the same leadership: the next round is an hour away"
    farm.leads = None
    farm.janitor.run_once()
    farm.leads = farm.leadership
    assert farm.round().seen == 3


def test_a_grace_that_is_too_short_is_refused_at_once() -> None:
    with pytest.raises(BadRequest):
        replace(UPKEEP, grace=timedelta(hours=2))


# its thread


class Store:
    """Fails in a way that nobody foresaw, once; then says that it was asked again."""

    def __init__(self, store: MemoryStore) -> None:
        self._store, self.calls, self.again = store, 0, threading.Event()

    def as_scheduler(self, leadership: Leadership) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError
        self.again.set()
        return self._store.as_scheduler(leadership)


def test_a_mistake_of_its_own_ends_neither_the_process_nor_the_janitor(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.loops.janitor._AFTER_A_MISTAKE", 0.0)
    monkeypatch.setattr("farm.loops.janitor._LEASES_FIRST", 0)
    store, stopping = Store(farm.memory), threading.Event()
    janitor = farm.made(store)  # type: ignore[arg-type]  # the one method that it calls
    with capture_logs() as logs:
        thread = beside(janitor, stopping)
        assert store.again.wait(20)
        stopping.set()
        thread.join(20)
    assert not thread.is_alive()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["janitor_failed"]
