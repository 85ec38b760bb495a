"""Connections that are cut, fall silent, lose their answers or are slow, in the middle of a campaign."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.faults import Trial, let_pass
from tests.support.trials import LEADER, LEASE, trial_behind_proxies

FAULTS = ("cut", "silence", "drop_replies")


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with trial_behind_proxies() as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["scheduler", "depot"])
def test_a_network_that_fails_for_longer_than_a_lease_costs_no_render(running: Trial, where: str, fault: str) -> None:
    campaign = running.begin(f"{where} {fault}")
    proxy = running.proxies[where]
    getattr(proxy, fault)()
    try:
        let_pass(LEASE + LEADER)
    finally:
        proxy.restore()
    running.end(campaign)


@pytest.mark.parametrize("where", ["scheduler", "depot"])
def test_a_slow_network_costs_time_and_no_render(running: Trial, where: str) -> None:
    proxy = running.proxies[where]
    proxy.delay(0.008)
    try:
        campaign = running.begin(f"{where} slow")
        assert running.farm.client.wait(campaign).state == "done"
    finally:
        proxy.restore()
    running.check(campaign)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_campaign_submitted_while_the_database_does_not_answer_is_made_once(running: Trial, fault: str) -> None:
    name, proxy = f"api {fault}", running.proxies["api"]
    getattr(proxy, fault)()
    with ThreadPoolExecutor(1) as threads:
        submitting = threads.submit(running.submit, name)
        let_pass(2)
        assert not submitting.done()
        proxy.restore()
        campaign = submitting.result(60)
    assert running.submit(name) == campaign
    running.end(campaign)


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()
