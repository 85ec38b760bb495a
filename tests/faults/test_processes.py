"""Every process of a farm is killed, and frozen for longer than a lease, in the middle of a campaign."""

from collections.abc import Iterator

import psutil
import pytest

from tests.support.faults import TOTAL, Trial, let_pass, until
from tests.support.trials import LEADER, LEASE, trial

PROCESSES = ("renderer", "postgres", "s3", "raylet", "gcs_server")

DOWN = {"postgres": "store_down", "s3": "depot_down"}
"""What the API says of itself while it is gone."""


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with trial() as made:
        yield made


def test_the_api_knows_no_password_but_its_own(running: Trial) -> None:
    """A hole in what faces the network must not open the tables' owner."""
    secrets = running.farm.parts.state.secrets
    known = " ".join(psutil.Process(running.farm.pid("api")).environ().values())
    assert secrets["farm_api"] in known
    assert not [name for name in ("farm_owner", "farm_scheduler", "postgres", "ray_token") if secrets[name] in known]


def test_a_scheduler_that_is_replaced_finds_its_renderers_warm(running: Trial) -> None:
    campaign = running.begin("scheduler replaced")
    renderers, epoch = running.farm.renderer_pids(), running.epoch()
    running.kill("scheduler")
    running.farm.up()
    running.end(campaign)
    assert running.farm.renderer_pids() == renderers
    assert running.epoch() > epoch


@pytest.mark.parametrize("what", PROCESSES)
def test_a_process_that_is_killed_costs_no_render(running: Trial, what: str) -> None:
    campaign = running.begin(f"{what} killed")
    killed = running.kill(what)
    if what in DOWN:
        assert DOWN[what] in running.complaints()
    running.mend(what)
    running.end(campaign)
    assert not killed.is_running()


@pytest.mark.parametrize("what", ["scheduler", *PROCESSES])
def test_a_process_that_is_frozen_for_longer_than_a_lease_costs_no_render(running: Trial, what: str) -> None:
    campaign = running.begin(f"{what} frozen")
    with running.frozen(what):
        let_pass(LEASE + LEADER)
    running.end(campaign)


@pytest.mark.parametrize("where", ["anywhere", "in a transaction"])
def test_a_leader_that_slept_while_another_took_over_does_no_harm(running: Trial, where: str) -> None:
    campaign, epoch = running.begin(f"leader asleep {where}"), running.epoch()
    asleep = running.frozen("scheduler") if where == "anywhere" else running.frozen_in_a_transaction()
    with running.another_scheduler():
        with asleep:
            until(lambda: running.epoch() > epoch, "the other one leads")
            until(lambda: len(running.told(campaign)) == TOTAL, "it has the campaign rendered")
        running.end(campaign)
        assert running.epoch() == epoch + 1, "the sleeper stands by"
    until(lambda: running.epoch() == epoch + 2, "it leads again, now that the other has left")


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()
