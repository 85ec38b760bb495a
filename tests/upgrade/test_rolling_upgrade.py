"""This release takes over from the former one, gives back, and takes over for good, each time in a campaign."""

from collections.abc import Iterator

import pytest

from tests.support.faults import TOTAL, until
from tests.support.releases import THIS, NoHistory, Upgrade, upgrade


@pytest.fixture(scope="module")
def rolling() -> Iterator[Upgrade]:
    try:
        # A campaign of half a minute: two releases start and end processes while it renders.
        with upgrade({"FARM_FAKE_SECONDS": "0.7", "FARM_LINK_TTL": "PT90S", "FARM_GARBAGE_GRACE": "PT110S"}) as made:
            yield made
    except NoHistory as error:
        pytest.skip(f"the former release is not in this clone: {error}")


def succeeded(rolling: Upgrade, campaign: str) -> int:
    return rolling.trial.farm.client.campaign(campaign).counts.succeeded


def renders_more(rolling: Upgrade, campaign: str) -> None:
    before = succeeded(rolling, campaign)
    until(lambda: succeeded(rolling, campaign) >= before + 4, "it goes on")


def revisions(rolling: Upgrade) -> set[str]:
    """Of the renderers that work."""
    names = rolling.trial.query("SELECT name FROM renderer WHERE ended_at IS NULL")
    return {name.split("/")[2] for (name,) in names}


def test_the_former_release_renders_on_the_new_tables_and_this_one_takes_over_in_a_campaign(rolling: Upgrade) -> None:
    trial = rolling.trial
    campaign, epoch = trial.begin("upgraded"), trial.epoch()
    assert revisions(rolling) == {"former"}
    assert "0004" in rolling.migrate("expand")
    renders_more(rolling, campaign)
    rolling.start(THIS, "api")
    rolling.start(THIS, "scheduler")
    renders_more(rolling, campaign)
    assert trial.epoch() == epoch, "the new scheduler stands by"
    rolling.stop_first("scheduler")
    until(lambda: trial.epoch() > epoch, "the new one leads")
    assert succeeded(rolling, campaign) < TOTAL
    until(lambda: revisions(rolling) == {"this"}, "it has renderers of its own, and the old ones are gone")
    assert succeeded(rolling, campaign) < TOTAL
    rolling.through(THIS)
    rolling.stop_first("api")
    rolling.trial.end(campaign)
    assert rolling.trial.lost_leases(campaign) == 0


def test_the_former_release_takes_over_again_in_a_campaign_on_the_new_tables(rolling: Upgrade) -> None:
    trial = rolling.trial
    campaign, epoch = trial.begin("rolled back"), trial.epoch()
    rolling.start(rolling.former, "api")
    rolling.start(rolling.former, "scheduler")
    rolling.stop(THIS, "scheduler")
    until(lambda: trial.epoch() > epoch, "the former one leads")
    until(lambda: revisions(rolling) == {"former"}, "with its own renderers")
    assert succeeded(rolling, campaign) < TOTAL
    rolling.through(rolling.former)
    rolling.stop(THIS, "api")
    rolling.trial.end(campaign)
    assert rolling.trial.lost_leases(campaign) == 0


def test_this_release_takes_over_for_good_and_what_the_former_one_needed_is_taken_away(rolling: Upgrade) -> None:
    trial = rolling.trial
    campaign, epoch = trial.begin("upgraded again"), trial.epoch()
    rolling.start(THIS, "api")
    rolling.start(THIS, "scheduler")
    rolling.stop(rolling.former, "scheduler")
    until(lambda: trial.epoch() > epoch, "the new one leads")
    rolling.through(THIS)
    rolling.stop(rolling.former, "api")
    assert "0005" in rolling.migrate("contract")
    assert succeeded(rolling, campaign) < TOTAL
    rolling.trial.end(campaign)
    rolling.trial.end(rolling.trial.submit("after the upgrade"))
    assert rolling.trial.query("SELECT version_num FROM alembic_version") == [("0005",)]


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(rolling: Upgrade) -> None:
    rolling.trial.audit()
