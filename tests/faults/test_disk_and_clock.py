"""A disk that is full, of the renderers and of the store, and a scheduler whose clock is an hour off."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from farm.embedded import EmbeddedFarm
from tests.support.faults import Trial, until
from tests.support.trials import PATIENT, SmallDisk, small_disk, trial


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[str, SmallDisk]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(small_disk(500)) for name in ("cache", "s3")}


@pytest.fixture(scope="module")
def running(disks: dict[str, SmallDisk]) -> Iterator[Trial]:
    def settings(farm: EmbeddedFarm) -> dict[str, str]:
        (farm.data / "s3").symlink_to(disks["s3"].at)
        return {**PATIENT, "FARM_ENGINE_CACHE": str(disks["cache"].at / "weights")}

    with trial(settings) as made:
        yield made


def failures(running: Trial, code: str) -> int:
    return int(running.query("SELECT count(*) FROM attempt WHERE code = %s", code)[0][0])


def test_renderers_whose_disk_is_full_cost_no_render_when_there_is_room_again(
    running: Trial, disks: dict[str, SmallDisk]
) -> None:
    disks["cache"].fill()
    campaign = running.submit("cache full")
    until(lambda: failures(running, "weights_disk"), "the weights find no room")
    disks["cache"].free()
    running.end(campaign)


def test_a_store_whose_disk_is_full_costs_no_render_when_there_is_room_again(
    running: Trial, disks: dict[str, SmallDisk]
) -> None:
    campaign = running.begin("store full")
    disks["s3"].fill()
    until(lambda: failures(running, "depot_unreachable"), "pictures find no room")
    disks["s3"].free()
    running.end(campaign)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_scheduler_whose_clock_is_an_hour_off_loses_no_lease(running: Trial, hours: int) -> None:
    """Leases go by the database's clock. The store goes by its own, and refuses what is signed at the wrong hour."""
    client, campaign = running.farm.client, running.begin(f"clock {hours}")
    running.crashes.set_clock("scheduler", timedelta(hours=hours))
    running.kill("scheduler")
    running.farm.up()
    until(lambda: client.campaign(campaign).counts.running == 0, "what was under way is settled")
    until(lambda: client.why(campaign).code == "depot_down", "the rest waits, and says why")
    assert client.campaign(campaign).counts.queued > 0
    running.crashes.mend_clock("scheduler")
    running.kill("scheduler")
    running.farm.up()
    running.end(campaign)
    assert running.lost_leases(campaign) == 0


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()
