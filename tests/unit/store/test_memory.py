"""What only the store's twin in memory has: transactions that are taken back exactly, faults at commit, indexes."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.errors import NotFound, StoreDown
from farm.core.ids import TeamId
from farm.core.records import TeamRow
from farm.store.memory import MemoryStore
from farm.store.memory_check import faults
from farm.store.memory_table import Table
from tests.support import twin_leader, twin_reports, twin_users
from tests.support.memory_farm import MemoryFarm, memory_farm
from tests.support.store_farm import all_good
from tests.support.twin_actor import Actor, Step
from tests.support.twins import memory_side

small = st.integers(0, 7)
VERBS = (*twin_users.VERBS, *twin_leader.VERBS, *twin_reports.VERBS)
MANY = [verb for verb in VERBS for _ in range(4 if verb.__name__ in {"submit", "greet", "take", "report"} else 1)]
steps = st.builds(Step, st.sampled_from(MANY), small, small, small)


def rows(store: MemoryStore) -> dict[str, Any]:
    return {name: dict(table.rows) for name, table in vars(store.state).items() if isinstance(table, Table)}


def down() -> None:
    raise StoreDown("The connection broke.")


@given(trace=st.lists(steps, min_size=5, max_size=40))
def test_whatever_is_written_can_be_taken_back_to_the_last_row(trace: list[Step]) -> None:
    side, store = memory_side()
    actor = Actor(side)
    for number, step in enumerate(trace):
        before, known = rows(store), copy.deepcopy((actor.known, actor.leases, actor.sessions, actor.holders))
        store.before_commit = down
        try:
            actor.do(number, step)
        except StoreDown:
            assert rows(store) == before
            actor.known, actor.leases, actor.sessions, actor.holders = known
        store.before_commit = None
        actor.do(number, step)
        assert faults(store.state) == []


def test_an_index_that_is_wrong_is_found() -> None:
    farm = memory_farm()
    farm.submit()
    assert faults(farm.memory.state) == []
    farm.memory.state.shards.tallies[farm.submit(2)].lines["engine"].order.pop()
    assert faults(farm.memory.state) == ["shards"]


def settled_with(farm: MemoryFarm, hook: Callable[[MemoryStore], None]) -> tuple[int, int]:
    """Renders settled and events told after a report whose commit failed, as *hook* has it."""
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    hook(farm.memory)
    with pytest.raises(StoreDown):
        farm.settle(shard, all_good(shard))
    farm.memory.before_commit = farm.memory.after_commit = None
    return farm.counts(campaign).succeeded, len(farm.events("renders.settled"))


def test_a_commit_that_fails_leaves_nothing() -> None:
    def before(store: MemoryStore) -> None:
        store.before_commit = down

    assert settled_with(memory_farm(), before) == (0, 0)


def test_a_commit_whose_answer_is_lost_has_happened() -> None:
    def after(store: MemoryStore) -> None:
        store.after_commit = down

    assert settled_with(memory_farm(), after) == (5, 1)


def test_a_store_that_is_down_says_so_and_keeps_what_it_has() -> None:
    farm = memory_farm()
    campaign = farm.submit()
    farm.memory.down = True
    with pytest.raises(StoreDown):
        farm.counts(campaign)
    with pytest.raises(StoreDown):
        farm.memory.elect("second", timedelta(0))
    farm.memory.down = False
    assert farm.counts(campaign).queued == 10


def test_a_transaction_inside_another_is_refused_instead_of_waiting_for_ever() -> None:
    farm = memory_farm()
    with farm.leading(), pytest.raises(RuntimeError, match="inside another"):
        farm.submit()
    assert farm.waiting() == []


def test_clock_and_fences_are_those_that_were_given() -> None:
    moments, numbers = [datetime(2026, 11, 23, tzinfo=UTC)], count(1)
    store = MemoryStore(clock=lambda: moments[0], fence=lambda: f"fence {next(numbers)}")
    store.add_team(TeamRow(TeamId(1), "ours", 1000))
    leadership = store.elect("first", timedelta(minutes=5))
    assert leadership is not None
    farm = MemoryFarm(store, store, "", leadership, store)
    farm.submit(renders=10)
    session = farm.greet()
    assert [shard.fence for shard in farm.take(session)] == ["fence 1", "fence 2"]
    assert [held.expired for held in farm.held()] == [False, False]
    moments[0] += timedelta(hours=1)
    assert [held.expired for held in farm.held()] == [True, True]
    assert [held.age for held in farm.held()] == [3600, 3600]
    assert store.elect("second", timedelta(minutes=5)) is not None, "the first one's time is over"


def test_a_team_that_is_gone_is_not_found() -> None:
    with pytest.raises(NotFound), MemoryStore().as_team(TeamId(1)) as tx:
        tx.team()
