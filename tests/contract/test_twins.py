"""The store's twin in memory does what PostgreSQL does: the same traces leave both the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.store.memory_check import faults
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from tests.support import twin_leader, twin_users
from tests.support.parts import Database, DatabaseServer
from tests.support.twin_actor import Actor, Step
from tests.support.twin_dump import dump
from tests.support.twins import PostgresBackstage, Side, memory_side

OFTEN = {"submit": 4, "take": 6, "report": 6, "greet": 3, "steer": 4, "fail": 3, "spend": 2, "wait": 2, "put_back": 2}
VERBS = [verb for verb in (*twin_users.VERBS, *twin_leader.VERBS) for _ in range(OFTEN.get(verb.__name__, 1))]


@pytest.fixture(scope="module")
def stores(postgres: DatabaseServer) -> Iterator[tuple[PostgresStore, PostgresStore, Database]]:
    database = postgres.fresh_database()
    migrate(database.owner)
    api, scheduler = PostgresStore(database.api, pool=2), PostgresStore(database.scheduler, pool=2)
    yield api, scheduler, database
    api.close()
    scheduler.close()
    postgres.drop(database)


small = st.integers(0, 7)
steps = st.builds(Step, st.sampled_from(VERBS), small, small, small)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trace=st.lists(steps, min_size=8, max_size=40))
def test_both_do_the_same(trace: list[Step], stores: tuple[PostgresStore, PostgresStore, Database]) -> None:
    api, scheduler, database = stores
    real = PostgresBackstage(database)
    memory, store = memory_side()
    try:
        actors = [Actor(memory), Actor(Side(api, scheduler, real))]
        for number, step in enumerate(trace):
            said = [actor.do(number, step) for actor in actors]
            assert said[0] == said[1], (number, step)
            shown = [dump(actor.side, actor.leadership, actor.known) for actor in actors]
            assert _difference(*shown) == {}, (number, step)
            assert faults(store.state) == [], (number, step)
    finally:
        real.close()


def _difference(memory: dict[str, Any], postgres: dict[str, Any]) -> dict[str, Any]:
    return {name: (memory[name], postgres[name]) for name in memory if memory[name] != postgres[name]}
