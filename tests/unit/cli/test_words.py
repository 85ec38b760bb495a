"""Moments, money and quotes as people write and read them."""

from datetime import UTC, datetime, timedelta

import pytest

from farm.cli.exits import Stop
from farm.cli.quoting import quote_facts, quote_line
from farm.cli.words import clock, moment_of, money
from schemas.quote import Quote, Range


@pytest.mark.parametrize(
    ("text", "hours"),
    [("in 3h", 3), ("in 3 hours", 3), ("in 90 min", 1.5), ("in 2 days", 48), ("in 1d 6h", 30), ("In 0.5h", 0.5)],
)
def test_a_moment_may_be_said_from_now_on(text: str, hours: float) -> None:
    left = moment_of(text) - datetime.now(UTC)
    assert abs(left - timedelta(hours=hours)) < timedelta(seconds=30)


def test_a_moment_without_a_zone_is_this_machines() -> None:
    assert moment_of("2026-12-01 09:00") == datetime(2026, 12, 1, 9).astimezone()
    assert moment_of("2026-12-01T09:00:00+03:00") == datetime(2026, 12, 1, 6, tzinfo=UTC)
    assert moment_of(datetime(2026, 12, 1, 6, tzinfo=UTC)) == datetime(2026, 12, 1, 6, tzinfo=UTC)


def test_a_day_alone_is_meant_with_its_evening() -> None:
    evening = datetime(2026, 12, 2).astimezone()
    assert moment_of("2026-12-01") == evening
    assert moment_of(evening.date() - timedelta(days=1)) == evening


@pytest.mark.parametrize("text", ["tomorrow", "in", "in 3", "3h", "2026-13-01 09:00", "in 3 weeks", "", "2026-12-1x"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Stop, match="in 3h"):
        moment_of(text)


def test_a_clock_says_the_day_only_when_it_is_another_one() -> None:
    now = datetime.now(UTC).astimezone().replace(hour=12, minute=5)
    assert clock(now) == "12:05"
    assert clock((now + timedelta(days=1)).isoformat()).endswith(
        f"{now.year + (now.month == 12 and now.day == 31)} 12:05"
    )


def test_money_has_two_digits_and_little_of_it_is_not_nothing() -> None:
    assert [money(amount, "EUR") for amount in (0, 0.004, 0.914, 1234.5)] == [
        "0.00 EUR",
        "under 0.01 EUR",
        "0.91 EUR",
        "1,234.50 EUR",
    ]


def quote(**changes: object) -> Quote:
    def around(value: float) -> Range:
        return Range(low=value / 2, expected=value, high=2 * value)

    def after(minutes: int) -> str:
        return (datetime.now(UTC).replace(hour=11) + timedelta(minutes=minutes)).isoformat()

    found = Quote(
        renders=480,
        reused=0,
        gpu_seconds=around(1200),
        money=around(0.8),
        currency="EUR",
        wait_seconds=around(600),
        finish_at=(after(5), after(10), after(20)),
        measured=1.0,
        gpus={"H100": 1.0},
    )
    return found.model_copy(update=changes)


def test_a_quote_fits_on_one_line() -> None:
    line = quote_line(quote())
    assert line.startswith("480 renders, 20 min (10 min to 40 min) of GPU time, 0.80 EUR (0.40 to 1.60), done at ")
    assert "\n" not in line


def test_a_quote_says_what_is_reused_guessed_or_unknown() -> None:
    assert "480 renders, 120 of them rendered before" in quote_line(quote(reused=120))
    large = quote_line(quote(renders=1_000_000, reused=990_000))
    assert "at least 990,000 of them rendered before" in large
    assert dict(quote_facts(quote(measured=0.0)))["rests on"] == "a guess: nothing was measured yet"
    assert dict(quote_facts(quote(measured=0.8)))["rests on"] == "80% is measured, the rest a guess"
    nowhere = quote(finish_at=None, money=None, gpus={})
    assert "finish time unknown" in quote_line(nowhere)
    assert dict(quote_facts(nowhere))["money"] == "no GPU has a price"
