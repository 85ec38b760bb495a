"""The store's twin in memory does what PostgreSQL does: the same traces leave both the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.store.memory_check import faults
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from tests.support.parts import Database, DatabaseServer
from tests.support.twin_actor import Actor, Step
from tests.support.twin_dump import dump
from tests.support.twin_scenes import OPENING, SCENES, steps_of
from tests.support.twins import PostgresBackstage, Side, memory_side

Stores = tuple[PostgresStore, PostgresStore, Database]


@pytest.fixture(scope="module")
def stores(postgres: DatabaseServer) -> Iterator[Stores]:
    database = postgres.fresh_database()
    migrate(database.owner)
    api, scheduler = PostgresStore(database.api, pool=2), PostgresStore(database.scheduler, pool=2)
    yield api, scheduler, database
    api.close()
    scheduler.close()
    postgres.drop(database)


@st.composite
def traces(draw: st.DrawFn) -> list[Step]:
    scenes = draw(st.lists(st.sampled_from(SCENES), min_size=2, max_size=8))
    return [step for parts in (OPENING, *scenes) for step in steps_of(parts, lambda: draw(st.integers(0, 7)))]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces())
def test_both_do_the_same(stores: Stores, trace: list[Step]) -> None:
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
