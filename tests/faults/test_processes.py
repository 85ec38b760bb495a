"""Every process of a farm is killed, and frozen for longer than a lease, in the middle of a campaign."""

from collections.abc import Iterator

import pytest

from tests.support.faults import LEADER, LEASE, Trial, let_pass, trial

PROCESSES = ("scheduler", "renderer", "postgres", "s3", "raylet", "gcs_server")


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with trial() as made:
        yield made


@pytest.mark.parametrize("what", PROCESSES)
def test_a_process_that_is_killed_costs_no_render(running: Trial, what: str) -> None:
    campaign = running.begin(f"{what} killed")
    killed = running.kill(what)
    running.mend(what)
    running.end(campaign)
    assert not killed.is_running()


@pytest.mark.parametrize("what", PROCESSES)
def test_a_process_that_is_frozen_for_longer_than_a_lease_costs_no_render(running: Trial, what: str) -> None:
    campaign = running.begin(f"{what} frozen")
    with running.frozen(what):
        let_pass(LEASE + LEADER)
    running.end(campaign)
