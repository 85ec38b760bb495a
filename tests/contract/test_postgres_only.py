"""What only a real PostgreSQL can show: who waits for whom, what each role may do, what operators do."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import Engine, event

from farm.core.errors import NotFound, ValuesRefused
from farm.core.ids import StyleId, TeamId
from farm.core.records import Amend, SpentRow, TeamRow
from farm.store import operators
from farm.store.postgres import PostgresStore
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.report import Failure, FailureKind, RowReport, Tried
from schemas.style import StrengthMode
from schemas.team import TeamLimits
from tests.support.parts import Database, DatabaseServer
from tests.support.store_farm import OTHER, OURS, RENDERER, TTL, Farm, all_good, bad, good

S = CampaignState

# who waits for whom


def _wait_until_somebody_waits(farm: Farm) -> None:
    """For a lock that somebody else holds. Looks again and again, for PostgreSQL tells nobody."""
    with psycopg.connect(farm.superuser, autocommit=True) as connection:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if row is not None and row[0]:
                return
    pytest.fail("nobody waits")


def test_a_proof_that_ends_while_it_is_approved_is_not_taken_for_done(postgres_farm: Farm) -> None:
    farm = postgres_farm
    campaign = farm.submit(renders=20, proof=1)
    (shard,) = farm.take(farm.greet())
    with ThreadPoolExecutor(1) as pool:
        with farm.api.as_team(OURS) as tx:
            assert tx.move(campaign, frm=[S.PROOFING], to=S.ACTIVE)
            settled = pool.submit(farm.settle, shard, all_good(shard))
            _wait_until_somebody_waits(farm)
        assert settled.result(20).succeeded == 5
    assert farm.state(campaign) is S.ACTIVE
    assert farm.waiting() == [2, 3, 4]


def test_a_leader_that_has_paused_one_campaign_keeps_nobody_from_another(postgres_farm: Farm) -> None:
    """Else it would wait for a campaign that somebody has who waits for the team that it has."""
    farm = postgres_farm
    first, second = farm.submit(1), farm.submit(2)

    def amend() -> None:
        with farm.api.as_team(OURS) as team:
            assert team.amend(second, Amend(priority=3))

    with ThreadPoolExecutor(1) as pool, farm.leading() as tx:
        tx.pause(first, PausedBy.BUDGET, "Spent.")
        pool.submit(amend).result(20)
        tx.pause(second, PausedBy.BUDGET, "Spent.")
    with farm.api.as_team(OURS) as team:
        events = [(event.id, event.kind) for event in team.events(after=0, limit=9)]
    assert events[2:] == [(3, "campaign.changed"), (4, "campaign.state"), (5, "campaign.state")]


def test_a_picture_that_is_just_taken_over_is_not_pruned(postgres_farm: Farm) -> None:
    farm, same = postgres_farm, "f" * 64
    old = farm.submit(1, renders=1, width=1)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [good(shard, 0, fingerprint=same)])
    new = farm.submit(2, renders=1, width=1)
    (shard,) = farm.take(farm.greet())

    def prune() -> tuple[int, list[str]]:
        with farm.leading() as tx:
            return tx.prune(old, 10)

    with ThreadPoolExecutor(1) as pool, psycopg.connect(farm.superuser) as connection:
        connection.execute(
            "INSERT INTO outcome (team_id, campaign_id, ordinal, outcome, picture_id, tries) "
            "SELECT 1, %s, 0, 'succeeded', picture_id, 0 FROM picture",
            [new],
        )
        assert pool.submit(prune).result(20) == (1, [])
    with farm.api.as_team(OURS) as tx:
        assert [row.key for row in tx.outcomes(new, 0, 1)] == [f"outputs/{old}/0-1/picture.png"]


def test_a_picture_that_is_just_pruned_is_not_taken_over(postgres_farm: Farm) -> None:
    farm, same = postgres_farm, "f" * 64
    old = farm.submit(1, renders=1, width=1)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [good(shard, 0, fingerprint=same)])

    def look() -> dict[str, int]:
        with farm.leading() as tx:
            return tx.pictures(OURS, [same])

    assert list(look()) == [same]
    with ThreadPoolExecutor(1) as pool:
        with farm.leading() as tx:
            assert tx.prune(old, 10)[0] == 1
            looked = pool.submit(look)
            _wait_until_somebody_waits(farm)
        assert looked.result(20) == {}


def test_a_batch_of_reports_takes_as_many_statements_however_many_renders_it_holds(postgres_farm: Farm) -> None:
    farm, seen = postgres_farm, list[str]()
    farm.submit(renders=300, width=100)
    one, half, _ = farm.take(farm.greet())

    def saw(*said: object) -> None:
        if "SELECT resolved" not in str(said[2]):  # which a scheduler keeps
            seen.append(str(said[2]))

    event.listen(Engine, "before_cursor_execute", saw)
    try:
        farm.settle(one, [good(one, 0)])
        few = len(seen)
        farm.settle(half, [good(half, ordinal) for ordinal in range(100, 150)])
    finally:
        event.remove(Engine, "before_cursor_execute", saw)
    assert len(seen) == 2 * few
    assert sum("INTO spend" in statement for statement in seen) == 2


# roles


FORBIDDEN = {
    "farm_api": [
        "UPDATE team SET weight = 9",
        "UPDATE team SET vtime = 0",
        "UPDATE campaign SET warnings = '{}'",
        "UPDATE campaign SET quote = NULL",
        "UPDATE shard SET priority = 1",
        "UPDATE shard SET fence = NULL",
        "INSERT INTO price VALUES ('*', 0)",
        "INSERT INTO spend VALUES (1, '2026-01-01', 1, 1, 1)",
        "UPDATE renderer_health SET until = NULL",
        "SELECT FROM tombstone",
        "DELETE FROM outcome",
    ],
    "farm_scheduler": [
        "UPDATE team SET weight = 9",
        "UPDATE team SET budget = NULL",
        "INSERT INTO price VALUES ('*', 0)",
        "DELETE FROM spend",
        "DELETE FROM campaign",
        "UPDATE attempt SET detail = ''",
        "UPDATE picture SET sha256 = ''",
        "UPDATE outcome SET outcome = 'failed'",
        "INSERT INTO api_key (key_id, team_id, name, digest) VALUES (1, 1, 'k', '')",
    ],
}


@pytest.mark.parametrize(("role", "statement"), [(role, s) for role, found in FORBIDDEN.items() for s in found])
def test_a_role_may_not_do_what_is_not_its_own(scheduler_tables: Database, role: str, statement: str) -> None:
    url = scheduler_tables.api if role == "farm_api" else scheduler_tables.scheduler
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


# operators


@pytest.fixture
def database(postgres: DatabaseServer, scheduler_tables: Database) -> Iterator[Database]:
    found = postgres.fresh_database(template=scheduler_tables.name)
    yield found
    postgres.drop(found)


@pytest.fixture
def operated(database: Database) -> Iterator[Farm]:
    api, store = PostgresStore(database.api, pool=1), PostgresStore(database.scheduler, pool=1)
    leadership = store.elect("first", TTL)
    assert leadership is not None
    yield Farm(api, store, database.superuser, leadership)
    api.close()
    store.close()


def test_limits_are_set_one_by_one_and_taken_away_by_nothing(database: Database) -> None:
    limits = TeamLimits(weight=0.1, quota=3, burst=9, budget=Budget(money=5), max_renders=7, retention_days=30)
    operators.set_limits(database.owner, "ours", limits)
    operators.set_limits(database.owner, "ours", TeamLimits(weight=2.5))
    ours, theirs = operators.teams(database.owner)
    assert ours == (TeamRow(OURS, "ours", 7, 2.5, 3, 9, Budget(money=5), 30), SpentRow())
    assert theirs[0] == TeamRow(TeamId(2), "theirs", 5_000_000)
    operators.set_limits(
        database.owner, "ours", TeamLimits(quota=0, burst=0, retention_days=0, budget=Budget(warn_at=0.5))
    )
    assert operators.teams(database.owner)[0][0] == TeamRow(OURS, "ours", 7, 2.5)
    with pytest.raises(NotFound):
        operators.set_limits(database.owner, "nobody", TeamLimits(weight=1))


def test_a_team_and_its_scheduler_see_what_an_operator_has_set(database: Database, operated: Farm) -> None:
    operators.set_limits(database.owner, "ours", TeamLimits(weight=4, quota=1, burst=2, budget=Budget(money=100)))
    operators.set_price(database.owner, "*", 1.5)
    operators.set_price(database.owner, "H100", 3.0)
    operators.set_price(database.owner, "A10", 9.0)
    operators.set_price(database.owner, "A10", None)
    operators.set_price(database.owner, "*", 2.0)
    assert operators.prices(database.owner) == {"*": 2.0, "H100": 3.0}
    operated.submit(renders=5)
    (shard,) = operated.take(operated.greet())
    operated.settle(shard, [good(shard, 0), good(shard, 1)])
    with operated.leading() as tx:
        assert tx.prices() == {"*": 2.0, "H100": 3.0}
        (share,) = tx.teams()
        assert (share.weight, share.vtime, share.quota, share.burst) == (4.0, 2.0, 1, 2)
        assert [(team.team, team.budget.money, team.spent.money) for team in tx.purses()[1]] == [(OURS, 100.0, 8.0)]
    with operated.api.as_team(OURS) as team:
        assert team.prices() == {"*": 2.0, "H100": 3.0}
        assert (team.team().quota, team.team().budget) == (1, Budget(money=100))
    assert operators.teams(database.owner)[0][1] == SpentRow(8.0, 8.0)


def test_a_renderer_that_is_held_by_hand_is_released_by_hand_only(database: Database, operated: Farm) -> None:
    operated.submit(renders=5)
    (shard,) = operated.take(operated.greet())
    operated.settle(shard, [bad(0, FailureKind.ENGINE)])
    operators.hold_renderer(database.owner, RENDERER, "Its fan is broken.")
    with operated.leading() as tx:
        assert tx.accusations(TTL) == [], "it is forgiven"
        tx.release(RENDERER)
        tx.quarantine(RENDERER, why="Automatic.", lasts=TTL)
        (found,) = tx.quarantined()
    assert (found.name, found.why, found.by_hand, found.probes) == (RENDERER, "Its fan is broken.", True, 0)
    assert found.until > datetime(2100, 1, 1, tzinfo=UTC)
    operated.settle(shard, [bad(1, FailureKind.ENGINE)])
    operators.release_renderer(database.owner, RENDERER)
    with operated.leading() as tx:
        assert (tx.quarantined(), tx.accusations(TTL)) == ([], [])
    with pytest.raises(NotFound):
        operators.release_renderer(database.owner, RENDERER)
    with pytest.raises(NotFound):
        operators.hold_renderer(database.owner, OTHER, "Nobody knows it.")


def test_values_that_postgresql_does_not_take_are_an_error_of_their_own(postgres_farm: Farm) -> None:
    """Not an outage: asking again would not help."""
    postgres_farm.submit()
    (shard, *_) = postgres_farm.take(postgres_farm.greet())
    bad_words = RowReport(
        ordinal=0,
        tried=Tried.FAILED,
        fingerprint="0" * 64,
        failure=Failure(kind=FailureKind.BAD_SOURCE, code="x", detail="NUL: \x00"),
    )
    with pytest.raises(ValuesRefused):
        postgres_farm.settle(shard, [bad_words])


# rows of the release before


def test_a_style_that_could_not_say_what_strength_means_means_what_it_did(postgres_farm: Farm) -> None:
    farm = postgres_farm
    with psycopg.connect(farm.superuser) as connection:
        connection.execute(
            "INSERT INTO style (style_id, team_id, name, version, spec, created_at) VALUES (7, 1, 'old', 1, %s, now())",
            ['{"name": "old", "steps": 20, "strength": 0.4}'],
        )
    with farm.api.as_team(OURS) as tx:
        (row,) = tx.styles()
        assert (row.spec.strength_mode, row.spec.steps) == (StrengthMode.DIFFUSERS, 20)
        assert tx.style_versions("old") == [row]
        again = tx.add_style(replace(row, spec=row.spec))
        assert again.version == 1, "it is what stands there"
        new = tx.add_style(
            replace(row, id=StyleId(8), spec=row.spec.model_copy(update={"strength_mode": StrengthMode.NOISE}))
        )
    with farm.api.as_team(OURS) as tx:
        assert [(found.version, found.spec.strength_mode) for found in tx.style_versions("old")] == [
            (2, StrengthMode.NOISE),
            (1, StrengthMode.DIFFUSERS),
        ]
    assert new.version == 2
