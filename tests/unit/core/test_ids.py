"""Ids, and how they look on the wire."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, first_of, fleet_of, mint, read, read_render, show, show_render

NUMBERS = st.integers(0, 2**63 - 1)
SPAN = datetime(2093, 12, 31, tzinfo=UTC) - datetime(2025, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(), SPAN).map(lambda age: datetime(2025, 1, 1, tzinfo=UTC) + age)


@given(NUMBERS)
def test_an_id_is_read_as_it_was_shown(number: int) -> None:
    text = show("cmp", number)
    assert read("cmp", text) == number
    assert len(text) == len("cmp_") + 13


@given(NUMBERS, NUMBERS)
def test_ids_sort_as_their_numbers(one: int, other: int) -> None:
    assert (show("cmp", one) < show("cmp", other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cmp",
        "cmp_",
        "5",
        "sty_0000000000005",
        "CMP_0000000000005",
        "cmp_000000000005",
        "cmp_00000000000005",
        "cmp_000000000000l",
        "cmp_000000000000U",
        "cmp_000000000000\u0665",
        "cmp_0000000000005 ",
        "cmp_zzzzzzzzzzzzz",
        "cmp_8000000000000",
    ],
)
def test_what_show_never_writes_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        read("cmp", text)


@given(st.text())
def test_any_text_is_either_an_id_or_not_found(text: str) -> None:
    for candidate in (text, f"cmp_{text}"):
        try:
            number = read("cmp", candidate)
        except NotFound:
            continue
        assert show("cmp", number) == candidate


@given(NUMBERS, st.integers(0, 10**18 - 1))
def test_a_render_id_is_read_as_it_was_shown(campaign: int, ordinal: int) -> None:
    assert read_render(show_render(CampaignId(campaign), ordinal)) == (campaign, ordinal)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rnd_0000000000005",
        "rnd_0000000000005_",
        "rnd_0000000000005_-1",
        "rnd_0000000000005_\u0665",
        "rnd_0000000000005_1_2",
        "rnd_0000000000005_" + "1" * 19,
        "cmp_0000000000005_1",
    ],
)
def test_what_is_no_render_id_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        read_render(text)


@given(MOMENTS, MOMENTS, st.integers(0, 2**80), st.integers(0, 2**80))
def test_minted_ids_sort_by_age_and_fit_a_bigint(one: datetime, other: datetime, bits: int, others: int) -> None:
    first, second = mint(one, bits), mint(other, others)
    assert 0 <= first < 2**63
    if other - one >= timedelta(milliseconds=1):
        assert first < second


@given(MOMENTS, st.integers(0, 2**80))
def test_a_partition_begins_below_every_id_of_its_moment(moment: datetime, bits: int) -> None:
    assert first_of(moment) <= mint(moment, bits)
    assert first_of(moment) > mint(moment - timedelta(milliseconds=1), bits)


@pytest.mark.parametrize(
    ("name", "fleet"), [("farm/spot-h100/a1b2c3/17", "spot-h100"), ("farm/x", ""), ("somebody-elses", "")]
)
def test_the_fleet_of_a_renderer_stands_in_its_name(name: str, fleet: str) -> None:
    assert fleet_of(name) == fleet
