"""Every process of a farm is killed, and frozen for longer than a lease, in the middle of a campaign."""

from collections.abc import Iterator

import pytest

from tests.support.faults import LEADER, LEASE, TOTAL, Trial, let_pass, trial, until

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


def test_a_leader_that_slept_while_another_took_over_does_no_harm(running: Trial) -> None:
    campaign, epoch = running.begin("leader asleep"), running.epoch()
    with running.another_scheduler():
        with running.frozen("scheduler"):
            until(lambda: running.epoch() > epoch, "the other one leads")
            until(lambda: len(running.told(campaign)) == TOTAL, "it has the campaign rendered")
        running.end(campaign)
        assert running.epoch() == epoch + 1, "the sleeper stands by"
    until(lambda: running.epoch() == epoch + 2, "it leads again, now that the other has left")


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()
