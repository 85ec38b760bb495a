"""Figures in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.words import duration, listed, many, nth


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a second"),
        (0.4, "less than a second"),
        (1, "1 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3599.9, "1 h"),
        (7384, "2 h 3 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (30 * 86_400, "30 d"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(1, 1e8))
def test_a_duration_is_read_back_within_half_of_its_smaller_unit(seconds: float) -> None:
    units = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
    parts = duration(seconds).split()
    read = sum(int(n) * units[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    smaller = {86_400: 3_600, 3_600: 60, 60: 1, 1: 1}[units[parts[1]]]
    assert abs(read - seconds) <= smaller / 2 + 1e-6


def test_counts_agree_with_their_noun() -> None:
    assert [many(n, "render") for n in (0, 1, 1240)] == ["0 renders", "1 render", "1,240 renders"]


def test_places_in_a_row() -> None:
    assert [nth(n) for n in (1, 3, 10, 11, 21, 22, 103, 111, 1012)] == [
        "first", "third", "tenth", "11th", "21st", "22nd", "103rd", "111th", "1,012th",
    ]  # fmt: skip


def test_lists_end_in_and() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
