"""A disk that is full, of the renderers and of the store, and a scheduler whose clock is an hour off."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from farm.embedded import EmbeddedFarm
from tests.support.faults import SmallDisk, Trial, small_disk, trial, until


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[str, SmallDisk]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(small_disk(500)) for name in ("cache", "s3")}


@pytest.fixture(scope="module")
def running(disks: dict[str, SmallDisk]) -> Iterator[Trial]:
    def settings(farm: EmbeddedFarm) -> dict[str, str]:
        (farm.data / "s3").symlink_to(disks["s3"].at)
        return {"FARM_ENGINE_CACHE": str(disks["cache"].at / "weights")}

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
    running.crashes.set_clock("scheduler", timedelta(hours=hours))
    running.kill("scheduler")
    running.farm.up()
    campaign = running.submit(f"clock {hours}")
    running.end(campaign)
    assert running.lost_leases(campaign) == 0
