"""The simulated farm, and the policies that it compares."""

import random

import pytest

from farm.core.ids import ShardId
from ops.bench._farm_load import (
    CHECKPOINT_SECONDS,
    DRAWS,
    LORA_SECONDS,
    RENDER_SECONDS,
    SHARD_RENDERS,
    TEAM_WEIGHTS,
    Demand,
    demand,
    lognormal,
)
from ops.bench._farm_policies import Chance, Fifo, Planned
from ops.bench._farm_simulation import Farm, Policy, Run, fairness_error

RENDERERS = 8


@pytest.fixture(scope="module")
def work() -> Demand:
    return demand(lognormal, 300, seed=1)


@pytest.fixture(scope="module")
def ran(work: Demand) -> dict[str, tuple[Farm, Run]]:
    """Each policy's farm when all is done."""
    policies: dict[str, Policy] = {"plan": Planned(work), "fifo": Fifo(), "random": Chance.of(work, 1)}
    farms = {name: Farm(work, RENDERERS) for name in policies}
    return {name: (farm, farm.run(policies[name])) for name, farm in farms.items()}


@pytest.mark.parametrize("name", ["plan", "fifo", "random"])
def test_every_shard_is_rendered_once_and_no_schedule_beats_the_bound(
    name: str, work: Demand, ran: dict[str, tuple[Farm, Run]]
) -> None:
    farm, run = ran[name]
    assert farm.done == len(work.shards)
    assert not farm.ready
    assert sum(farm.used.values()) == pytest.approx(sum(shard.actual for shard in work.shards))
    assert run.makespan >= work.least_makespan(RENDERERS)
    assert run.swaps >= work.least_swaps(RENDERERS)


def test_the_plan_loads_less_and_shares_more_fairly_than_first_in_first_out(
    work: Demand, ran: dict[str, tuple[Farm, Run]]
) -> None:
    plan, fifo = (ran[name][1] for name in ("plan", "fifo"))
    assert plan.swaps < fifo.swaps / 2
    assert fairness_error(plan, work) < fairness_error(fifo, work) / 5


def test_a_renderer_loads_the_checkpoint_once_and_a_lora_when_it_changes(work: Demand) -> None:
    farm = Farm(work, 1)
    first, second = work.shards[0], next(s for s in work.shards if s.engine_key != work.shards[0].engine_key)
    same = next(s for s in work.shards[1:] if s.engine_key == first.engine_key)
    machine = farm.machines[0]
    for shard in (first, same, second):
        farm.give(machine.name, shard)
    begun = []
    while machine.shards:
        begun.append(machine.rendering_since - farm.now)
        farm.now = machine.until
        farm._end(machine)
    assert begun == pytest.approx([CHECKPOINT_SECONDS + LORA_SECONDS, 0.0, LORA_SECONDS])
    assert farm.swaps == 2


def test_what_is_being_rendered_cannot_be_taken_back(work: Demand) -> None:
    farm = Farm(work, 1)
    name = farm.machines[0].name
    for shard in work.shards[:2]:
        farm.give(name, shard)
    for shard in work.shards[:2]:
        farm.take_back(name, shard.id)
    assert work.shards[0].id not in farm.ready
    assert work.shards[1].id in farm.ready
    assert [shard.id for shard in farm.machines[0].shards] == [ShardId(1)]


def test_unfairness_is_measured_against_the_weights(work: Demand) -> None:
    fair = {team: 10 * weight for team, weight in work.weights.items()}
    assert fairness_error(Run(1.0, 0, fair), work) == pytest.approx(0)
    first = next(iter(fair))
    nothing = {**dict.fromkeys(fair, 0.0), first: 80.0}
    assert fairness_error(Run(1.0, 0, nothing), work) == pytest.approx(sum(TEAM_WEIGHTS) / TEAM_WEIGHTS[0] - 1)


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_shards_take_as_long_in_the_mean_as_the_farm_expects(name: str) -> None:
    rng = random.Random(1)
    mean = sum(DRAWS[name](rng) for _ in range(4_000)) / 4_000
    assert mean == pytest.approx(RENDER_SECONDS * SHARD_RENDERS, rel=0.1)


def test_nobody_who_cannot_see_ahead_is_expected_to_reach_the_bound(work: Demand) -> None:
    assert work.blind_makespan(RENDERERS) >= work.least_makespan(RENDERERS) * 0.999
