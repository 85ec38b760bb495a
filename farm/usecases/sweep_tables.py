"""Rows that nobody asks for any more go, in bits: old events, failed tries, ended renderer sessions.

Outcomes are not among them: they go with their campaign, when its team's retention time is over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from farm.usecases.collect_garbage import Begin

BIT = 5_000
"""Rows of each table in one transaction."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is kept."""

    events: timedelta
    attempts: timedelta
    sessions: timedelta = timedelta(days=7)


def sweep_tables(begin: Begin, keep: Keep) -> Iterator[Mapping[str, int]]:
    """Rows deleted by table, bit by bit, until each table is through."""
    while True:
        with begin() as tx:
            swept = tx.sweep(events=keep.events, attempts=keep.attempts, sessions=keep.sessions, limit=BIT)
        if not any(swept.values()):
            return
        yield swept
