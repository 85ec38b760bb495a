"""What `ApiStore` and `TeamTx` promise, for PostgreSQL and for the twin in memory."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from farm.core.errors import BadRequest, Conflict, NotFound
from farm.core.ids import CampaignId, CheckpointId, LoraId, Ordinal, StyleId, TeamId, mint
from farm.core.records import (
    CheckpointRow,
    LoraRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
    SourceRow,
    StyleRow,
    TeamRow,
)
from farm.ports import ApiStore
from farm.store.memory import MemoryStore
from farm.store.postgres import PostgresStore
from farm.usecases.submit_campaign import save
from schemas.campaign import (
    Block,
    CampaignSpec,
    CampaignState,
    ResolvedBlock,
    ResolvedCampaign,
    ResolvedSource,
    SourceEntry,
)
from schemas.checkpoint import CheckpointFile
from schemas.event import EventKind
from schemas.recipe import Output
from schemas.style import ResolvedStyle, StyleSpec
from tests.support.parts import Database, DatabaseServer

OURS, THEIRS = TeamId(1), TeamId(2)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHA = [f"{n:064x}" for n in range(5)]


class Backstage(Protocol):
    """What an administrator and the scheduler would do."""

    @property
    def store(self) -> ApiStore: ...

    def add_key(self, team: TeamId, digest: bytes) -> None: ...

    def revoke_key(self, digest: bytes) -> None: ...

    def fail(self, campaign: CampaignId, ordinals: Sequence[int]) -> None:
        """Gives these renders a failed outcome."""

    def lease_first(self, campaign: CampaignId) -> None: ...


@dataclass
class Memory:
    store: MemoryStore

    def add_key(self, team: TeamId, digest: bytes) -> None:
        self.store.add_key(team, digest, "key")

    def revoke_key(self, digest: bytes) -> None:
        self.store.revoke_key(digest)

    def fail(self, campaign: CampaignId, ordinals: Sequence[int]) -> None:
        none = (None,) * 6
        rows = [OutcomeRow(campaign, Ordinal(n), "failed", *none, False, "engine", "It broke.", NOW) for n in ordinals]
        self.store.settle(OURS, rows)

    def lease_first(self, campaign: CampaignId) -> None:
        self.store.lease(OURS, campaign)


@dataclass
class Postgres:
    store: PostgresStore
    url: str

    def _run(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, values)

    def add_key(self, team: TeamId, digest: bytes) -> None:
        number = int.from_bytes(digest[:7])
        self._run(
            "INSERT INTO api_key (key_id, team_id, name, digest) VALUES (%s, %s, 'key', %s)", number, team, digest
        )

    def revoke_key(self, digest: bytes) -> None:
        self._run("UPDATE api_key SET revoked_at = now() WHERE digest = %s", digest)

    def fail(self, campaign: CampaignId, ordinals: Sequence[int]) -> None:
        for n in ordinals:
            self._run(
                "INSERT INTO outcome (team_id, campaign_id, ordinal, outcome, tries, code, detail) "
                "VALUES (%s, %s, %s, 'failed', 1, 'engine', 'It broke.')",
                OURS,
                campaign,
                n,
            )
            self._run(
                "UPDATE shard SET todo = todo - int8multirange(int8range(%s, %s)), renders = renders - 1, "
                "failed = failed + 1 WHERE campaign_id = %s AND todo @> %s::bigint",
                n,
                n + 1,
                campaign,
                n,
            )

    def lease_first(self, campaign: CampaignId) -> None:
        self._run(
            "UPDATE shard SET state = 'leased' WHERE shard_id = "
            "(SELECT min(shard_id) FROM shard WHERE campaign_id = %s AND state = 'ready')",
            campaign,
        )


@pytest.fixture(scope="session")
def team_tables(postgres: DatabaseServer) -> Iterator[Database]:
    """A database with the tables and two teams, to be copied."""
    template = postgres.fresh_database()
    engine = create_engine(template.owner.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    with psycopg.connect(template.superuser) as connection_:
        connection_.execute("INSERT INTO team (team_id, name, max_renders) VALUES (1, 'ours', 1000), (2, 'theirs', 10)")
    yield template
    postgres.drop(template)


@pytest.fixture(params=["memory", "postgres"])
def backstage(request: pytest.FixtureRequest) -> Iterator[Backstage]:
    if request.param == "memory":
        memory = MemoryStore()
        memory.add_team(TeamRow(OURS, "ours", 1000))
        memory.add_team(TeamRow(THEIRS, "theirs", 10))
        yield Memory(memory)
        return
    server: DatabaseServer = request.getfixturevalue("postgres")
    tables: Database = request.getfixturevalue("team_tables")
    database = server.fresh_database(template=tables.name)
    store = PostgresStore(database.api, pool=4)
    yield Postgres(store, database.superuser)
    store.close()
    server.drop(database)


@pytest.fixture
def api_store(backstage: Backstage) -> ApiStore:
    return backstage.store


def source(n: int) -> SourceRow:
    return SourceRow(SHA[n], f"{n}.jpg", 10, 64, 48, "JPEG", NOW)


def checkpoint(name: str, digest: str = SHA[0]) -> CheckpointRow:
    files = (CheckpointFile(path="unet/a.safetensors", sha256=SHA[1], bytes=7),)
    return CheckpointRow(CheckpointId(mint(NOW, len(name))), name, digest, "folder", "checkpoints/x/", files, NOW)


def lora(name: str, digest: str = SHA[0]) -> LoraRow:
    number = LoraId(mint(NOW, len(name)))
    return LoraRow(number, name, digest, "loras/x", 9, SHA[0], "base", 4, 8, ("word",), "CC0", NOW, NOW)


def campaign(number: int, *, key: str | None = None, renders: int = 10) -> NewCampaign:
    style = StyleSpec(name="noir").model_dump(exclude={"checkpoint", "loras"})
    resolved = ResolvedCampaign(
        blocks=(
            ResolvedBlock(
                styles=(ResolvedStyle(**style, version=1, checkpoint=SHA[0], loras=()),),
                sizes=(None,),
                sources=(ResolvedSource(sha256=SHA[1], name="1.jpg", prompt=None, variables={"sku": "ü"}),),
                prompts=("",),
                strengths=(None,),
                variants=renders,
            ),
        ),
        seed=7,
        output=Output(),
    )
    spec = CampaignSpec(
        name="Ünïcode", blocks=(Block(sources=(SourceEntry(source=f"src_{SHA[1]}"),), styles=("noir",)),), seed=7
    )
    return NewCampaign(
        CampaignId(mint(NOW, number)), spec.name, key or f"key {number}", "hash", spec, resolved, renders, 50, None
    )


def shards(renders: int = 10, width: int = 5, proof: int = 0) -> list[NewShard]:
    """With *proof*, so many are ready and the others held."""
    return [
        NewShard(((lo, min(lo + width, renders)),), "engine", SHA[0], 0.5, "held" if 0 < proof <= n else "ready")
        for n, lo in enumerate(range(0, renders, width))
    ]


def test_a_key_finds_its_team_until_it_is_revoked(backstage: Backstage) -> None:
    digest = hashlib.sha256(b"farm_1_x").digest()
    assert backstage.store.key_owner(digest) is None
    backstage.add_key(THEIRS, digest)
    owner = backstage.store.key_owner(digest)
    assert owner is not None
    assert owner.team == THEIRS
    backstage.revoke_key(digest)
    assert backstage.store.key_owner(digest) is None


def test_a_campaign_for_which_others_have_left_no_room_is_not_saved(api_store: ApiStore) -> None:
    """Each saw room when it was checked; the second waits for the first, and then finds none."""
    with ThreadPoolExecutor(1) as pool:
        with api_store.as_team(THEIRS) as tx:
            assert tx.insert_campaign(campaign(1), shards()) is not None
            second = pool.submit(save, api_store, THEIRS, campaign(2), shards())
            with pytest.raises(TimeoutError):
                second.result(0.3)
        with pytest.raises(BadRequest) as refused:
            second.result(20)
    assert refused.value.code == "too_many_renders"
    with api_store.as_team(THEIRS) as tx:
        assert [row.id for row in tx.campaigns(before=None, limit=9)] == [campaign(1).id]
        assert tx.unfinished() == 10
    assert save(api_store, OURS, campaign(3), shards()).campaign.renders == 10


def test_ready_and_team(api_store: ApiStore) -> None:
    api_store.ready()
    with api_store.as_team(OURS) as tx:
        assert tx.team() == TeamRow(OURS, "ours", 1000)


def test_what_a_failed_transaction_wrote_is_gone(api_store: ApiStore) -> None:
    def write_and_fail() -> None:
        with api_store.as_team(OURS) as tx:
            tx.add_source(source(1))
            tx.insert_campaign(campaign(1), shards())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with api_store.as_team(OURS) as tx:
        assert tx.sources(after=None, limit=10) == []
        assert tx.campaigns(before=None, limit=10) == []
        assert tx.last_event() == 0


def test_sources_are_kept_once_and_come_in_pages(api_store: ApiStore) -> None:
    with api_store.as_team(OURS) as tx:
        assert [tx.add_source(source(n)) for n in (2, 0, 1)] == [True] * 3
        assert not tx.add_source(replace(source(1), name="other"))
        assert tx.sources(after=None, limit=2) == [source(0), source(1)]
        assert tx.sources(after=SHA[1], limit=2) == [source(2)]
        assert tx.sources_by_sha([SHA[1], SHA[4]]) == {SHA[1]: source(1)}
        assert tx.sources_by_sha([]) == {}
    with api_store.as_team(THEIRS) as tx:
        assert tx.sources(after=None, limit=2) == []
        assert tx.sources_by_sha([SHA[1]]) == {}
        assert tx.add_source(source(1))


def test_names_of_weights_are_taken_once(api_store: ApiStore) -> None:
    with api_store.as_team(OURS) as tx:
        for name in ("b", "aa"):
            tx.add_checkpoint(checkpoint(name))
            tx.add_lora(lora(name))
        tx.add_checkpoint(checkpoint("b"))  # the same weights: no harm
        tx.add_lora(lora("b"))
    with pytest.raises(Conflict), api_store.as_team(OURS) as tx:
        tx.add_checkpoint(checkpoint("b", SHA[2]))
    with pytest.raises(Conflict), api_store.as_team(OURS) as tx:
        tx.add_lora(lora("b", SHA[2]))
    with api_store.as_team(OURS) as tx:
        assert {row.name: row for row in tx.checkpoints()} == {name: checkpoint(name) for name in ("aa", "b")}
        assert {row.name: row for row in tx.loras()} == {name: lora(name) for name in ("aa", "b")}
    with api_store.as_team(THEIRS) as tx:
        assert (tx.checkpoints(), tx.loras()) == ([], [])


def test_styles_have_versions(api_store: ApiStore) -> None:
    first, second = StyleSpec(name="noir"), StyleSpec(name="noir", steps=10)

    def save(spec: StyleSpec, number: int) -> int:
        with api_store.as_team(OURS) as tx:
            return tx.add_style(StyleRow(StyleId(mint(NOW, number)), spec.name, 0, spec, NOW)).version

    assert [save(first, 1), save(first, 2), save(second, 3), save(first, 4)] == [1, 1, 2, 3]
    assert save(StyleSpec(name="anime"), 5) == 1
    with api_store.as_team(OURS) as tx:
        assert {row.name: row.version for row in tx.styles()} == {"noir": 3, "anime": 1}
        assert [(row.version, row.spec) for row in tx.style_versions("noir")] == [(3, first), (2, second), (1, first)]
        assert tx.style_versions("nothing") == []
    with api_store.as_team(THEIRS) as tx:
        assert tx.styles() == []


def test_a_submit_key_makes_one_campaign_per_team(api_store: ApiStore) -> None:
    with api_store.as_team(OURS) as tx:
        row = tx.insert_campaign(campaign(1, key="k"), shards())
        assert row is not None
        assert tx.insert_campaign(campaign(2, key="k"), shards()) is None
        assert tx.campaign_by_submit_key("k") == row
        assert tx.campaign_by_submit_key("other") is None
    with api_store.as_team(THEIRS) as tx:
        assert tx.campaign_by_submit_key("k") is None
        assert tx.insert_campaign(campaign(3, key="k"), shards()) is not None


def test_a_campaign_comes_back_as_it_went_in(api_store: ApiStore) -> None:
    new = campaign(1)
    with api_store.as_team(OURS) as tx:
        row = tx.insert_campaign(new, shards())
        assert row is not None
        assert (row.state, row.renders, row.finished_at) == (CampaignState.ACTIVE, 10, None)
    with api_store.as_team(OURS) as tx:
        assert tx.campaign(new.id) == row
        assert tx.spec(new.id) == new.spec
        assert tx.resolved(new.id) == new.resolved
    with api_store.as_team(THEIRS) as tx:
        for look in (tx.campaign, tx.spec, tx.resolved):
            with pytest.raises(NotFound):
                look(new.id)


def test_campaigns_come_newest_first(api_store: ApiStore) -> None:
    ids = [campaign(n).id for n in range(3)]
    with api_store.as_team(OURS) as tx:
        for n in range(3):
            tx.insert_campaign(campaign(n), shards())
        assert [row.id for row in tx.campaigns(before=None, limit=2)] == [ids[2], ids[1]]
        assert [row.id for row in tx.campaigns(before=ids[1], limit=2)] == [ids[0]]


def test_counts_ranges_and_outcomes_add_up(backstage: Backstage) -> None:
    new = campaign(1)
    with backstage.store.as_team(OURS) as tx:
        tx.insert_campaign(new, shards())
    backstage.lease_first(new.id)
    backstage.fail(new.id, [1, 7])
    with backstage.store.as_team(OURS) as tx:
        counts = tx.counts([new.id])[new.id]
        assert (counts.running, counts.queued, counts.failed, counts.succeeded, counts.cancelled) == (4, 4, 2, 0, 0)
        assert tx.unfinished() == 8
        assert [row.ordinal for row in tx.outcomes(new.id, 0, 10)] == [1, 7]
        assert [row.ordinal for row in tx.outcomes(new.id, 2, 7)] == []
        (row,) = tx.outcomes_after(new.id, outcome="failed", after=1, limit=5)
        assert (row.ordinal, row.outcome, row.code, row.detail, row.key) == (7, "failed", "engine", "It broke.", None)
        assert len(tx.outcomes_after(new.id, outcome="failed", after=-1, limit=1)) == 1
        assert tx.outcomes_after(new.id, outcome="succeeded", after=-1, limit=5) == []
        assert tx.open_ranges(new.id, lo=0, hi=10) == [
            OpenRange(Ordinal(0), Ordinal(1), "leased"),
            OpenRange(Ordinal(2), Ordinal(5), "leased"),
            OpenRange(Ordinal(5), Ordinal(7), "ready"),
            OpenRange(Ordinal(8), Ordinal(10), "ready"),
        ]
        assert tx.open_ranges(new.id, lo=3, hi=6) == [
            OpenRange(Ordinal(3), Ordinal(5), "leased"),
            OpenRange(Ordinal(5), Ordinal(6), "ready"),
        ]
    with backstage.store.as_team(THEIRS) as tx:
        assert tx.counts([new.id]) == {}
        assert tx.unfinished() == 0


def test_a_move_happens_from_the_right_state_only(backstage: Backstage) -> None:
    new = campaign(1)
    with backstage.store.as_team(OURS) as tx:
        tx.insert_campaign(new, shards())
        assert not tx.move(new.id, frm=[CampaignState.PAUSED], to=CampaignState.ACTIVE)
        assert tx.move(new.id, frm=[CampaignState.ACTIVE], to=CampaignState.PAUSED)
        assert tx.campaign(new.id).state is CampaignState.PAUSED
    backstage.lease_first(new.id)
    with backstage.store.as_team(OURS) as tx:
        assert tx.move(new.id, frm=[CampaignState.ACTIVE, CampaignState.PAUSED], to=CampaignState.CANCELLING)
        counts = tx.counts([new.id])[new.id]
        assert (counts.running, counts.cancelled, counts.queued) == (5, 5, 0)
        assert tx.unfinished() == 0
        states = [
            event.data["state"] for event in tx.events(after=0, limit=9) if event.kind == EventKind.CAMPAIGN_STATE
        ]
        assert states == ["paused", "cancelling"]


def test_events_are_numbered_per_team_and_filtered_by_campaign(api_store: ApiStore) -> None:
    first, second = campaign(1), campaign(2)
    with api_store.as_team(OURS) as tx:
        tx.insert_campaign(first, shards())
        tx.insert_campaign(second, shards())
        tx.add_event(EventKind.RENDERS_SETTLED, first.id, {"renders": 3, "ü": [1, None]})
    with api_store.as_team(OURS) as tx:
        events = tx.events(after=0, limit=10)
        assert [event.kind for event in events] == ["campaign.submitted", "campaign.submitted", "renders.settled"]
        assert events[2].data == {"renders": 3, "ü": [1, None]}
        assert [event.id for event in events] == sorted({event.id for event in events})
        assert tx.last_event() == events[-1].id
        assert tx.events(after=events[0].id, limit=1) == [events[1]]
        assert tx.events(after=0, limit=10, campaign=first.id) == [events[0], events[2]]
    with api_store.as_team(THEIRS) as tx:
        assert tx.events(after=0, limit=10) == []
        assert tx.last_event() == 0


def test_event_ids_are_seen_in_the_order_they_are_given(api_store: ApiStore) -> None:
    """Whoever has seen an id has missed nothing below it, however many write at once."""
    number = campaign(1).id
    with api_store.as_team(OURS) as tx:
        tx.insert_campaign(campaign(1), shards())
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(20):
                with api_store.as_team(OURS) as tx:
                    tx.add_event(EventKind.RENDERS_SETTLED, number, {})
        except BaseException as error:  # noqa: BLE001  (it is looked at below)
            failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while len(seen) < 61 and not failures:
        with api_store.as_team(OURS) as tx:
            seen += [event.id for event in tx.events(after=seen[-1] if seen else 0, limit=7)]
    for writer in writers:
        writer.join()
    assert failures == []
    assert seen == list(range(1, 62))


def test_wait_tells_which_teams_have_news(api_store: ApiStore) -> None:
    api_store.wait(timedelta(0))  # from here on it listens
    assert api_store.wait(timedelta(milliseconds=10)) == frozenset()
    with api_store.as_team(OURS) as tx:
        tx.insert_campaign(campaign(1), shards())
    assert api_store.wait(timedelta(seconds=10)) == {OURS}
    assert api_store.wait(timedelta(milliseconds=10)) == frozenset()


def test_a_waiter_wakes_while_it_waits(api_store: ApiStore) -> None:
    api_store.wait(timedelta(0))
    found: list[frozenset[TeamId]] = []
    waiter = threading.Thread(target=lambda: found.append(api_store.wait(timedelta(seconds=20))))
    waiter.start()
    with api_store.as_team(THEIRS) as tx:
        tx.insert_campaign(campaign(1), shards())
    waiter.join()
    assert found == [frozenset({THEIRS})]
