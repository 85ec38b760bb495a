"""Hundreds of farms, each with other faults, and every promise kept in each."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.world import LONG, run_seed

SEEDS = 200
"""Of CI; ten thousand run each night (`python -m tests.simulation`)."""

_AT_A_TIME = 10


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    fresh = get_context("spawn")  # a fork of a process in which torch has threads hangs
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=fresh) as pool:
        yield pool


@pytest.mark.parametrize("begin", range(0, SEEDS, _AT_A_TIME))
def test_every_promise_is_kept(pool: ProcessPoolExecutor, begin: int) -> None:
    runs = list(pool.map(run_seed, range(begin, begin + _AT_A_TIME)))
    assert [f"seed {ran.seed}: {ran.violation}" for ran in runs if ran.violation is not None] == []


def test_most_of_what_happens_is_about_renders() -> None:
    ran = run_seed(0, LONG)
    assert ran.render_events * 2 > ran.events > 40_000


def test_a_seed_happens_the_same_way_in_every_process() -> None:
    """Text hashes differently in each: nothing may depend on the order of a set."""
    told = "from tests.simulation.world import run_seed; print(run_seed(3).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", told],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in (1, 2)
    }
    assert len(traces) == 1


def test_other_seeds_happen_otherwise() -> None:
    assert run_seed(1).trace != run_seed(2).trace
