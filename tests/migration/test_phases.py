"""A farm is upgraded while it works: first expand, then the new processes, then contract."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg.conninfo import make_conninfo

from farm.bootstrap.waiting import behind, wait_for_schema
from farm.core.errors import FarmError, Refused, StoreDown
from farm.core.migration import Phase
from farm.store import migrating
from farm.store.migrating import Migrated, migrate
from farm.store.postgres import PostgresStore
from farm.store.schema import chain
from tests.migration.test_migrations import SCHEMA
from tests.migration.test_migrations import Migrated as At
from tests.support.parts import Database, DatabaseServer

FORMER = "0003"
"""Where release 0.1.0 leaves its tables."""

ALL = tuple(revision.name for revision in chain())


@pytest.fixture
def old(database: Database) -> Database:
    """As release 0.1.0 has it."""
    At(database).to(FORMER)
    return database


@pytest.fixture
def scheduler(database: Database) -> Iterator[PostgresStore]:
    store = PostgresStore(database.scheduler, pool=1)
    yield store
    store.close()


def test_what_alembic_finds_is_the_chain_that_file_names_tell() -> None:
    found = ScriptDirectory.from_config(migrating.configuration()).walk_revisions()
    alembics = [(script.revision, script.down_revision) for script in reversed(list(found))]
    ids = [revision.id for revision in chain()]
    assert alembics == list(zip(ids, [None, *ids], strict=False))


def test_each_phase_runs_its_own_and_then_finds_nothing_to_do(old: Database) -> None:
    assert migrate(old.owner, Phase.EXPAND) == Migrated(("0004_expand_lost_pictures",))
    assert migrate(old.owner, Phase.EXPAND) == Migrated(())
    assert migrate(old.owner, Phase.CONTRACT) == Migrated(("0005_contract_unused",))
    assert migrate(old.owner, Phase.CONTRACT) == migrate(old.owner) == Migrated(())


def test_a_new_database_gets_everything_whatever_is_asked_first(postgres: DatabaseServer, database: Database) -> None:
    at_once = postgres.fresh_database()
    try:
        assert migrate(at_once.owner).run == ALL
        assert migrate(database.owner, Phase.EXPAND).run == ALL[:-1]
        assert migrate(database.owner, Phase.CONTRACT).run == ALL[-1:]
        assert At(database).all(SCHEMA) == At(at_once).all(SCHEMA)
    finally:
        postgres.drop(at_once)


def test_a_database_of_a_later_release_is_left_alone_and_will_do(database: Database, scheduler: PostgresStore) -> None:
    migrate(database.owner)
    At(database).run("UPDATE alembic_version SET version_num = '0009'")
    for only in (None, *Phase):
        assert migrate(database.owner, only) == Migrated(())
    assert behind(scheduler) is None


def test_two_at_once_wait_for_one_another(database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: migrate(database.owner), range(2))
    assert sorted([one.run, other.run]) == [(), ALL]


def test_tables_and_rows_survive_the_way_up_and_down(old: Database) -> None:
    at = At(old)
    at.run("INSERT INTO team (team_id, name) VALUES (1, 'ours')")
    at.run("INSERT INTO engine_cost VALUES (1, 'e', 0.5, 3)")
    at.run(
        "INSERT INTO picture (team_id, fingerprint, key, sha256, bytes, width, height, format)"
        " VALUES (1, '\\x01', 'k1', '\\x02', 1, 1, 1, 'png')"
    )
    before = at.all(SCHEMA)
    at.to("0004")
    assert at.all("SELECT key, lost_at FROM picture") == [("k1", None)]
    at.run("UPDATE picture SET lost_at = now()")
    at.to("0005")
    assert at.all("SELECT to_regclass('engine_cost'), to_regclass('shard_ready')") == [(None, None)]
    at.to("-0003")
    assert at.all(SCHEMA) == before, "columns, indexes, constraints and rights are what they were"
    assert at.all("SELECT key FROM picture") == [("k1",)]


# what the services wait for


def test_a_service_waits_until_the_tables_are_there(old: Database, scheduler: PostgresStore) -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            migrate(old.owner, Phase.EXPAND)

    assert isinstance(behind(scheduler), Refused)
    wait_for_schema(scheduler, timedelta(seconds=30), threading.Event(), look)
    assert behind(scheduler) is None, "what contracts is not waited for"


@pytest.mark.parametrize("revision", [None, FORMER])
def test_a_service_that_waits_in_vain_says_what_is_missing(
    revision: str | None, database: Database, scheduler: PostgresStore
) -> None:
    if revision:
        At(database).to(revision)
    with pytest.raises(FarmError, match="needs 0004_expand_lost_pictures") as gave_up:
        wait_for_schema(scheduler, timedelta(0), threading.Event())
    assert gave_up.value.code == "store_behind"


def test_tables_whose_revision_may_not_be_read_are_behind(database: Database, scheduler: PostgresStore) -> None:
    migrate(database.owner)
    assert behind(scheduler) is None
    At(database).run("REVOKE SELECT ON alembic_version FROM farm_scheduler")
    fault = behind(scheduler)
    assert fault is not None
    assert fault.code == "store_behind"


def test_a_database_that_does_not_answer_is_waited_for_too(database: Database) -> None:
    store = PostgresStore(database.scheduler.replace("farm_scheduler:", "farm_scheduler:wrong"), pool=1)
    try:
        with pytest.raises(StoreDown):
            wait_for_schema(store, timedelta(0), threading.Event())
    finally:
        store.close()


# roles


@pytest.fixture
def owned(postgres: DatabaseServer, database: Database) -> Iterator[tuple[str, str]]:
    """The URL of an owner who may make roles, and the name of a role that nobody has made."""
    role = f"r_{database.name}"
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE o_{database.name} LOGIN CREATEROLE PASSWORD 'hush'".encode())
        connection.execute(f"GRANT CONNECT, CREATE ON DATABASE {database.name} TO o_{database.name}".encode())
        connection.execute(f"GRANT CONNECT ON DATABASE {database.name} TO o_{database.name} WITH GRANT OPTION".encode())
        connection.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO o_{database.name}".encode())
        connection.execute(f"GRANT farm_api, farm_scheduler TO o_{database.name} WITH ADMIN OPTION".encode())
    yield make_url(database, f"o_{database.name}", "hush"), role
    with psycopg.connect(database.superuser, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY o_{database.name} CASCADE".encode())
        connection.execute(f"DROP ROLE IF EXISTS {role}".encode())
        connection.execute(f"DROP ROLE o_{database.name}".encode())


def make_url(database: Database, user: str, password: str) -> str:
    _, _, where = database.owner.partition("@")
    return f"postgresql://{user}:{password}@{where}"


def test_roles_are_made_and_their_passwords_changed(database: Database, owned: tuple[str, str]) -> None:
    owner, role = owned
    odd = "it's 100%{s}-\\secret"
    done = migrate(owner, Phase.EXPAND, {role: odd})
    assert (done.made, done.changed, done.run) == ((role,), (), ALL[:-1])
    login = make_conninfo(make_url(database, role, "x"), password=odd)
    psycopg.connect(login).close()
    assert migrate(owner, Phase.EXPAND, {role: "new"}) == Migrated((), (), (role,))
    psycopg.connect(make_url(database, role, "new")).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(login)


def test_the_server_never_sees_a_password(postgres: DatabaseServer, database: Database, owned: tuple[str, str]) -> None:
    owner, role = owned
    At(database).run(f"ALTER ROLE o_{database.name} SET log_statement = 'all'")
    migrate(owner, Phase.EXPAND, {role: "open sesame"})
    log = postgres.server.child.log.read_text()
    assert f'CREATE ROLE "{role}" LOGIN PASSWORD' in log
    assert "open sesame" not in log


def test_an_owner_who_may_make_no_roles_is_told_so_and_nothing_is_done(database: Database) -> None:
    with pytest.raises(Refused, match="CREATEROLE") as refused:
        migrate(database.owner, Phase.EXPAND, {f"r_{database.name}": "hush"})
    assert refused.value.code == "roles_refused"
    assert At(database).all(SCHEMA) == []
