"""How much was rendered before: exactly where that is cheap, else never more than there is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.reuse import EXACT, at_least, to_look_up

SIZES = st.integers(1, 20_000_000)


@given(SIZES)
def test_ordinals_are_distinct_in_order_and_inside(renders: int) -> None:
    ordinals = to_look_up(renders)
    assert len(ordinals) == min(renders, EXACT)
    assert all(0 <= ordinal < renders for ordinal in ordinals)
    assert all(first < second for first, second in pairwise(ordinals))


@given(st.integers(EXACT + 1, 20_000_000))
def test_every_stretch_of_a_large_campaign_is_looked_at(renders: int) -> None:
    ordinals = [0, *to_look_up(renders), renders]
    widest = max(second - first for first, second in pairwise(ordinals))
    assert widest <= 2 * (renders // EXACT + 1)


@pytest.mark.parametrize("period", [2, 3, 4, 8, 24, 96])
def test_a_sample_meets_every_digit_of_the_matrix(period: int) -> None:
    """At equal distances it would meet one variant only, whenever their number divides the distance."""
    ordinals = to_look_up(EXACT * 96)
    found = [sum(ordinal % period == digit for ordinal in ordinals) for digit in range(period)]
    assert min(found) > 0.5 * EXACT / period


@given(st.integers(0, EXACT), SIZES)
def test_it_never_claims_more_than_the_sample_shows(known: int, renders: int) -> None:
    looked_up = min(renders, EXACT)
    known = min(known, looked_up)
    found = at_least(known, looked_up, renders)
    assert known <= found <= max(known, known / looked_up * renders)
    if renders <= EXACT:
        assert found == known


def test_of_nothing_nothing_and_of_all_nearly_all() -> None:
    assert at_least(0, EXACT, 1_000_000) == 0
    assert 0.99 < at_least(EXACT, EXACT, 1_000_000) / 1_000_000 < 1
    assert 0.73 < at_least(EXACT * 3 // 4, EXACT, 1_000_000) / 1_000_000 < 0.75
