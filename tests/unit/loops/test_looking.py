"""What the leader remembers of the database between its looks."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from farm.core.ids import TeamId
from farm.loops.looking import BACKLOG_EVERY, COSTS_EVERY, Looked, Looking
from farm.store.memory_scheduler import MemorySchedulerTx
from tests.support.memory_farm import MemoryFarm, memory_farm
from tests.support.store_farm import OURS, THEIRS


@pytest.fixture
def farm() -> MemoryFarm:
    return memory_farm()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def look(farm: MemoryFarm, looking: Looking) -> Looked:
    with farm.leading() as tx:
        return looking.look(tx, renderers=2)


def seconds(looked: Looked) -> tuple[list[float], list[float], list[float]]:
    """Of the heads, the backlog and the leases."""
    heads = [head.seconds for queue in looked.queues for head in queue.heads]
    return heads, [one.seconds for one in looked.backlog.values()], [held.gpu_seconds for held in looked.held]


def test_what_shards_take_follows_what_was_measured_since_they_were_cut(farm: MemoryFarm) -> None:
    clock = Clock()
    looking = Looking(clock)
    farm.submit(renders=30, width=10, step=0.25)
    farm.take(farm.greet(), farm.waiting()[:1])
    assert seconds(look(farm, looking)) == ([5.0, 5.0], [10.0], [5.0])
    with farm.leading() as tx:
        tx.learn(OURS, "engine", "H100", step_seconds=1.0, squares=1.0, renders=10)
    clock.now = max(COSTS_EVERY, BACKLOG_EVERY)
    assert seconds(look(farm, looking)) == ([20.0, 20.0], [40.0], [20.0])
    farm.submit(2, renders=10, width=10, step=1.0)  # cut by what was measured
    assert seconds(look(farm, looking))[0] == [20.0, 20.0, 5.0]


def test_teams_are_told_by_name_and_the_names_are_read_once(farm: MemoryFarm) -> None:
    looking, asked, told = Looking(Clock()), list[list[TeamId]](), MemorySchedulerTx.team_names
    farm.submit(renders=10)

    def names(self: MemorySchedulerTx, teams: Collection[TeamId]) -> dict[TeamId, str]:
        asked.append(sorted(teams))
        return told(self, teams)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemorySchedulerTx, "team_names", names)
        assert look(farm, looking).names == look(farm, looking).names == {OURS: "ours"}
        farm.submit(2, renders=10, team=THEIRS)
        assert look(farm, looking).names == {OURS: "ours", THEIRS: "theirs"}
    assert asked == [[OURS], [THEIRS]]


def test_a_price_is_that_of_the_type_or_the_one_for_all_others_or_unknown(farm: MemoryFarm) -> None:
    looked = look(farm, Looking(Clock()))
    assert looked.price("H100") is None
    assert replace(looked, prices={"H100": 0.0}).price("H100") == 0.0
    priced = replace(looked, prices={"H100": 2.0, "*": 1.0})
    assert (priced.price("H100"), priced.price("A100")) == (2.0, 1.0)


def test_what_is_held_for_a_proof_is_counted_as_measured_too(farm: MemoryFarm) -> None:
    campaign = farm.submit(renders=30, width=10, proof=1, step=0.25)
    with farm.leading() as tx:
        tx.learn(OURS, "engine", "H100", step_seconds=0.5, squares=1.0, renders=10)
    assert look(farm, Looking(Clock())).held_back == {campaign: 20.0}
