"""How many renderers are wanted, which are not any more, and when it is off-peak."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.errors import BadRequest
from farm.core.ids import RendererName
from farm.core.scaling import (
    FleetSpec,
    Load,
    Standing,
    Window,
    in_window,
    parse_window,
    spread,
    surplus,
    until_window,
    wanted,
)

FLEET = FleetSpec("a", "farm/a/", least=0, most=10, off_peak_most=20)
NONE = Standing(0)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def want(
    load: Load, fleet: FleetSpec = FLEET, standing: Standing = NONE, *, drain: float = 300.0, off_peak: bool = False
) -> int:
    return wanted(fleet, standing, load, drain_seconds=drain, off_peak=off_peak)


def test_without_work_a_fleet_goes_to_its_least() -> None:
    assert want(Load(0.0, 0)) == 0
    assert want(Load(0.0, 0), replace(FLEET, least=2)) == 2


@pytest.mark.parametrize(("seconds", "shards", "count"), [(1, 1, 1), (300, 10, 1), (301, 11, 2), (1200, 40, 4)])
def test_as_many_as_are_through_in_the_drain_time(seconds: float, shards: int, count: int) -> None:
    assert want(Load(seconds, shards)) == count


def test_never_more_than_shards_nor_than_the_fleet_may_have() -> None:
    assert want(Load(9000, 3)) == 3
    assert want(Load(90000, 3000)) == 10
    assert want(Load(90000, 3000), off_peak=True) == 20
    assert want(Load(90000, 3000), replace(FLEET, off_peak_most=None), off_peak=True) == 10


def test_with_no_drain_time_each_shard_has_its_renderer() -> None:
    assert want(Load(7.0, 4), drain=0.0) == 4


def test_deadlines_ask_for_more_than_the_drain_time_does() -> None:
    assert want(Load(300, 20, deadline_renderers=4.2)) == 5
    assert want(Load(300, 3, deadline_renderers=4.2)) == 3, "more than shards would idle"
    assert want(Load(3000, 20, deadline_renderers=0.5)) == 10


def test_a_renderer_in_quarantine_is_replaced_as_far_as_there_is_room() -> None:
    busy = Load(900, 30)
    assert want(busy, standing=Standing(2, quarantined=1)) == 3
    assert want(Load(90000, 3000), standing=Standing(7, quarantined=3)) == 7
    assert want(busy, replace(FLEET, most=1), Standing(0, quarantined=1)) == 0


def test_nobody_is_woken_for_a_little_more_work_unless_a_deadline_asks() -> None:
    large = replace(FLEET, most=100)
    assert want(Load(300 * 22, 900), large, Standing(20)) == 20
    assert want(Load(300 * 23, 900), large, Standing(20)) == 23
    assert want(Load(300 * 22, 900, deadline_renderers=21), large, Standing(20)) == 22
    assert want(Load(300 * 2, 900), large, Standing(1)) == 2, "in a small farm one more is much"


def test_nobody_is_woken_for_what_budgets_do_not_pay() -> None:
    load = Load(3000, 100, deadline_renderers=5)
    assert wanted(FLEET, NONE, load, drain_seconds=300, off_peak=False, affordable=600.0) == 5
    assert (
        wanted(FLEET, NONE, replace(load, deadline_renderers=0), drain_seconds=300, off_peak=False, affordable=600.0)
        == 2
    )
    assert wanted(FLEET, NONE, load, drain_seconds=300, off_peak=False, affordable=0.0) == 0
    assert wanted(FLEET, NONE, load, drain_seconds=0, off_peak=False, affordable=150.0) == 5


def test_the_first_fleet_fills_first_and_the_next_takes_what_is_left() -> None:
    cheap, dear = replace(FLEET, name="cheap", most=3), replace(FLEET, name="dear", most=10, least=1)
    assert spread([(cheap, NONE), (dear, NONE)], Load(1500, 50), drain_seconds=300, off_peak=False) == {
        "cheap": 3,
        "dear": 2,
    }
    assert spread([(cheap, NONE), (dear, NONE)], Load(600, 50), drain_seconds=300, off_peak=False) == {
        "cheap": 2,
        "dear": 1,
    }


def test_a_deadline_is_met_by_several_fleets_together() -> None:
    cheap, dear = replace(FLEET, name="cheap", most=3), replace(FLEET, name="dear")
    found = spread([(cheap, NONE), (dear, NONE)], Load(300, 50, 7.5), drain_seconds=300, off_peak=False)
    assert found == {"cheap": 3, "dear": 5}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.floats(0, 1e5), st.integers(0, 200), st.floats(0, 40))
def test_fleets_together_are_as_many_as_one_would_be(mosts: list[int], seconds: float, shards: int, due: float) -> None:
    load = Load(seconds, shards, due)
    several = [(replace(FLEET, name=str(n), most=most), NONE) for n, most in enumerate(mosts)]
    found = spread(several, load, drain_seconds=300, off_peak=False)
    one = want(load, replace(FLEET, most=sum(mosts)))
    assert one <= sum(found.values()) <= one + len(mosts), "each fleet may round up by one"


loads = st.builds(Load, st.floats(0, 1e6), st.integers(0, 10_000), st.floats(0, 50))
fleets = st.builds(
    lambda least, more, off: FleetSpec("a", "farm/a/", least, least + more, off), st.integers(0, 5), st.integers(0, 50),
    st.none() | st.integers(0, 60),
)  # fmt: skip


@given(fleets, st.integers(0, 60), loads, st.floats(0, 1000), st.booleans())
def test_what_is_wanted_stays_within_the_fleet(
    fleet: FleetSpec, quarantined: int, load: Load, drain: float, off_peak: bool
) -> None:
    count = want(load, fleet, Standing(0, quarantined), drain=drain, off_peak=off_peak)
    limit = fleet.off_peak_most if off_peak and fleet.off_peak_most is not None else fleet.most
    assert 0 <= count <= max(0, limit - quarantined)
    assert count <= max(load.shards, fleet.least)
    assert count >= min(fleet.least, max(0, limit - quarantined))


@given(fleets, loads, st.floats(0, 1000), st.floats(0, 1e5))
def test_more_work_never_wants_fewer_renderers(fleet: FleetSpec, load: Load, drain: float, more: float) -> None:
    larger = replace(load, seconds=load.seconds + more, shards=load.shards + 1)
    assert want(larger, fleet, drain=drain) >= want(load, fleet, drain=drain)


# Retiring


@dataclass(frozen=True)
class Renderer:
    name: RendererName
    idle: float


def renderer(name: str, idle: float) -> Renderer:
    return Renderer(RendererName(name), idle)


def test_only_what_has_been_idle_for_long_is_retired_the_longest_first() -> None:
    there = [renderer("a", 0), renderer("b", 700), renderer("c", 599), renderer("d", 900)]
    assert surplus(there, wanted=0, idle_seconds=600) == ["d", "b"]
    assert surplus(there, wanted=3, idle_seconds=600) == ["d"]
    assert surplus(there, wanted=4, idle_seconds=600) == []


def test_a_busy_renderer_is_not_retired_even_without_an_idle_time() -> None:
    assert surplus([renderer("a", 0), renderer("b", 1)], wanted=0, idle_seconds=0) == ["b"]


@given(st.lists(st.floats(0, 2000), max_size=30), st.integers(0, 30), st.floats(0, 1000))
def test_retiring_leaves_what_is_wanted(idle: list[float], count: int, idle_seconds: float) -> None:
    there = [renderer(f"r{n}", seconds) for n, seconds in enumerate(idle)]
    gone = surplus(there, wanted=count, idle_seconds=idle_seconds)
    assert len(there) - len(gone) >= min(count, len(there))
    by_name = {r.name: r.idle for r in there}
    assert all(by_name[name] >= idle_seconds and by_name[name] > 0 for name in gone)


@given(st.lists(st.floats(0, 300), min_size=1, max_size=60), st.integers(1, 5))
def test_work_in_waves_neither_wakes_nor_retires_with_each(waves: list[float], shards: int) -> None:
    """Pauses shorter than the idle time: once there, the renderers stay."""
    there = 0
    for pause in waves:
        count = want(Load(shards * 300.0, shards))
        there = max(there, count)
        assert there == shards
        resting = [renderer(f"r{n}", pause) for n in range(there)]
        there -= len(surplus(resting, wanted=want(Load(0, 0)), idle_seconds=600))
    assert there == shards


# Windows


def at(hour: int, minute: int = 0) -> datetime:
    return NOON.replace(hour=hour, minute=minute)


def test_a_window_may_pass_midnight() -> None:
    night = [parse_window("22:00-06:00")]
    assert [in_window(night, at(*t)) for t in [(21, 59), (22, 0), (0, 0), (5, 59), (6, 0), (12, 0)]] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_window_is_in_utc_whatever_the_clock_says() -> None:
    night = [parse_window("22:00-06:00")]
    assert in_window(night, at(23).astimezone(timezone(timedelta(hours=9))))
    assert not in_window(night, at(12).astimezone(timezone(timedelta(hours=11))))


def test_of_several_windows_one_is_enough_and_of_none_every_hour_counts() -> None:
    both = [parse_window("01:00-02:00"), parse_window("12:00-13:00")]
    assert in_window(both, at(12, 30))
    assert not in_window(both, at(13))
    assert in_window([], at(13))


def test_how_long_until_the_hours_begin() -> None:
    both = [parse_window("22:00-06:00"), parse_window("12:00-13:00")]
    assert [until_window(both, at(*t)) / 3600 for t in [(11, 30), (12, 30), (13, 0), (21, 59), (6, 0)]] == [
        0.5,
        0.0,
        9.0,
        1 / 60,
        6.0,
    ]
    assert until_window([parse_window("02:00-03:00")], at(23)) == 3 * 3600
    assert until_window([], at(13)) == 0.0


def test_a_whole_day_ends_at_24() -> None:
    day = [parse_window("00:00-24:00")]
    assert all(in_window(day, at(hour, minute)) for hour in range(24) for minute in (0, 59))
    assert parse_window("18:30-24:00") == Window(time(18, 30), time(0))


@pytest.mark.parametrize(
    "text",
    ["", "22-06", "22:00", "25:00-06:00", "22:60-06:00", "22:00 - 06:00", "06:00-06:00", "24:00-06:00", "٢٢:00-06:00"],
)
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_window(text)
    assert refused.value.code == "bad_window"
    assert repr(text) in refused.value.detail


@given(st.times(), st.times(), st.times())
def test_a_window_and_its_opposite_share_the_day(begins: time, ends: time, moment: time) -> None:
    if begins != ends:
        assert Window(begins, ends).holds(moment) != Window(ends, begins).holds(moment)
