"""What stands against renderers, in the store's twin."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from farm.core.evidence import OUTAGE
from farm.core.ids import RendererName
from farm.core.records import Accusation, Quarantined
from farm.store.memory_rows import Attempt, Health
from farm.store.memory_state import State
from schemas.report import FailureKind

SILENT = frozenset({FailureKind.BAD_SOURCE, FailureKind.BAD_WEIGHTS, FailureKind.BAD_PICTURE})
"""Kinds of failure that say nothing of the renderer."""

_BESIDE = SILENT | {FailureKind.OUT_OF_VRAM}
"""Kinds that do not accuse one: a GPU that is too small is not broken."""

_MOST_TRIES = 2000

_NEVER = datetime.min.replace(tzinfo=UTC)


def quarantined(state: State) -> list[Quarantined]:
    found = []
    for name in sorted(state.health.rows):
        row = state.health.rows[name]
        if row.quarantined_at is not None:
            until = row.until or row.quarantined_at
            found.append(Quarantined(name, row.why, row.quarantined_at, until, row.probes, row.by_hand))
    return found


def accusations(state: State, window: timedelta) -> list[Accusation]:
    tries = _newest(state, state.began - window)
    reports = {(attempt.renderer, attempt.at) for attempt in tries if attempt.kind == FailureKind.DEPOT}
    storeless = {report for report in reports if _of_store(state, *report)}
    by_name: dict[RendererName, list[Attempt]] = {}
    for attempt in tries:
        of_store = attempt.kind == FailureKind.DEPOT and (attempt.renderer, attempt.at) in storeless
        if attempt.renderer is not None and not of_store:
            by_name.setdefault(attempt.renderer, []).append(attempt)
    found = [_accusation(state, name, failed) for name, failed in by_name.items()]
    return sorted(found, key=lambda accusation: (accusation.last_at, accusation.name))


def _newest(state: State, since: datetime) -> list[Attempt]:
    """Tries that may accuse somebody, the newest first."""
    standing = (attempt for name in state.attempts.by_renderer for attempt in _standing(state, name, since))
    return heapq.nlargest(_MOST_TRIES, (attempt for attempt in standing if attempt.kind not in _BESIDE))


def _of_store(state: State, name: RendererName | None, at: datetime) -> bool:
    """Whether another renderer could not reach the object store either, at about that time."""
    others = (ids for other, ids in state.attempts.by_renderer.items() if other != name)
    return any(_had_outage(state, ids, at) for ids in others)


def _had_outage(state: State, ids: Sequence[int], at: datetime) -> bool:
    rows = state.attempts.rows
    first = bisect_left(ids, at - OUTAGE, key=lambda number: rows[number].at)
    near = takewhile(lambda row: row.at <= at + OUTAGE, (rows[number] for number in ids[first:]))
    return any(row.kind == FailureKind.DEPOT for row in near)


def _standing(state: State, name: RendererName, since: datetime) -> Iterator[Attempt]:
    """What failed there after *since* and its last success and is not forgiven, newest first."""
    health = state.health.rows.get(name)
    floor = max(since, (health and health.last_success) or _NEVER)
    for number in reversed(state.attempts.by_renderer.get(name, ())):
        attempt = state.attempts.rows[number]
        if attempt.at <= floor:
            return
        if attempt.kind not in SILENT:
            yield attempt


def _accusation(state: State, name: RendererName, failed: Sequence[Attempt]) -> Accusation:
    renders: dict[tuple[int, int, bool], Attempt] = {}
    for attempt in failed:
        renders.setdefault(_render(attempt), attempt)  # the newest of each
    return Accusation(
        name=name,
        failed=len(renders),
        cleared=sum(_cleared(state, attempt) for attempt in renders.values()),
        shared=sum(_shared(state, attempt) for attempt in renders.values()),
        campaigns=len({campaign for campaign, _, _ in renders}),
        last_code=failed[0].code,
        last_at=failed[0].at,
    )


def _render(attempt: Attempt) -> tuple[int, int, bool]:
    if attempt.ordinal is None:
        return (attempt.campaign, attempt.shard, True)
    return (attempt.campaign, attempt.ordinal, False)


def _cleared(state: State, attempt: Attempt) -> bool:
    if attempt.ordinal is None:  # somebody took it after that, rendered something of it, and it is through
        shard = state.shards.rows[attempt.shard]
        return shard.state == "done" and shard.succeeded > 0 and shard.fence != attempt.fence
    outcome = state.outcomes.rows.get((attempt.campaign, attempt.ordinal))
    return outcome is not None and outcome.picture is not None and outcome.renderer != attempt.renderer


def _shared(state: State, attempt: Attempt) -> bool:
    if attempt.ordinal is None:
        same = state.attempts.by_shard.get(attempt.shard, ())
    else:
        same = state.attempts.by_render.get((attempt.campaign, attempt.ordinal), ())
    others = (state.attempts.rows[number] for number in same)
    blaming = (other for other in others if not other.forgiven and other.kind not in _BESIDE)
    return any(other.renderer not in (None, attempt.renderer) for other in blaming)


def note_success(state: State, names: Sequence[RendererName]) -> None:
    for name in names:
        health = state.health.rows.get(name, Health(name))
        state.health.put(name, health._replace(last_success=state.began))


def quarantine(state: State, name: RendererName, why: str, lasts: timedelta) -> None:
    health, now = state.health.rows.get(name, Health(name)), state.began
    if not health.by_hand:
        probes = 0 if health.quarantined_at is None else health.probes + 1
        since = health.quarantined_at or now
        state.health.put(name, health._replace(quarantined_at=since, until=now + lasts, why=why, probes=probes))
    forgive(state, name)


def forgive(state: State, name: RendererName) -> None:
    """What failed there since its last success does not count against the renders."""
    forgiven = list(_standing(state, name, _NEVER))
    for attempt in forgiven:
        state.attempts.put(attempt.id, attempt._replace(forgiven=True))
    for campaign in sorted({attempt.campaign for attempt in forgiven}):
        for shard in state.shards.of(campaign, "ready", "leased"):
            if name in shard.avoid:
                avoid = tuple(other for other in shard.avoid if other != name)
                state.shards.put(shard.id, shard._replace(avoid=avoid, tries=max(0, shard.tries - 1)))


def release(state: State, name: RendererName) -> None:
    health = state.health.rows.get(name)
    if health is not None and not health.by_hand:
        state.health.put(name, Health(name, last_success=health.last_success))
