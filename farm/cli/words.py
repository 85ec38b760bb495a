"""Durations, moments and money as people say them."""

import re
from datetime import UTC, date, datetime, time, timedelta

from farm.cli.exits import USAGE, Stop
from farm.core.words import duration
from schemas.quote import Range

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}
_IN = re.compile(r"in((?:\s*\d+(?:\.\d+)?\s*(?:d(?:ays?)?|h(?:ours?)?|m(?:in(?:utes?)?)?))+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z])", re.IGNORECASE)


def moment_of(given: object) -> datetime:
    """``2026-12-01 09:00`` or ``in 3h``. Without a zone it is this machine's; a day alone is meant with its evening.

    Raises `Stop`.
    """
    if isinstance(given, datetime):
        return given.astimezone()
    if isinstance(given, date):
        return _evening(given)
    text = str(given).strip()
    if found := _IN.fullmatch(text):
        seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(found[1]))
        return (datetime.now(UTC) + timedelta(seconds=seconds)).astimezone()
    try:
        return _evening(date.fromisoformat(text)) if len(text) == len("2026-12-01") else _zoned(text)
    except (ValueError, OverflowError) as fault:
        raise Stop(f'{text!r} is no moment: write "2026-12-01 09:00", or "in 3h", "in 2 days".', USAGE) from fault


def _zoned(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


def _evening(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time()).astimezone()


def clock(moment: str | datetime) -> str:
    """In this machine's zone; without the day when it is today."""
    there = (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return f"{there:%H:%M}" if there.date() == today else f"{there:%a %d %b %Y %H:%M}"


def span(seconds: float) -> str:
    return "none" if seconds == 0 else duration(seconds)


def money(amount: float, currency: str) -> str:
    return f"under 0.01 {currency}".strip() if 0 < amount < 0.01 else f"{amount:,.2f} {currency}".strip()


def spans(given: Range) -> str:
    """``22 min (18 min to 30 min)``."""
    return _between(span(given.expected), span(given.low), span(given.high))


def moneys(given: Range, currency: str) -> str:
    return _between(money(given.expected, currency), money(given.low, ""), money(given.high, ""))


def _between(expected: str, low: str, high: str) -> str:
    return expected if low == high else f"{expected} ({low} to {high})"
