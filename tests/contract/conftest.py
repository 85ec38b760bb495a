"""The stores that the contract tests run against."""

from collections.abc import Iterator

import psycopg
import pytest

from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from tests.support.memory_farm import memory_farm
from tests.support.parts import Database, DatabaseServer
from tests.support.store_farm import TTL, Farm


@pytest.fixture(scope="session")
def scheduler_tables(postgres: DatabaseServer) -> Iterator[Database]:
    """A database with the tables and two teams, to be copied."""
    template = postgres.fresh_database()
    migrate(template.owner)
    with psycopg.connect(template.superuser) as connection:
        connection.execute("INSERT INTO team (team_id, name) VALUES (1, 'ours'), (2, 'theirs')")
    yield template
    postgres.drop(template)


@pytest.fixture
def postgres_farm(postgres: DatabaseServer, scheduler_tables: Database) -> Iterator[Farm]:
    database = postgres.fresh_database(template=scheduler_tables.name)
    api, store = PostgresStore(database.api, pool=2), PostgresStore(database.scheduler, pool=4)
    leadership = store.elect("first", TTL)
    assert leadership is not None
    yield Farm(api, store, database.superuser, leadership)
    api.close()
    store.close()
    postgres.drop(database)


@pytest.fixture(name="memory_farm")
def _memory_farm() -> Farm:
    return memory_farm()


@pytest.fixture(params=["postgres", "memory"])
def farm(request: pytest.FixtureRequest) -> Farm:
    found: Farm = request.getfixturevalue(f"{request.param}_farm")
    return found
