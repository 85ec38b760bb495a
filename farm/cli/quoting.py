"""A quote in plain words, and what became of it."""

from datetime import datetime

from farm.cli.words import clock, money, moneys, span, spans
from farm.core.reuse import EXACT
from farm.core.words import many
from farm.sdk import ENDED
from schemas.campaign import CampaignDetail
from schemas.quote import Quote

ALL = 0.995
"""A share from which on there is no rest to speak of."""


_TYPES = {"": "of no known type", "*": "of any type"}


def quote_line(quote: Quote) -> str:
    """All of it in one line."""
    parts = [_renders(quote), f"{spans(quote.gpu_seconds)} of GPU time"]
    if quote.money is not None:
        parts.append(moneys(quote.money, quote.currency))
    parts.append(_finish(quote))
    return ", ".join(parts) + "."


def quote_facts(quote: Quote) -> list[tuple[str, object]]:
    gpus = ", ".join(f"{_TYPES.get(name, name)} {share:.0%}" for name, share in quote.gpus.items())
    return [
        ("renders", _renders(quote)),
        ("GPU time", spans(quote.gpu_seconds)),
        ("money", "no GPU has a price" if quote.money is None else moneys(quote.money, quote.currency)),
        ("finished", _finish(quote)),
        ("time", spans(quote.wait_seconds) if quote.finish_at else "unknown"),
        ("GPUs", gpus or "none"),
        ("rests on", _rests(quote.measured)),
    ]


def spent_facts(found: CampaignDetail) -> list[tuple[str, object]]:
    """What it has cost; once it has ended, beside what was foretold."""
    quote, spent = found.quote, found.spent
    currency = "" if quote is None else quote.currency
    facts: list[tuple[str, object]] = [("GPU time", span(spent.gpu_seconds)), ("money", money(spent.money, currency))]
    if found.budget is not None:
        facts.append(("budget", _budget(found, currency)))
    if found.state not in ENDED or found.finished_at is None:
        return facts if quote is None else [*facts, ("quoted", quote_line(quote))]
    took = (datetime.fromisoformat(found.finished_at) - datetime.fromisoformat(found.created_at)).total_seconds()
    facts.append(("time", span(took)))
    return facts if quote is None else _beside(dict(facts), found, quote)


def _beside(facts: dict[str, object], found: CampaignDetail, quote: Quote) -> list[tuple[str, object]]:
    """Quoted and actual, on one line each."""
    counts = found.counts
    rendered = counts.succeeded + counts.failed - counts.reused
    quoted: dict[str, str] = {"GPU time": spans(quote.gpu_seconds), "rendered": f"{quote.renders - quote.reused:,}"}
    if quote.money is not None:
        quoted["money"] = moneys(quote.money, quote.currency)
    if quote.finish_at is not None:
        quoted["time"] = spans(quote.wait_seconds)
    lines = {"rendered": f"{rendered:,}", **facts}
    return [(name, f"{value}; quoted {quoted[name]}" if name in quoted else value) for name, value in lines.items()]


def _budget(found: CampaignDetail, currency: str) -> str:
    budget = found.budget
    limits = [] if budget is None or budget.money is None else [money(budget.money, currency)]
    if budget is not None and budget.gpu_seconds is not None:
        limits.append(f"{span(budget.gpu_seconds)} of GPU time")
    return " and ".join(limits) or "none"


def _renders(quote: Quote) -> str:
    if not quote.reused:
        return many(quote.renders, "render")
    least = "at least " if EXACT < quote.renders != quote.reused else ""
    return f"{many(quote.renders, 'render')}, {least}{quote.reused:,} of them rendered before"


def _finish(quote: Quote) -> str:
    if quote.finish_at is None:
        return "finish time unknown: no renderer may render it"
    low, expected, high = (clock(moment) for moment in quote.finish_at)
    return f"done at {expected}" + ("" if low == high else f" ({low} to {high})")


def _rests(measured: float) -> str:
    if measured >= ALL:
        return "measured costs"
    return (
        f"{measured:.0%} is measured, the rest a guess" if measured > 1 - ALL else "a guess: nothing was measured yet"
    )
