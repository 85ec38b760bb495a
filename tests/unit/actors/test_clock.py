"""What the GPU thread does with its time."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.clock import Clock, Doing
from schemas.report import GpuTime

PARTS = ("encode", "denoise", "decode", "load", "swap", "wait", "idle")
doings = st.sampled_from(get_args(Doing))
happenings = st.lists(st.tuples(doings, st.floats(0.001, 100.0), st.floats(0.0, 50.0)), max_size=30)


def total(gpu: GpuTime) -> float:
    return float(sum(getattr(gpu, part) for part in PARTS))


@settings(deadline=None)  # the machine may be busy
@given(happenings)
def test_the_parts_add_up_to_the_time_that_passed_and_never_fall(steps: list[tuple[Doing, float, float]]) -> None:
    now = 100.0
    clock = Clock(now, "load")
    before = clock.read(now)
    for doing, seconds, decode in steps:
        clock.turn(doing, now)
        clock.decoded(decode)
        now += seconds
        after = clock.read(now)
        assert total(after) == pytest.approx(now - 100.0)
        assert all(getattr(after, part) >= getattr(before, part) for part in PARTS)
        before = after


def test_decoding_is_taken_from_the_passes() -> None:
    clock = Clock(0.0, "denoise")
    clock.decoded(1.0)
    clock.stepped(3)
    clock.turn("idle", 4.0)
    gpu = clock.read(10.0)
    assert (gpu.denoise, gpu.decode, gpu.idle, gpu.passes, gpu.rows) == (3.0, 1.0, 6.0, 1, 3)


def test_decoding_that_is_told_late_is_taken_from_the_next_pass() -> None:
    clock = Clock(0.0, "denoise")
    clock.turn("idle", 4.0)
    clock.decoded(1.0)
    clock.turn("denoise", 5.0)
    gpu = clock.read(7.0)
    assert (gpu.denoise, gpu.decode, gpu.idle) == (5.0, 1.0, 1.0)
