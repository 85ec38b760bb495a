"""What is forgotten in the store's twin: tombstones, retention, old rows."""

import heapq
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from farm.core.garbage import folder_of
from farm.core.ids import CampaignId, Session, TeamId
from farm.core.records import Tombstone
from farm.store.memory_state import State
from farm.store.memory_table import Table

K = TypeVar("K")
R = TypeVar("R")


def doomed(state: State, keys: Sequence[str], reason: str) -> None:
    for key in keys:
        if key not in state.tombstones.rows:
            state.tombstones.put(key, Tombstone(key, reason, state.began))


def tombstones(state: State, older: timedelta, limit: int) -> list[Tombstone]:
    before = state.began - older
    found = [row for row in state.tombstones.rows.values() if row.found_at <= before]
    return sorted(found, key=lambda row: (row.found_at, row.key))[:limit]


def spare(state: State, keys: Sequence[str]) -> None:
    for key in keys:
        if key in state.tombstones.rows:
            state.tombstones.drop(key)


def prunable(state: State, limit: int) -> list[tuple[TeamId, CampaignId]]:
    now, found = state.began, []
    for campaign in state.campaigns.rows.values():
        row, days = campaign.row, state.team(campaign.row.team).row.retention_days
        if days is None or row.finished_at is None or campaign.pruned_at is not None:
            continue
        if row.finished_at + timedelta(days=days) <= now:
            found.append((row.finished_at, row.id, row.team))
    return [(team, campaign) for _, campaign, team in sorted(found)[:limit]]


def prune(state: State, campaign: CampaignId, limit: int) -> tuple[int, list[str]]:
    rows = state.outcomes.by_campaign.get(campaign, {})
    gone = [rows[ordinal] for ordinal in sorted(rows)[:limit]]
    for outcome in gone:
        state.outcomes.drop((campaign, outcome.ordinal))
    pictures = {outcome.picture for outcome in gone if outcome.picture is not None}
    keys: list[str] = []
    for picture in pictures - state.outcomes.uses.keys():
        published = state.pictures.rows[picture].published
        keys += folder_of(published.key, published.renditions)
        state.pictures.drop(picture)
    found = state.campaigns.rows.get(campaign)
    if found is not None and found.row.finished_at is not None and not state.outcomes.by_campaign.get(campaign):
        state.campaigns.put(campaign, found._replace(pruned_at=state.clock()))
    return len(gone), sorted(keys)


def sweep(state: State, *, events: timedelta, attempts: timedelta, sessions: timedelta, limit: int) -> dict[str, int]:
    now = state.began
    first = heapq.nsmallest(limit, state.attempts.rows)  # by id, which is their order in time
    return {
        "events": _drop(state.events, _old_events(state, now - events, limit)),
        "attempts": _drop(state.attempts, [key for key in first if state.attempts.rows[key].at <= now - attempts]),
        "sessions": _drop(state.sessions, _old_sessions(state, now - sessions, limit)),
    }


def _old_events(state: State, before: datetime, limit: int) -> list[tuple[TeamId, int]]:
    found = []
    for team in state.teams.rows:
        mine = state.events.after(team, 0, state.team(team).event_id)
        found += [(row.at, (team, row.id)) for row in islice(mine, limit) if row.at <= before]
    return [key for _, key in sorted(found)[:limit]]


def _old_sessions(state: State, before: datetime, limit: int) -> list[Session]:
    """A lease that the session left behind is still to be reclaimed."""
    ended = [(row.ended_at, key) for key, row in state.sessions.rows.items() if row.ended_at is not None]
    old = [key for at, key in sorted(ended) if at <= before and key not in state.shards.by_session]
    return old[:limit]


def _drop(table: Table[K, R], keys: Sequence[K]) -> int:
    for key in keys:
        table.drop(key)
    return len(keys)
