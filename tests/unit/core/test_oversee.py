"""What stands above single shards becomes rules and renderers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farm.core.budget import Pause, Purse, Warn
from farm.core.evidence import Quarantine
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from farm.core.oversee import FleetSize, Oversight, Overview, Scale, oversee
from farm.core.placement import Backlog
from farm.core.plan import Held, Seen
from farm.core.records import Accusation, LoadCost, Quarantined, SpentRow
from farm.core.scaling import FleetSpec, Window, parse_window
from schemas.campaign import Budget, CampaignState
from schemas.order import Lane

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
H100 = FleetSpec("h100", "farm/h100/1/", 0, 4, None, "H100")
L4 = FleetSpec("l4", "farm/l4/1/", 0, 4, None, "L4")
OURS = TeamId(1)


def purse(campaign: int = 1, **changes: Any) -> Purse:
    made = Purse(CampaignId(campaign), OURS, CampaignState.ACTIVE, None, Lane.BULK, 50, float(campaign), SpentRow())
    return replace(made, **changes)


def backlog(campaign: int = 1, *, shards: int = 4, seconds: float = 240.0) -> dict[tuple[CampaignId, str], Backlog]:
    return {(CampaignId(campaign), "k"): Backlog(shards, shards * 10, seconds)}


def seen(name: str, **changes: Any) -> Seen:
    gpu = "H100" if "h100" in name else "L4"
    return replace(Seen(RendererName(name), Session(name), frozenset(), "", "", gpu=gpu), **changes)


def held(name: str, seconds: float = 30.0) -> Held:
    return Held(
        shard=ShardId(9),
        session=Session(name),
        fence=Fence("f"),
        age=1.0,
        expired=False,
        ended=False,
        cancelled=False,
        engine_key="k",
        checkpoint="c",
        gpu_seconds=seconds,
        team=OURS,
        campaign=CampaignId(1),
        lane=Lane.BULK,
        renders=5,
    )


def oversight(*fleets: FleetSpec, off_peak: tuple[Window, ...] = (), drain: float = 60.0, **changes: Any) -> Oversight:
    empty = Overview(
        now=NOW,
        purses=(),
        team_purses=(),
        backlog={},
        held=(),
        teams=(TeamShare(OURS),),
        seen=(),
        speeds={},
        load_costs=(),
        prices={},
        accusations=(),
        quarantined=(),
        succeeded=frozenset(),
        scale=Scale(fleets or (H100,), drain, 300.0, off_peak),
    )
    return oversee(replace(empty, **changes))


def test_renderers_are_woken_for_the_backlog_and_no_more_than_there_are_shards() -> None:
    found = oversight(backlog=backlog(seconds=120.0))
    assert found.wake == ("farm/h100/1/0", "farm/h100/1/1")
    assert oversight(backlog=backlog(shards=1, seconds=9e9)).wake == ("farm/h100/1/0",)
    assert len(oversight(backlog=backlog(shards=99, seconds=9e9)).wake) == H100.most
    assert len(oversight(backlog=backlog(seconds=0.0), drain=0.0).wake) == 4
    assert oversight().wake == ()


def test_who_is_there_already_is_not_woken_again_and_gaps_are_filled() -> None:
    there = [seen("farm/h100/1/1")]
    found = oversight(backlog=backlog(seconds=120.0), seen=there)
    assert found.wake == ("farm/h100/1/0",)
    assert found.wanted == 2


@pytest.mark.parametrize(("at_night", "most"), [(True, 12), (False, 4)])
def test_it_is_told_of_each_fleet_how_many_are_wanted_and_may_be_there_now(at_night: bool, most: int) -> None:
    first = replace(H100, most=4, off_peak_most=12)
    other = FleetSpec("other", "farm/other/1/", 1, 9)
    window = parse_window("11:00-13:00" if at_night else "22:00-06:00")
    found = oversight(first, other, backlog=backlog(seconds=120.0), off_peak=(window,))
    assert found.fleets == {"h100": FleetSize(2, most), "other": FleetSize(1, 9)}
    assert found.wanted == 3


def test_nobody_is_woken_for_what_may_not_start() -> None:
    window = (parse_window("22:00-06:00"),)
    asleep = oversight(backlog=backlog(), purses=[purse(off_peak=True)], off_peak=window)
    assert (asleep.wake, asleep.off_peak, asleep.rules.off_peak) == ((), False, False)
    spent = purse(budget=Budget(gpu_seconds=10), spent=SpentRow(10.0, 0.0))
    broke = oversight(backlog=backlog(), purses=[spent])
    assert broke.wake == ()
    assert [type(decision) for decision in broke.decisions if isinstance(decision, Pause)] == [Pause]


def test_a_budget_wakes_only_what_it_can_pay() -> None:
    little = purse(budget=Budget(gpu_seconds=70))
    assert len(oversight(backlog=backlog(seconds=6000.0), purses=[little]).wake) == 2


def test_a_deadline_asks_for_more_renderers_than_the_backlog_does() -> None:
    soon = purse(deadline=NOW + timedelta(seconds=80))
    found = oversight(backlog=backlog(seconds=240.0), purses=[soon], drain=3600.0)
    assert len(found.wake) == 3
    assert found.finish.keys() == {CampaignId(1)}


def test_what_waits_for_approval_or_for_its_hours_is_part_of_the_forecast_and_wakes_nobody() -> None:
    soon = NOW + timedelta(minutes=5)
    proof = purse(state=CampaignState.AWAITING_APPROVAL, deadline=soon)
    found = oversight(replace(H100, most=1), purses=[proof], held_back={CampaignId(1): 3600.0}, teams=())
    assert [type(decision) for decision in found.decisions] == [Warn]
    assert (found.finish, found.wake) == ({CampaignId(1): NOW + timedelta(hours=1)}, ())
    night = purse(off_peak=True, deadline=NOW + timedelta(hours=2))
    window = (parse_window("22:00-06:00"),)
    found = oversight(purses=[night], backlog=backlog(seconds=40.0), off_peak=window)
    assert [type(decision) for decision in found.decisions] == [Warn]
    assert found.finish == {CampaignId(1): NOW.replace(hour=22) + timedelta(seconds=10)}
    at_night = oversight(purses=[night], backlog=backlog(seconds=40.0), off_peak=(parse_window("11:00-13:00"),))
    assert at_night.decisions == ()


def test_the_first_fleet_fills_first_and_the_rest_goes_to_the_next() -> None:
    found = oversight(replace(H100, most=1), L4, backlog=backlog(seconds=180.0))
    assert found.wake == ("farm/h100/1/0", "farm/l4/1/0", "farm/l4/1/1")


def test_what_is_bound_to_a_type_of_gpu_wakes_the_fleet_that_has_it() -> None:
    """Even while all of it backs off, and no queue is seen."""
    pinned = [purse(gpu="L4")]
    assert set(oversight(H100, L4, purses=pinned, backlog=backlog(seconds=120.0)).wake) == {
        "farm/l4/1/0",
        "farm/l4/1/1",
    }
    unknown = replace(L4, gpu=None)
    assert oversight(H100, unknown, purses=pinned, backlog=backlog(seconds=60.0)).wake == ("farm/l4/1/0",)
    assert oversight(H100, purses=pinned, backlog=backlog()).wake == ()


def test_renderers_that_get_no_node_leave_the_work_to_the_next_fleet() -> None:
    waiting = [seen("farm/h100/1/0", session=None, idle=30.0, gpu="")]
    assert oversight(replace(H100, most=1), L4, backlog=backlog(shards=1), seen=waiting).wake == ()
    stuck = [replace(waiting[0], idle=3600.0)]
    found = oversight(replace(H100, most=1), L4, backlog=backlog(shards=1), seen=stuck)
    assert found.wake == ("farm/l4/1/0",)


def test_what_is_under_way_keeps_its_renderer_and_idle_ones_are_retired() -> None:
    there = [seen("farm/h100/1/0"), seen("farm/h100/1/1", idle=301.0), seen("farm/h100/1/2", idle=299.0)]
    found = oversight(seen=there, held=[held("farm/h100/1/0")])
    assert found.retire == ("farm/h100/1/1",)
    assert found.wake == ()
    kept = oversight(replace(H100, least=3), seen=there, held=[held("farm/h100/1/0")])
    assert kept.retire == ()


def test_a_quarantined_renderer_is_replaced_by_another() -> None:
    shut = Quarantined(RendererName("farm/h100/1/0"), "why", NOW, NOW + timedelta(minutes=5), 0)
    found = oversight(backlog=backlog(shards=1), seen=[seen("farm/h100/1/0")], quarantined=[shut])
    assert found.verdict.closed == {"farm/h100/1/0"}
    assert found.wake == ("farm/h100/1/1",)


def test_evidence_becomes_a_quarantine() -> None:
    name = RendererName("farm/h100/1/0")
    guilty = Accusation(name, 3, 2, 0, 1, "engine_failed", NOW)
    found = oversight(seen=[seen(name), seen("farm/h100/1/1")], accusations=[guilty])
    assert [decision.name for decision in found.decisions if isinstance(decision, Quarantine)] == [name]


def test_what_loads_take_is_known_by_type_of_gpu() -> None:
    loads = [LoadCost("H100", "lora", 0.05, 40), LoadCost("H100", "checkpoint", 4.0, 2)]
    loading = oversight(seen=[seen("farm/h100/1/0")], load_costs=loads).rules.loading
    assert (loading.lora["H100"], loading.checkpoint["H100"]) == (0.05, 4.0)
