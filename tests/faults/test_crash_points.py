"""Processes killed between two steps: after a claim, after a PUT, before a commit, before a reply."""

from collections.abc import Iterator

import pytest

from farm.sdk import Unreachable
from tests.support.faults import Trial, until
from tests.support.trials import trial


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with trial() as made:
        yield made


@pytest.mark.parametrize("point", ["scheduler.after_claim", "scheduler.before_commit", "scheduler.before_reply"])
def test_a_scheduler_that_crashes_there_loses_nothing(running: Trial, point: str) -> None:
    running.crashes.arm(point, passes=3)
    campaign = running.submit(point)
    until(lambda: not running.farm.parts.running()["scheduler"], "it crashed")
    assert running.crashes.happened(point)
    assert running.farm.client.campaign(campaign).finished_at is None
    running.farm.up()
    running.end(campaign)


@pytest.mark.parametrize("point", ["renderer.after_claim", "renderer.after_put", "renderer.before_reply"])
def test_a_renderer_that_crashes_there_loses_nothing(running: Trial, point: str) -> None:
    before = set(running.farm.renderer_pids())
    running.crashes.arm(point, passes=3)
    campaign = running.submit(point)
    running.end(campaign)
    assert running.crashes.happened(point)
    until(lambda: set(running.farm.renderer_pids()) - before, "another took its place")


@pytest.mark.parametrize(("point", "kept"), [("api.before_commit", 0), ("api.before_reply", 1)])
def test_an_api_that_crashes_there_makes_one_campaign_of_two_calls(running: Trial, point: str, kept: int) -> None:
    running.crashes.arm(point)
    with running.hasty_client() as hasty, pytest.raises(Unreachable):
        running.submit(point, hasty)
    assert running.query("SELECT count(*) FROM campaign WHERE name = %s", point) == [(kept,)]
    running.farm.up()
    running.end(running.submit(point))
    assert running.query("SELECT count(*) FROM campaign WHERE name = %s", point) == [(1,)]


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()
