"""SIGKILL in the middle of a campaign, on real parts: every render still ends with exactly one outcome."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import psutil
import pytest

from farm.sdk import ApiError
from tests.support.farm import LiveFarm, audit, live_farm, wait_for_renders

VARIANTS = 30
TOTAL = 2 * 2 * VARIANTS
PATIENCE = timedelta(seconds=150)

# Short shards, so that each kill finds several of them leased.
ENV = {"FARM_SHARD_SECONDS": "2", "FARM_LEASE_TTL": "PT6S", "FARM_LEADER_TTL": "PT3S"}


@pytest.fixture(scope="module")
def farm() -> Iterator[LiveFarm]:
    with live_farm(ENV) as running:
        yield running


def _begin(farm: LiveFarm, name: str) -> str:
    """A campaign of which some renders have ended and most have not."""
    campaign = farm.client.submit(farm.spec(name, variants=VARIANTS)).id
    wait_for_renders(farm.client, campaign, 5)
    assert farm.client.campaign(campaign).counts.succeeded < TOTAL
    return campaign


def _end(farm: LiveFarm, campaign: str) -> None:
    found = farm.client.wait(campaign, PATIENCE)
    assert found.state == "done"
    audit(farm, campaign, TOTAL)


def _complaints(farm: LiveFarm) -> set[str]:
    """What readyz says is down, as soon as it does; backends may outlive their server by a moment."""
    while True:
        try:
            farm.client.ready()
        except ApiError as error:
            return {fault.code for fault in error.problem.errors}


def test_the_api_knows_no_password_but_its_own(farm: LiveFarm) -> None:
    """A hole in what faces the network must not open the tables' owner."""
    secrets = farm.parts.state.secrets
    known = " ".join(psutil.Process(farm.pid("api")).environ().values())
    assert secrets["farm_api"] in known
    assert not [name for name in ("farm_owner", "farm_scheduler", "postgres", "ray_token") if secrets[name] in known]


def test_a_renderer_killed_in_a_campaign_loses_nothing(farm: LiveFarm) -> None:
    campaign = _begin(farm, "renderer killed")
    before = farm.renderer_pids()
    os.kill(before[0], signal.SIGKILL)
    _end(farm, campaign)
    assert before[0] not in farm.renderer_pids()


def test_a_scheduler_killed_in_a_campaign_is_replaced_and_its_renderers_adopted(farm: LiveFarm) -> None:
    campaign = _begin(farm, "scheduler killed")
    renderers = farm.renderer_pids()
    farm.kill("scheduler")
    farm.up()
    _end(farm, campaign)
    assert farm.renderer_pids() == renderers  # the same processes, still warm
    assert '"epoch": 2' in farm.parts.log("scheduler").read_text()


def test_postgres_killed_in_a_campaign_comes_back_with_every_outcome(farm: LiveFarm) -> None:
    campaign = _begin(farm, "postgres killed")
    scheduler = farm.pid("scheduler")
    farm.kill("postgres")
    assert "store_down" in _complaints(farm)
    farm.parts.postgres.stop()  # backends of the dead server may linger and hold its memory
    farm.parts.postgres.start()
    _end(farm, campaign)
    assert farm.pid("scheduler") == scheduler  # it waited


def test_a_dead_depot_makes_shards_wait(farm: LiveFarm) -> None:
    campaign = _begin(farm, "depot killed")
    farm.kill("s3")
    assert "depot_down" in _complaints(farm)
    farm.parts.s3.stop()
    farm.parts.s3.start()
    _end(farm, campaign)
