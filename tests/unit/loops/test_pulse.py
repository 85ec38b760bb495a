"""A service that does not come round is noticed, and ended when it never will."""

import threading
from datetime import timedelta

import pytest

from farm.core.errors import FleetDown, StoreDown
from farm.loops.loop import Away, run
from farm.loops.pulse import Pulse, watch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_turn_beats_and_tells_what_it_failed_of(clock: Clock) -> None:
    turns: list[float] = []
    pulse = Pulse(limit=timedelta(seconds=60), on_turn=lambda: turns.append(clock.now), monotonic=clock)
    clock.now += 60
    assert (pulse.silent, pulse.hangs) == (60, False)
    clock.now += 1
    assert pulse.hangs
    down = FleetDown("no")
    pulse.turned(down)
    assert (pulse.silent, pulse.hangs, pulse.trouble) == (0, False, down)
    pulse.turned()
    assert pulse.trouble is None
    pulse.beat()
    assert turns == [161, 161], "what comes before the first turn is no turn"


def test_what_is_left_to_do_after_the_last_turn_has_a_limit_of_its_own(clock: Clock) -> None:
    pulse = Pulse(limit=timedelta(hours=1), monotonic=clock)
    clock.now += 50
    pulse.closing(timedelta(seconds=45))
    clock.now += 45
    assert not pulse.hangs
    clock.now += 1
    assert pulse.hangs


def test_a_process_that_hangs_is_ended_with_1() -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    watch(Pulse(limit=timedelta(0)), end).join(10)
    assert ended.is_set()
    assert codes == [1]


def test_a_process_that_comes_round_is_left_alone(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at a hundred times, while it beats; then it does not."""
    pulse = Pulse(limit=timedelta(seconds=3), monotonic=clock)
    looks: list[int] = []

    def sleep(_: float) -> None:
        clock.now += 1
        looks.append(0)
        if len(looks) < 100:
            pulse.turned()

    monkeypatch.setattr("farm.loops.pulse.time.sleep", sleep)
    watch(pulse, lambda _: None).join(10)
    assert len(looks) == 100 + 3


def test_a_process_that_was_stopped_as_a_whole_does_not_hang(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse(limit=timedelta(seconds=60), monotonic=clock)
    slept: list[float] = []

    def sleep(_: float) -> None:
        clock.now += 1 if slept else 3600  # SIGSTOP, and SIGCONT an hour later
        slept.append(clock.now)

    monkeypatch.setattr("farm.loops.pulse.time.sleep", sleep)
    watch(pulse, lambda _: None).join(10)
    assert len(slept) == 1 + 61, "it has its whole time from then on"


# Ray, away


def away(clock: Clock, *turns: tuple[float, float, bool]) -> float | None:
    """*turns*: seconds before it, seconds that it takes, whether Ray failed. When patience of 60 s ended."""
    found = Away(timedelta(seconds=60), clock)
    for pause, took, failed in turns:
        clock.now += pause
        found.turning()
        clock.now += took
        if failed:
            try:
                found.missed(FleetDown("no"))
            except FleetDown:
                return clock.now - 100
    return None


def test_ray_is_given_up_when_it_fails_for_longer_than_patience(clock: Clock) -> None:
    assert away(clock, *[(10, 1, True)] * 10) == 77, "11 s a turn, and the first began after 10 s"


def test_a_turn_that_waits_for_ray_that_long_is_enough(clock: Clock) -> None:
    assert away(clock, (0, 61, True)) == 61


def test_turns_that_do_not_ask_ray_do_not_mean_that_it_is_back(clock: Clock) -> None:
    assert away(clock, (0, 40, True), (1, 0.1, False), (1, 40, True)) == 82.1


def test_a_cluster_that_came_back_is_waited_for_anew(clock: Clock) -> None:
    assert away(clock, (0, 40, True), (30, 1, False), (1, 40, True)) is None


def test_other_parts_may_be_away_for_as_long_as_they_like(clock: Clock) -> None:
    found = Away(timedelta(0), clock)
    found.turning()
    found.missed(StoreDown("no"))


def test_a_service_that_gives_up_ray_makes_its_last_call_under_a_limit() -> None:
    class Service:
        said: list[str] = []

        def run_once(self) -> None:
            raise FleetDown("no")

        def trouble(self, error: object) -> None:
            self.said.append("trouble")

        def stop(self) -> None:
            self.said.append("stop")
            assert pulse._limit == 25

    pulse = Pulse()
    with pytest.raises(FleetDown):
        run(Service(), threading.Event(), pulse, patience=timedelta(0))
    assert Service.said == ["trouble", "stop"]
