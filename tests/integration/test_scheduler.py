"""The scheduler's turns over a real database and a real store, with renderers in this process."""

import hashlib
import io
import json
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from actors.engine.fake import FakeEngine
from actors.renderer import Renderer, RendererSettings
from farm.core.errors import DepotDown, LeadershipLost, StoreDown, Unavailable
from farm.core.ids import CampaignId, RendererName, TeamId
from farm.core.keys import provenance_key, source_key, thumbnail_key
from farm.core.lease import Leadership
from farm.core.oversee import Scale
from farm.core.records import CampaignCounts, OutcomeRow, SourceRow
from farm.core.scaling import FleetSpec
from farm.depot.s3 import S3Depot
from farm.fleet.simulated import SimulatedCluster, SimulatedFleet
from farm.loops.scheduler import Pace, Scheduler
from farm.ports import Depot, SchedulerStore, SchedulerTx
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from farm.telemetry import SchedulerMetrics
from farm.usecases.add_checkpoint import add_checkpoint
from farm.usecases.add_lora import LoraCard, add_lora
from farm.usecases.add_style import add_style
from farm.usecases.check_campaign import Terms
from farm.usecases.move_campaign import cancel_campaign, pause_campaign, resume_campaign
from farm.usecases.submit_campaign import submit_campaign
from farm.usecases.upload_source import upload_source
from schemas.campaign import Block, CampaignSpec, CampaignState, SourceEntry
from schemas.source import SourceFault
from schemas.style import StyleLora, StyleSpec
from tests.support.parts import Database, DatabaseServer, StoreServer
from tests.unit.api.world import CHECKPOINT, FakeClock, lora_of, picture, tar_of

OURS = TeamId(1)
PREFIX = "farm/sim/1/"
LONG = timedelta(minutes=5)


class Gate:
    """A GPU that works only while it is let: stands for the engine's sleep."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.passes = 0

    def __call__(self, seconds: float) -> None:
        self.passes += 1
        self.reached.set()
        assert self.open.wait(60)


@dataclass
class Farm:
    """A team with a checkpoint, a LoRA, three styles and three sources, and whoever renders for it."""

    api: PostgresStore
    database: Database
    depot: S3Depot
    cache: Path
    stack: ExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    sources: list[SourceRow] = field(default_factory=list)
    gate: Gate | None = None  # of renderers that are made while it is set
    metrics: SchedulerMetrics = field(default_factory=SchedulerMetrics)

    def cluster(self, *, pending: Sequence[RendererName] = ()) -> SimulatedCluster:
        cluster = SimulatedCluster(self._renderer, pending=pending)
        self.stack.callback(cluster.close)
        return cluster

    def _renderer(self, name: RendererName) -> Renderer:
        settings = RendererSettings(name=name, engine="fake", batch=2, cache=self.cache, fake_seconds=0.0, io_threads=2)
        return Renderer(settings, FakeEngine(batch=2, seconds=0.0, sleep=self.gate or (lambda _: None)))

    def scheduler(
        self,
        cluster: SimulatedCluster,
        *,
        renderers: int = 2,
        store: SchedulerStore | None = None,
        depot: Depot | None = None,
        lease_ttl: timedelta = LONG,
        leader_ttl: timedelta = LONG,
    ) -> Scheduler:
        if store is None:
            store = PostgresStore(self.database.scheduler, pool=2)
            self.stack.callback(store.close)
        return Scheduler(
            holder=uuid.uuid4().hex,
            store=store,
            fleet=SimulatedFleet(cluster),
            depot=depot or self.depot,
            pace=Pace(
                scale=Scale(
                    fleets=(FleetSpec("sim", PREFIX, 0, renderers, None, None),), drain_seconds=0.0, idle_seconds=3600.0
                ),
                tick=timedelta(milliseconds=50),
                lease_ttl=lease_ttl,
                leader_ttl=leader_ttl,
                link_ttl=timedelta(hours=1),
            ),
            metrics=self.metrics,
            token=lambda: uuid.uuid4().hex,
        )

    def submit(
        self, *, styles: int = 3, strengths: Sequence[float] = (0.4, 0.8), variants: int = 2, more: Sequence[str] = ()
    ) -> CampaignId:
        """3 x 3 x 2 x 2 = 36 renders in shards of about four."""
        spec = CampaignSpec(
            name="Shoes",
            blocks=(
                Block(
                    sources=tuple(SourceEntry(source=f"src_{sha}") for sha in (*self._digests, *more)),
                    styles=("anime", "noir", "plain")[:styles],
                    strengths=tuple(strengths),
                    variants=variants,
                ),
            ),
        )
        terms = Terms(max_renders=10_000, shard_seconds=0.24, currency="EUR")
        submitted = submit_campaign(self.api, self.clock, OURS, spec, terms, idempotency_key=None)
        return submitted.campaign.id

    @property
    def _digests(self) -> list[str]:
        return [source.sha256 for source in self.sources]

    def state(self, campaign: CampaignId) -> CampaignState:
        with self.api.as_team(OURS) as tx:
            return tx.campaign(campaign).state

    def counts(self, campaign: CampaignId) -> CampaignCounts:
        with self.api.as_team(OURS) as tx:
            return tx.counts([campaign])[campaign]

    def outcomes(self, campaign: CampaignId) -> list[OutcomeRow]:
        with self.api.as_team(OURS) as tx:
            return tx.outcomes(campaign, 0, 10_000)

    def move(self, campaign: CampaignId, to: CampaignState) -> None:
        verbs = {
            CampaignState.PAUSED: pause_campaign,
            CampaignState.ACTIVE: resume_campaign,
            CampaignState.CANCELLING: cancel_campaign,
        }
        verbs[to](self.api, OURS, campaign)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.superuser) as connection:
            return connection.execute(statement).fetchall()

    def check_every_picture(self, campaign: CampaignId, renders: int) -> None:
        """Each render has one outcome, whose objects exist and are what the row says."""
        outcomes = self.outcomes(campaign)
        assert [row.ordinal for row in outcomes] == list(range(renders))
        for row in outcomes:
            assert row.outcome == "succeeded", row
            assert row.key is not None
            data = self.depot.get(row.key)
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (row.sha256, row.bytes)
            assert Image.open(io.BytesIO(data)).size == (row.width, row.height) == (128, 64)
            assert json.loads(self.depot.get(provenance_key(row.key)))["digests"]["picture"] == row.sha256
            assert self.depot.size(thumbnail_key(row.key))


@pytest.fixture(scope="session")
def migrated(postgres: DatabaseServer) -> Iterator[Database]:
    template = postgres.fresh_database()
    migrate(template.owner)
    with psycopg.connect(template.superuser) as connection:
        connection.execute("INSERT INTO team (team_id, name) VALUES (1, 'ours')")
    yield template
    postgres.drop(template)


@pytest.fixture
def farm(
    postgres: DatabaseServer, migrated: Database, s3: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Farm]:
    monkeypatch.setattr("farm.loops.roster._COLLECT", timedelta(milliseconds=200))
    monkeypatch.setattr("farm.loops.scheduler._DEPOT_CHECK", 0.0)
    monkeypatch.setattr("farm.core.plan.SETTLE_GRACE", 0.5)
    database = postgres.fresh_database(template=migrated.name)
    with ExitStack() as stack:
        stack.callback(postgres.drop, database)
        api = PostgresStore(database.api, pool=2)
        stack.callback(api.close)
        made = Farm(api, database, s3.depot(), tmp_path / "cache", stack)
        _furnish(made, tmp_path)
        yield made
        if made.gate is not None:
            made.gate.open.set()


def _furnish(farm: Farm, folder: Path) -> None:
    (folder / "checkpoint").write_bytes(tar_of(CHECKPOINT))
    (folder / "lora").write_bytes(lora_of())
    with_parts = (farm.api, farm.depot, farm.clock, OURS)
    add_checkpoint(*with_parts, name="default", upload=folder / "checkpoint")
    add_lora(*with_parts, LoraCard(name="ink"), upload=folder / "lora")
    for name, loras in (
        ("anime", (StyleLora(lora="ink", scale=0.7),)),
        ("noir", (StyleLora(lora="ink"),)),
        ("plain", ()),
    ):
        add_style(*with_parts, StyleSpec(name=name, loras=loras, size="128x64", steps=10))
    for n in range(3):
        source, _ = upload_source(*with_parts, name=f"{n}.png", data=picture(40 * n, size=(96 + n, 64)))
        farm.sources.append(source)


def drive(scheduler: Scheduler, until: Callable[[], bool], *, seconds: float = 60) -> None:
    """Turns, as `farm.loops.loop.run` makes them, without its pauses."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not come to that"
        try:
            scheduler.run_once()
        except Unavailable as error:
            scheduler.trouble(error)


def turns(scheduler: Scheduler, seconds: float) -> None:
    """Turns for a while in which nothing is to happen."""
    end = time.monotonic() + seconds
    drive(scheduler, lambda: time.monotonic() >= end)


def test_a_campaign_ends_with_every_picture_in_the_depot(farm: Farm) -> None:
    campaign, cluster = farm.submit(), farm.cluster()
    scheduler = farm.scheduler(cluster)
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    assert len(list(farm.depot.list("outputs/"))) == 3 * 36, "nothing was rendered twice"
    assert sorted(set(cluster.woken)) == [f"{PREFIX}0", f"{PREFIX}1"]
    assert farm.query("SELECT count(*) FROM shard WHERE state <> 'done' OR lost > 0 OR tries > 0") == [(0,)]
    scheduler.stop()
    assert cluster.names() == [f"{PREFIX}0", f"{PREFIX}1"], "renderers outlive their scheduler"


def test_those_who_watch_are_told_what_a_campaign_came_to_and_what_it_ran_on(farm: Farm) -> None:
    campaign = farm.submit()
    scheduler = farm.scheduler(farm.cluster())
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    used = [f"{PREFIX}{n}" for n in range(2) if farm.metric("farm_renderer_passes_total", renderer=f"{PREFIX}{n}")]
    drive(scheduler, lambda: all(farm.metric("farm_gpu_utilisation_ratio", renderer=name) is not None for name in used))
    assert used
    assert farm.metric("farm_renders_total", outcome="succeeded") == 36
    assert farm.metric("farm_team_renders_total", team="ours", outcome="succeeded") == 36
    assert (farm.metric("farm_charged_gpu_seconds_total", team="ours", fleet="sim") or 0) > 0
    waits = farm.metric("farm_shard_wait_seconds_count", lane="bulk")
    assert waits == farm.metric("farm_shards_dispatched_total") == farm.query("SELECT count(*) FROM shard")[0][0]
    assert (farm.metric("farm_database_bytes") or 0) > 1_000_000
    scheduler.stop()
    assert farm.metric("farm_gpu_utilisation_ratio", renderer=used[0]) is None, "it leads no more"


def test_what_was_rendered_before_wakes_nobody(farm: Farm) -> None:
    first = farm.submit(styles=2)
    scheduler = farm.scheduler(farm.cluster())
    drive(scheduler, lambda: farm.state(first) == CampaignState.DONE)
    scheduler.stop()
    objects = len(list(farm.depot.list("outputs/")))

    again, idle = farm.submit(styles=2), farm.cluster()
    scheduler = farm.scheduler(idle)
    drive(scheduler, lambda: farm.state(again) == CampaignState.DONE)
    assert (farm.counts(again).reused, farm.counts(again).succeeded) == (24, 24)
    assert idle.woken == []
    assert len(list(farm.depot.list("outputs/"))) == objects
    farm.check_every_picture(again, 24)

    wider = farm.submit(styles=3)
    drive(scheduler, lambda: farm.state(wider) == CampaignState.DONE)
    assert farm.counts(wider).reused == 24
    assert farm.metric("farm_team_renders_total", team="ours", outcome="reused") == 48
    assert len(list(farm.depot.list("outputs/"))) == objects + 3 * 12
    farm.check_every_picture(wider, 36)


def test_a_killed_renderer_comes_back_and_its_shards_are_rendered(farm: Farm) -> None:
    farm.gate = Gate()
    campaign, cluster = farm.submit(), farm.cluster()
    scheduler = farm.scheduler(cluster, renderers=1)
    drive(scheduler, farm.gate.reached.is_set)
    stuck, farm.gate = farm.gate, None
    cluster.kill(RendererName(f"{PREFIX}0"))
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    stuck.open.set()
    farm.check_every_picture(campaign, 36)
    assert farm.query("SELECT count(*), count(ended_at) FROM renderer") == [(2, 1)]
    assert farm.query("SELECT max(lost), max(tries) FROM shard") == [(1, 0)]
    assert farm.metric("farm_renderer_losses_total", fleet="sim", how="died") == 1


def test_the_shards_of_a_renderer_that_is_gone_for_good_go_to_another(farm: Farm) -> None:
    farm.gate = Gate()
    campaign, cluster = farm.submit(), farm.cluster(pending=[RendererName(f"{PREFIX}1")])
    scheduler = farm.scheduler(cluster)
    drive(scheduler, farm.gate.reached.is_set)
    stuck, farm.gate = farm.gate, None
    cluster.lose(RendererName(f"{PREFIX}0"))
    cluster.pending.add(RendererName(f"{PREFIX}0"))  # whoever is woken in its place finds no node
    cluster.start(RendererName(f"{PREFIX}1"))
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    stuck.open.set()
    farm.check_every_picture(campaign, 36)


def test_a_renderer_that_answers_nothing_loses_its_shards_once_and_gets_no_more(farm: Farm) -> None:
    farm.gate = Gate()
    first, second = RendererName(f"{PREFIX}0"), RendererName(f"{PREFIX}1")
    campaign, cluster = farm.submit(), farm.cluster(pending=[second])
    scheduler = farm.scheduler(cluster, lease_ttl=timedelta(seconds=2))
    drive(scheduler, farm.gate.reached.is_set)
    cluster.hang(first)
    drive(scheduler, lambda: farm.counts(campaign).running == 0, seconds=20)
    turns(scheduler, 1.0)
    assert farm.query("SELECT max(lost), count(*) FILTER (WHERE lost > 0) FROM shard") == [(1, 1)], "one was prefetched"
    assert farm.counts(campaign).queued == 36

    stuck, farm.gate = farm.gate, None
    cluster.start(second)
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    stuck.open.set()
    cluster.start(first)
    later = farm.submit(variants=4)
    drive(scheduler, lambda: farm.state(later) == CampaignState.DONE)
    assert len(farm.query(f"SELECT DISTINCT renderer FROM outcome WHERE campaign_id = {later} AND NOT reused")) == 2


def test_another_scheduler_takes_over_what_a_dead_one_left(farm: Farm) -> None:
    farm.gate = Gate()
    campaign, cluster = farm.submit(), farm.cluster()
    former = farm.scheduler(cluster, leader_ttl=timedelta(seconds=1))
    drive(former, lambda: farm.gate is not None and farm.gate.passes >= 2 and farm.counts(campaign).running >= 12)
    old = former._lead.mine

    successor = farm.scheduler(cluster)  # and no more turns of the former one
    drive(successor, lambda: successor._lead.held is not None)
    farm.gate.open.set()
    drive(successor, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    assert farm.query("SELECT max(lost), max(tries) FROM shard") == [(0, 0)], "what was under way went on"
    assert len(list(farm.depot.list("outputs/"))) == 3 * 36
    assert farm.query("SELECT count(*) FROM renderer") == [(2,)], "its renderers were adopted"

    assert successor._lead.mine.epoch == old.epoch + 1
    with pytest.raises(LeadershipLost), former._store.as_scheduler(old):
        pytest.fail("the former leader was let in")
    former._lead._next_renewal = former._monotonic() + 60  # it has slept, and does not know yet
    former._next_tick = 0.0
    former.run_once()
    assert former._lead.held is None
    former.run_once()
    assert former._lead.held is None, "it stands by"


def test_after_a_cancel_nothing_new_is_rendered(farm: Farm) -> None:
    farm.gate = gate = Gate()
    campaign, cluster = farm.submit(), farm.cluster()
    scheduler = farm.scheduler(cluster)
    drive(scheduler, lambda: gate.passes == 2 and farm.counts(campaign).running >= 12)
    farm.move(campaign, CampaignState.CANCELLING)
    # All but the two passes that are in the GPUs, of two rows each, is handed back.
    drive(scheduler, lambda: farm.counts(campaign).cancelled == 32)
    assert farm.state(campaign) == CampaignState.CANCELLING
    assert gate.passes == 2
    gate.open.set()
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.CANCELLED)
    counts = farm.counts(campaign)
    assert (counts.cancelled, counts.succeeded, counts.queued, counts.running) == (36, 0, 0, 0)
    assert gate.passes == 2, "those in the GPU stopped at their next step"
    assert list(farm.depot.list("outputs/")) == []


def test_a_paused_campaign_waits_and_a_resumed_one_ends(farm: Farm) -> None:
    campaign, other, cluster = farm.submit(styles=1), farm.submit(styles=2), farm.cluster()
    farm.move(campaign, CampaignState.PAUSED)
    scheduler = farm.scheduler(cluster)
    drive(scheduler, lambda: farm.state(other) == CampaignState.DONE)
    assert (farm.state(campaign), farm.counts(campaign).queued) == (CampaignState.PAUSED, 12)
    farm.move(campaign, CampaignState.ACTIVE)
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 12)


def test_what_a_renderer_has_when_its_campaign_is_paused_is_finished(farm: Farm) -> None:
    farm.gate = gate = Gate()
    campaign = farm.submit()
    scheduler = farm.scheduler(farm.cluster(), renderers=1)
    drive(scheduler, gate.reached.is_set)
    running = farm.counts(campaign).running
    farm.move(campaign, CampaignState.PAUSED)
    gate.open.set()
    drive(scheduler, lambda: farm.counts(campaign).succeeded == running)
    turns(scheduler, 0.5)
    assert farm.counts(campaign).queued == 36 - running
    farm.move(campaign, CampaignState.ACTIVE)
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)


class FailingDepot:
    """A depot that can be down; all else is the real one's."""

    def __init__(self, depot: Depot) -> None:
        self._depot, self.down = depot, False

    def ready(self) -> None:
        if self.down:
            raise DepotDown("The store does not answer.")
        self._depot.ready()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._depot, name)


def test_shards_wait_while_the_depot_is_down(farm: Farm) -> None:
    campaign, depot = farm.submit(), FailingDepot(farm.depot)
    depot.down = True
    scheduler = farm.scheduler(farm.cluster(), depot=depot)
    turns(scheduler, 1.0)
    counts = farm.counts(campaign)
    assert (counts.queued, counts.running, farm.query("SELECT max(tries) FROM shard")) == (36, 0, [(0,)])
    depot.down = False
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)


def test_a_bad_source_fails_alone_with_its_code(farm: Farm) -> None:
    data = b"hello, I am no picture"
    sha256 = hashlib.sha256(data).hexdigest()
    farm.depot.put(source_key(OURS, sha256), data, "image/png")
    with farm.api.as_team(OURS) as tx:
        tx.add_source(SourceRow(sha256, "bad.png", len(data), 64, 64, "PNG", datetime(2026, 11, 23, tzinfo=UTC)))
    campaign = farm.submit(more=[sha256])
    drive(farm.scheduler(farm.cluster()), lambda: farm.state(campaign) == CampaignState.DONE)
    fates = Counter((row.outcome, row.code) for row in farm.outcomes(campaign))
    assert fates == {("succeeded", None): 36, ("failed", SourceFault.NOT_A_PICTURE.value): 12}
    assert farm.query("SELECT count(*) FROM attempt") == [(12,)], "trying again would not have helped"


class FlakyStore:
    """Fails once before and once after the commit of each place in the scheduler that opens a transaction."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.opened: Counter[str] = Counter()

    def as_scheduler(self, leadership: Leadership) -> AbstractContextManager[SchedulerTx]:
        place = sys._getframe(1).f_code.co_name
        self.opened[place] += 1
        return self._transaction(leadership, self.opened[place])

    @contextmanager
    def _transaction(self, leadership: Leadership, number: int) -> Iterator[SchedulerTx]:
        if number == 1:
            raise StoreDown("PostgreSQL does not answer.")
        with self._store.as_scheduler(leadership) as tx:
            yield tx
            if number == 2:
                raise StoreDown("The connection broke before the commit.")
        if number == 3:
            raise StoreDown("The connection broke after the commit.")

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        self.opened["renew"] += 1
        if self.opened["renew"] == 1:
            raise StoreDown("PostgreSQL does not answer.")
        return self._store.renew(leadership, ttl)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_database_that_fails_at_every_place_loses_nothing(farm: Farm) -> None:
    store = PostgresStore(farm.database.scheduler, pool=2)
    farm.stack.callback(store.close)
    flaky, cluster = FlakyStore(store), farm.cluster()
    campaign = farm.submit()
    scheduler = farm.scheduler(cluster, store=flaky, leader_ttl=timedelta(seconds=3))
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    assert {"_introduced", "_tick", "_look_up", "_dispatch", "_settle_batch", "_act", "_show"} <= flaky.opened.keys()
    assert min(flaky.opened[place] for place in ("_tick", "_look_up", "_dispatch", "_settle_batch")) > 3
    assert farm.query("SELECT max(lost), max(tries) FROM shard") == [(0, 0)], "nobody is to blame"
    assert len(list(farm.depot.list("outputs/"))) == 3 * 36


class OutageStore:
    """Down for as long as it is told."""

    def __init__(self, store: PostgresStore) -> None:
        self._store, self.down = store, False

    def as_scheduler(self, leadership: Leadership) -> AbstractContextManager[SchedulerTx]:
        self._check()
        return self._store.as_scheduler(leadership)

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        self._check()
        return self._store.renew(leadership, ttl)

    def _check(self) -> None:
        if self.down:
            raise StoreDown("PostgreSQL does not answer.")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_an_outage_longer_than_every_lease_takes_nothing_from_anybody(farm: Farm) -> None:
    farm.gate = gate = Gate()
    store = PostgresStore(farm.database.scheduler, pool=2)
    farm.stack.callback(store.close)
    outage, campaign, cluster = OutageStore(store), farm.submit(), farm.cluster()
    scheduler = farm.scheduler(cluster, store=outage, lease_ttl=timedelta(seconds=1))
    drive(scheduler, lambda: gate.passes == 2 and farm.counts(campaign).running >= 12)
    turns(scheduler, 1.1)  # from here on it may reclaim
    outage.down = True
    turns(scheduler, 1.5)
    outage.down = False
    gate.open.set()
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    assert farm.query("SELECT max(lost), max(tries) FROM shard") == [(0, 0)]
    assert len(list(farm.depot.list("outputs/"))) == 3 * 36


def test_a_node_that_must_go_hands_its_shards_back(farm: Farm) -> None:
    farm.gate = gate = Gate()
    campaign, cluster = farm.submit(), farm.cluster()
    scheduler = farm.scheduler(cluster, renderers=1)
    drive(scheduler, gate.reached.is_set)
    ((node, session),) = farm.query("SELECT node, session::text FROM renderer")
    farm.gate = None
    cluster.draining = frozenset({node})
    drive(scheduler, lambda: farm.counts(campaign).running == 2)  # what is in the GPU is finished
    gate.open.set()
    drive(scheduler, lambda: cluster.names() == [])
    cluster.draining = frozenset()
    drive(scheduler, lambda: farm.state(campaign) == CampaignState.DONE)
    farm.check_every_picture(campaign, 36)
    assert farm.query("SELECT max(lost), max(tries) FROM shard") == [(0, 0)]
    assert farm.query(f"SELECT ended_at IS NOT NULL FROM renderer WHERE session = '{session}'") == [(True,)]
    assert farm.metric("farm_renderer_drains_total", fleet="sim", why="node") == 1
    assert farm.metric("farm_renderer_losses_total", fleet="sim", how="died") == 0
