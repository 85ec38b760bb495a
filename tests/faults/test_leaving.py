"""Told to go, a process hands back what it has not begun and ends inside 30 s; nobody loses a lease by it."""

from collections.abc import Iterator

import psutil
import pytest

from farm import bootstrap
from tests.support.faults import Trial, until
from tests.support.trials import PATIENT, trial

NOTICE = 30.0
"""Seconds that GCP and Azure give a node; AWS gives 120."""


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    # Three renderers: one waits for a node of its own.
    with trial({**PATIENT, "FARM_FLEET_RENDERERS": "3", "FARM_FLEET_LEAST": "3"}) as made:
        yield made


def nodes(running: Trial) -> set[str]:
    return {node for (node,) in running.query("SELECT DISTINCT node FROM renderer WHERE ended_at IS NULL")}


def test_a_renderer_told_to_go_loses_no_lease(running: Trial) -> None:
    campaign = running.begin("renderer leaves")
    [renderer] = running.processes("renderer")
    renderer.terminate()
    renderer.wait(NOTICE)
    running.end(campaign)
    assert running.lost_leases(campaign) == 0


def test_a_scheduler_told_to_go_hands_over_the_lead(running: Trial) -> None:
    campaign = running.begin("scheduler leaves")
    [scheduler] = running.processes("scheduler")
    renderers = running.farm.renderer_pids()
    scheduler.terminate()
    scheduler.wait(NOTICE)
    assert running.query("SELECT expires_at <= clock_timestamp() FROM leader") == [(True,)]
    running.farm.up()
    running.end(campaign)
    assert running.farm.renderer_pids() == renderers
    assert running.lost_leases(campaign) == 0


def test_the_api_told_to_go_ends_though_somebody_listens(running: Trial) -> None:
    campaign = running.begin("api leaves")
    [api] = running.processes("api")
    events = running.farm.client.events(campaign, after=0)
    next(events)
    api.terminate()
    api.wait(NOTICE)
    running.farm.up()
    running.end(campaign)


def test_a_node_told_to_go_hands_back_its_work(running: Trial) -> None:
    here = nodes(running)
    with running.another_node() as node:
        until(lambda: nodes(running) - here, "a renderer runs on the new node")
        [there] = nodes(running) - here
        campaign = running.begin("node leaves")
        until(lambda: there in running.holders(campaign), "the new node has work")
        psutil.Process(node.pid).terminate()
        node.wait(NOTICE)
        running.end(campaign)
        assert running.lost_leases(campaign) == 0


def test_a_farm_that_is_ended_in_a_campaign_goes_on_when_it_is_started(running: Trial) -> None:
    campaign = running.begin("farm down")
    bootstrap.down(running.farm.data, on_step=print)
    running.farm.up()
    running.end(campaign)
