"""The janitor and the audit over a real database and a real store.

Each promise is broken by hand, in the database or in the store, and the audit must say which one it was. The audit of
a farm that works must say nothing.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from farm.cli.main import app
from farm.core.audit import AuditReport, Promise
from farm.core.errors import StoreDown
from farm.core.ids import CampaignId, show
from farm.core.lease import Leadership
from farm.loops.janitor import Counts, Janitor, Upkeep
from farm.store.auditing import AuditStore
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from farm.telemetry import SchedulerMetrics
from farm.usecases.audit_farm import audit
from farm.usecases.sweep_tables import Keep
from schemas.campaign import CampaignState
from schemas.report import FailureKind
from tests.support.lasting import DATA, OURS, RenderedFarm, beside, upload
from tests.support.parts import Database, DatabaseServer, StoreServer

LONG = timedelta(days=1)
UPKEEP = Upkeep(
    grace=timedelta(hours=6),
    every=timedelta(hours=1),
    keep=Keep(events=timedelta(days=30), attempts=timedelta(days=90)),
    lease_ttl=timedelta(seconds=30),
    link_ttl=timedelta(hours=2),
)


@dataclass
class Farm(RenderedFarm):
    """With its audit."""

    def __init__(self, database: Database, store: StoreServer) -> None:
        self.database, self.server = database, store
        self.postgres = PostgresStore(database.api, pool=4)
        self.leading = PostgresStore(database.scheduler, pool=4)
        self.books = AuditStore(database.owner)
        self.s3 = store.depot()
        led = self.leading.elect("first", LONG)
        assert led is not None
        super().__init__(self.postgres, self.leading, self.s3, led)

    def close(self) -> None:
        for one in (self.postgres, self.leading, self.books):
            one.close()

    def audit(self, *, grace: timedelta = timedelta(0), sample: int | None = None, forget: bool = False) -> AuditReport:
        return audit(self.books, self.s3, grace=grace, attempts_kept=LONG, sample=sample, forget=forget)

    def reusable(self, fingerprints: list[str]) -> int:
        """How many of them a new campaign would take over."""
        with self.store.as_scheduler(self.leadership) as tx:
            return len(tx.pictures(OURS, fingerprints))

    def sql(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.database.superuser) as connection:
            connection.execute(statement, values)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database.superuser) as connection:
            return connection.execute(statement).fetchall()

    def janitor(self, leadership: Leadership | None = None) -> Janitor:
        return Janitor(
            store=self.leading,
            depot=self.s3,
            upkeep=UPKEEP,
            leadership=lambda: leadership or self.leadership,
            metrics=SchedulerMetrics(),
            idle=lambda _: None,
            monotonic=_every_two_hours(),
        )

    def round(self) -> Counts:
        janitor, total = self.janitor(), Counts()
        while not total.rounds:
            total.add(janitor.run_once())
        return total


def _every_two_hours() -> Callable[[], float]:
    """A process's clock that goes on by two hours at each look: whatever the janitor waits for is over."""
    looks = iter(range(0, 10**9, 7_200))
    return lambda: float(next(looks))


@pytest.fixture(scope="module")
def tables(postgres: DatabaseServer) -> Iterator[Database]:
    template = postgres.fresh_database()
    migrate(template.owner)
    with psycopg.connect(template.superuser) as connection:
        connection.execute("INSERT INTO team (team_id, name) VALUES (1, 'ours'), (2, 'theirs')")
    yield template
    postgres.drop(template)


@pytest.fixture
def farm(postgres: DatabaseServer, tables: Database, s3: StoreServer) -> Iterator[Farm]:
    database = postgres.fresh_database(template=tables.name)
    made = Farm(database, s3)
    yield made
    made.close()
    postgres.drop(database)


def move(farm: Farm, campaign: CampaignId, frm: CampaignState, to: CampaignState) -> None:
    with farm.api.as_team(OURS) as tx:
        assert tx.move(campaign, frm=[frm], to=to)


def retried(farm: Farm) -> CampaignId:
    """A campaign with failed tries of every kind, lost leases and a render that was given up."""
    campaign = farm.submit(4, width=2)
    first, second = farm.take()
    farm.settle(first, [farm.bad(first, 0, FailureKind.ENGINE), farm.row(first, 1)])
    farm.settle(second, [farm.bad(second, 2, FailureKind.BAD_SOURCE), farm.bad(second, 3, FailureKind.DEPOT)])
    farm.sql("UPDATE shard SET ready_at = now()")
    farm.take()
    farm.lose()
    farm.sql("UPDATE shard SET ready_at = now()")
    for shard in farm.take():
        farm.settle(shard, farm.good(shard))
    return campaign


# the audit of a sound farm


def test_a_farm_with_campaigns_in_every_state_is_passed(farm: Farm) -> None:
    farm.rendered(7)
    done = retried(farm)
    assert farm.state(done) is CampaignState.DONE
    cancelled = farm.submit(10)
    shards = farm.take()
    farm.settle(shards[0], farm.good(shards[0])[:2])
    move(farm, cancelled, CampaignState.ACTIVE, CampaignState.CANCELLING)
    farm.lose()
    with farm.store.as_scheduler(farm.leadership) as tx:
        tx.finish_campaigns()
    assert farm.state(cancelled) is CampaignState.CANCELLED
    paused = farm.submit(10)
    shards = farm.take()
    farm.settle(shards[0], farm.good(shards[0])[:2])
    move(farm, paused, CampaignState.ACTIVE, CampaignState.PAUSED)
    report = farm.audit()
    extra = [finding for finding in report.findings if finding.code != "orphan"]
    assert extra == [], "what was made and not reported are the only objects to be named"
    assert report.checked[Promise.P2] == 4
    assert report.checked[Promise.P1] == report.checked[Promise.P5] == 7 + 4 + 2 + 2
    assert report.checked[Promise.P3] == 7 + 3 + 2 + 2
    assert report.wrong[Promise.P4] == 2 * 3 * 3
    assert farm.audit(grace=timedelta(minutes=5)).ok, "they are young"


def test_a_farm_at_work_is_passed(farm: Farm) -> None:
    """Renders are settled all the while; each audit sees another moment of it."""
    reports: list[AuditReport] = []

    def work() -> None:
        for _ in range(4):
            farm.rendered(20)
            retried(farm)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while not working.done():
            reports.append(farm.audit(grace=timedelta(minutes=1)))
        working.result()
    assert [report.findings for report in reports] == [()] * len(reports)
    assert len({report.checked[Promise.P1] for report in reports}) > 2, "it saw the farm at different moments"


def test_a_sample_reads_so_many_pictures(farm: Farm) -> None:
    farm.rendered(20)
    assert farm.audit(sample=5).checked[Promise.P3] == 5


def test_campaigns_that_are_pruned_or_being_pruned_are_left_out(farm: Farm) -> None:
    farm.sql("UPDATE team SET retention_days = 30")
    old, _ = farm.rendered(5)
    farm.rendered(5)
    farm.sql("UPDATE campaign SET finished_at = now() - interval '31 days' WHERE campaign_id = %s", old)
    with farm.store.as_scheduler(farm.leadership) as tx:
        assert tx.prune(old, 2)[0] == 2
    report = farm.audit(grace=timedelta(minutes=1))
    assert (report.findings, report.checked[Promise.P2]) == ((), 1)


def test_outcomes_beyond_the_partitions_are_warned_of(farm: Farm) -> None:
    farm.began = datetime(2036, 2, 1, tzinfo=UTC)
    farm.rendered(3)
    report = farm.audit()
    assert report.ok
    assert ["outcome_beyond" in warning for warning in report.warnings] == [True]


# each promise, broken


def _drop_key(farm: Farm, _: CampaignId) -> None:
    farm.sql("ALTER TABLE outcome DROP CONSTRAINT outcome_pkey")


def _double(farm: Farm, campaign: CampaignId) -> None:
    _drop_key(farm, campaign)
    farm.sql("INSERT INTO outcome SELECT * FROM outcome WHERE campaign_id = %s AND ordinal = 3", campaign)


def _tell_again(farm: Farm, campaign: CampaignId) -> None:
    farm.sql(
        "INSERT INTO event (team_id, event_id, campaign_id, kind, data) "
        """VALUES (1, 1000, %s, 'renders.settled', '{"succeeded": [[2, 4]], "failed": []}')""",
        campaign,
    )


def _leave_homeless(farm: Farm, _: CampaignId) -> None:
    farm.sql("INSERT INTO outcome (team_id, campaign_id, ordinal, outcome, tries) VALUES (1, 77, 0, 'failed', 1)")


def _overwrite(data: bytes) -> Callable[[Farm, CampaignId], None]:
    def work(farm: Farm, campaign: CampaignId) -> None:
        ((key,),) = farm.query(f"SELECT key FROM picture WHERE key LIKE 'outputs/1/{campaign}/4-%'")
        farm.s3.put(str(key), data, "image/png")

    return work


def _delete_object(farm: Farm, campaign: CampaignId) -> None:
    ((key,),) = farm.query(f"SELECT key FROM picture WHERE key LIKE 'outputs/1/{campaign}/4-%'")
    farm.s3.delete([str(key)])


def _render_again(farm: Farm, campaign: CampaignId) -> None:
    upload(farm.s3, f"outputs/1/{campaign}/4-another/picture.png")


def _statement(text: str) -> Callable[[Farm, CampaignId], None]:
    return lambda farm, campaign: farm.sql(text.replace("CAMPAIGN", str(campaign)))


OF_CAMPAIGN = "WHERE campaign_id = CAMPAIGN"

BREAKS: list[tuple[str, str, Callable[[Farm, CampaignId], None]]] = [
    ("P1", "no_primary_key", _drop_key),
    ("P1", "outcome_twice", _double),
    ("P1", "outcome_outside", _statement(f"UPDATE outcome SET ordinal = 1000 {OF_CAMPAIGN} AND ordinal = 4")),
    ("P1", "outcome_outside", _leave_homeless),
    (
        "P1",
        "outcome_changed",
        _statement(f"UPDATE outcome SET outcome = 'failed', picture_id = NULL {OF_CAMPAIGN} AND ordinal = 4"),
    ),
    ("P1", "outcome_changed", _statement(f"DELETE FROM outcome {OF_CAMPAIGN} AND ordinal = 4")),
    ("P1", "settled_again", _tell_again),
    ("P1", "count_differs", _statement(f"UPDATE shard SET succeeded = succeeded + 1 {OF_CAMPAIGN}")),
    ("P1", "outcome_of_another_team", _statement(f"UPDATE outcome SET team_id = 2 {OF_CAMPAIGN} AND ordinal = 4")),
    ("P2", "render_lost", _statement(f"DELETE FROM outcome {OF_CAMPAIGN} AND ordinal = 4")),
    ("P2", "render_lost", _statement("UPDATE shard SET state = 'done' WHERE state = 'ready'")),
    ("P2", "done_and_to_do", _statement("UPDATE shard SET todo = '{[0,5)}' WHERE state = 'ready'")),
    (
        "P2",
        "in_two_shards",
        _statement(
            "INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, renders, seconds) "
            "SELECT team_id, campaign_id, engine_key, checkpoint, priority, todo, renders, seconds FROM shard "
            "WHERE state = 'ready'"
        ),
    ),
    ("P2", "shard_outside", _statement("UPDATE shard SET todo = todo + '{[90,91)}' WHERE state = 'ready'")),
    ("P2", "ended_with_open", _statement("UPDATE campaign SET state = 'done', finished_at = now()")),
    ("P3", "picture_missing", _delete_object),
    ("P3", "picture_size", _overwrite(DATA + b"!")),
    ("P3", "picture_differs", _overwrite(b"!" * len(DATA))),
    ("P4", "orphan", lambda farm, _: upload(farm.s3, "outputs/1/77/0-left/picture.png")),
    ("P4", "orphan", lambda farm, _: farm.s3.put("outputs/1/77/0-left/thumbnail.webp", b"small", "image/webp")),
    ("P5", "tries_differ", _statement(f"UPDATE outcome SET tries = 2 {OF_CAMPAIGN} AND ordinal = 4")),
    ("P5", "rendered_twice", _render_again),
]


@pytest.mark.parametrize(
    ("promise", "code", "wreck"), BREAKS, ids=[f"{p}-{c}-{n}" for n, (p, c, _) in enumerate(BREAKS)]
)
def test_a_broken_promise_is_named(
    farm: Farm, promise: str, code: str, wreck: Callable[[Farm, CampaignId], None]
) -> None:
    campaign, _ = farm.rendered(5)
    half = farm.submit(10)
    first, _ = farm.take()
    farm.settle(first, farm.good(first))
    farm.sql("UPDATE shard SET state = 'ready', session = NULL WHERE state = 'leased'")
    assert farm.audit().findings == ()
    wreck(farm, campaign)
    report = farm.audit()
    assert code in {finding.code for finding in report.findings if finding.promise == promise}, report.findings
    assert not report.ok
    assert farm.state(half) in CampaignState


def test_failed_tries_that_are_not_on_record_are_missed(farm: Farm) -> None:
    campaign = retried(farm)
    assert farm.audit(grace=timedelta(minutes=1)).findings == ()
    farm.sql("DELETE FROM attempt WHERE ordinal = 0")
    (finding,) = farm.audit(grace=timedelta(minutes=1)).findings
    assert (finding.promise, finding.code) == (Promise.P5, "tries_differ")
    assert finding.subject == f"{show('rnd', campaign)}_0"


def test_what_the_depot_lost_is_forgotten_and_rendered_anew(farm: Farm) -> None:
    campaign, keys = farm.rendered(5)
    outcomes = "SELECT ordinal, outcome, picture_id FROM outcome ORDER BY ordinal"
    before = farm.query(outcomes)
    known = [str(row[0]) for row in farm.query("SELECT encode(fingerprint, 'hex') FROM picture ORDER BY key")]
    gone, damaged = sorted(keys)[:2]
    farm.s3.delete([gone])
    farm.s3.put(damaged, b"!" * len(DATA), "image/png")
    assert farm.audit().wrong[Promise.P3] == 2
    assert farm.reusable(known) == 5, "an audit alone changes nothing"
    assert farm.audit(forget=True).wrong[Promise.P3] == 2
    assert farm.reusable(known) == 3
    assert farm.query(outcomes) == before, "an outcome never changes"
    again = farm.audit()
    assert again.ok
    assert ["lost and forgotten: 2." in warning for warning in again.warnings] == [True]
    farm.submit(5)
    (shard,) = farm.take()
    anew = zip(farm.good(shard), known, strict=True)
    farm.settle(shard, [row.model_copy(update={"fingerprint": fingerprint}) for row, fingerprint in anew])
    assert farm.reusable(known) == 5, "they were rendered anew, and are found again"
    assert farm.query("SELECT count(DISTINCT picture_id) FROM outcome") == [(7,)]
    assert farm.state(campaign) is CampaignState.DONE


def test_a_second_picture_is_explained_by_a_lost_lease_or_a_failed_try(farm: Farm) -> None:
    explained, never = retried(farm), farm.rendered(5)[0]
    for campaign in (explained, never):
        upload(farm.s3, f"outputs/1/{campaign}/1-another/picture.png")
    found = [f for f in farm.audit(grace=LONG).findings if f.code == "rendered_twice"]
    assert [finding.subject for finding in found] == [f"{show('rnd', never)}_1"]


def test_an_old_object_whose_picture_was_just_forgotten_is_no_orphan_yet(farm: Farm) -> None:
    """Its grace begins with its tombstone, however old it is."""
    upload(farm.s3, "outputs/1/77/0-left/picture.png")
    assert farm.audit(grace=timedelta(seconds=-60)).wrong[Promise.P4] == 3, "older than that"
    with farm.store.as_scheduler(farm.leadership) as tx:
        tx.doomed(sorted(beside(["outputs/1/77/0-left/picture.png"])), "retention")
    farm.sql("UPDATE tombstone SET found_at = now() + interval '2 minutes'")
    assert farm.audit(grace=timedelta(seconds=-60)).ok


# the janitor


def test_orphans_go_after_the_grace_and_pictures_stay(farm: Farm) -> None:
    _, kept = farm.rendered(12)
    upload(farm.s3, "outputs/1/77/0-left/picture.png")
    counts = farm.round()
    assert (counts.seen, counts.orphans, counts.deleted) == (39, 3, 0)
    assert set(farm.tombstones()) == beside(["outputs/1/77/0-left/picture.png"])
    farm.sql("UPDATE tombstone SET found_at = found_at - interval '5 hours'")
    assert farm.round().deleted == 0
    farm.sql("UPDATE tombstone SET found_at = found_at - interval '2 hours'")
    assert farm.round().deleted == 3
    assert farm.objects() == beside(kept)
    assert farm.tombstones() == {}
    assert farm.audit().ok


def test_what_is_settled_during_the_grace_is_spared(farm: Farm) -> None:
    farm.submit(3)
    (shard,) = farm.take()
    report = farm.good(shard)
    assert farm.round().orphans == 9
    kept = farm.settle(shard, report)
    farm.sql("UPDATE tombstone SET found_at = found_at - interval '7 hours'")
    assert farm.round().spared == 9
    assert farm.objects() == beside(kept)
    assert farm.audit().ok


def test_campaigns_past_their_retention_go_with_their_objects(farm: Farm) -> None:
    farm.sql("UPDATE team SET retention_days = 30")
    old, _ = farm.rendered(12)
    young, kept = farm.rendered(2)
    farm.sql("UPDATE campaign SET finished_at = now() - interval '31 days' WHERE campaign_id = %s", old)
    assert farm.round().pruned == 12
    assert set(farm.tombstones().values()) == {"retention"}
    assert len(farm.objects()) == 3 * 14
    farm.sql("UPDATE tombstone SET found_at = found_at - interval '7 hours'")
    assert farm.round().deleted == 36
    assert farm.objects() == beside(kept)
    assert farm.query("SELECT campaign_id FROM outcome GROUP BY 1") == [(young,)]
    assert farm.query("SELECT count(*) FROM campaign WHERE pruned_at IS NOT NULL") == [(1,)]
    assert farm.audit().ok


def test_old_rows_are_swept_and_young_ones_stay(farm: Farm) -> None:
    retried(farm)
    rows = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM attempt), (SELECT count(*) FROM renderer)"
    before = farm.query(rows)
    assert farm.round().swept == {}
    assert farm.query(rows) == before
    farm.sql("UPDATE event SET at = at - interval '31 days'")
    farm.sql("UPDATE attempt SET at = at - interval '91 days'")
    farm.sql("UPDATE renderer SET ended_at = ended_at - interval '8 days'")
    swept = farm.round().swept
    assert swept["events"] == before[0][0]
    assert swept["attempts"] == before[0][1]
    assert farm.query(rows) == [(0, 0, 1)], "the last session has not ended"
    assert farm.audit(grace=LONG).wrong[Promise.P1] == 0


def test_a_leader_that_was_replaced_deletes_nothing(farm: Farm) -> None:
    upload(farm.s3, "outputs/1/77/0-left/picture.png")
    old = farm.leadership
    assert farm.leading.renew(old, timedelta(seconds=-1))
    second = farm.leading.elect("second", LONG)
    assert second is not None
    janitor = farm.janitor(old)
    assert [janitor.run_once() for _ in range(5)] == [Counts()] * 5
    farm.leadership = second
    assert farm.tombstones() == {}
    assert farm.round().orphans == 3


def test_a_store_that_is_gone_is_said_to_be_down(s3: StoreServer) -> None:
    nowhere = AuditStore("postgresql://farm_owner:x@127.0.0.1:1/halftone")
    with pytest.raises(StoreDown):
        audit(nowhere, s3.depot(), grace=LONG, attempts_kept=LONG)
    nowhere.close()


# the commands


@pytest.fixture
def run(farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """As an operator runs it, with the settings in the environment."""
    settings = {
        "OWNER_DATABASE_URL": farm.database.owner,
        "DEPOT_ENDPOINT": farm.server.endpoint,
        "DEPOT_ACCESS_KEY": farm.server.access_key,
        "DEPOT_SECRET_KEY": farm.server.secret_key,
        "DEPOT_BUCKET": farm.s3._bucket,
        "DEPOT_SECURE": "false",
        "DATA": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"FARM_{name}", value)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_the_audit_says_what_it_looked_at_and_ends_with_0(farm: Farm, run: Callable[..., Result]) -> None:
    farm.rendered(3)
    told = run("audit")
    assert told.exit_code == 0, told.output
    lines = [line.split("\t") for line in told.stdout.splitlines()]
    assert [(line[0], line[2], line[3]) for line in lines] == [
        ("P1", "3 outcomes", "none"),
        ("P2", "1 campaigns", "none"),
        ("P3", "3 pictures", "none"),
        ("P4", "9 objects", "none"),
        ("P5", "3 outcomes", "none"),
    ]
    assert json.loads(run("audit", "--json").stdout)["ok"] is True


def test_the_audit_ends_with_1_and_examples_when_something_is_wrong(farm: Farm, run: Callable[..., Result]) -> None:
    _, (key, *_) = farm.rendered(3)
    farm.s3.delete([key])
    told = run("audit", "--sample", "10")
    assert told.exit_code == 1
    assert f"P3\tpicture_missing\t{key}\tthe object is not in the depot" in told.stdout
    assert "1 things that should not be" in told.stderr
    found = json.loads(run("audit", "--json").stdout)
    assert (found["ok"], found["wrong"]["P3"], found["findings"][0]["subject"]) == (False, 1, key)


@pytest.mark.parametrize(("words", "code"), [(("--grace", "soon"), 2), (("--sample", "0"), 2)])
def test_a_wrong_option_is_refused(run: Callable[..., Result], words: tuple[str, ...], code: int) -> None:
    assert run("audit", *words).exit_code == code


def test_without_a_farm_the_missing_settings_are_named(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_OWNER_DATABASE_URL")
    told = run("audit")
    assert told.exit_code == 1
    assert "FARM_OWNER_DATABASE_URL" in told.stderr


def test_an_operator_deletes_what_the_farm_refuses_to(farm: Farm, run: Callable[..., Result]) -> None:
    upload_many(farm, 150)  # and the database has no picture
    refused = run("garbage")
    assert refused.exit_code == 1
    assert "no picture at all" in refused.stderr
    assert run("garbage", "--force").exit_code == 0
    farm.sql("UPDATE tombstone SET found_at = found_at - interval '7 hours'")
    assert run("garbage").exit_code == 1
    assert len(farm.objects()) == 150
    told = run("garbage", "--force", "--json")
    assert (told.exit_code, json.loads(told.stdout)["deleted"]) == (0, 150)
    assert farm.objects() == set()


def upload_many(farm: Farm, count: int) -> None:
    for number in range(count):
        farm.s3.put(f"outputs/1/22/{number}-lost/thumbnail.webp", b"small", "image/webp")
