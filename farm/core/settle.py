"""What a report changes: the decision, as values. The store writes it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, assert_never

from farm.core.ids import CampaignId, Fence, Ordinal, RendererName, ShardId, TeamId
from farm.core.lease import accepts
from farm.core.retry import GiveUp, RetryAt, after_failure
from farm.core.shard import Ranges, contains, minus, ranges_of, size_of
from schemas.order import Lane
from schemas.report import Failure, FailureKind, Published, RowReport, Tried


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A shard as the database has it, locked."""

    id: ShardId
    team: TeamId
    campaign: CampaignId
    engine_key: str
    checkpoint: str
    priority: int
    state: str
    fence: Fence | None
    todo: Ranges
    tries: int
    lost: int
    seconds: float
    cancelling: bool  # its campaign is
    depot_tries: int = 0  # tries that failed because the store did not answer: a budget of their own
    avoid: tuple[str, ...] = ()  # renderers on which its renders failed
    lane: Lane = Lane.BULK


class NewOutcome(NamedTuple):
    """An outcome about to be written. A picture is new (``picture``) or known already (``picture_id``).

    A named tuple: one is made of every render, in a third of the time that a frozen dataclass takes.
    """

    team: TeamId
    campaign: CampaignId
    ordinal: Ordinal
    fingerprint: str
    tries: int
    gpu_seconds: float = 0.0
    picture: Published | None = None
    picture_id: int | None = None
    failure: Failure | None = None
    renderer: str | None = None
    numerics: str | None = None
    money: float = 0.0

    @property
    def succeeded(self) -> bool:
        return self.failure is None


@dataclass(frozen=True, slots=True)
class Child:
    """Ordinals that leave their shard and wait in one of their own."""

    todo: Ranges
    ready_at: datetime | None  # None: now
    tries: int
    lost: int
    state: str  # ready, or cancelled
    depot_tries: int = 0
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedTry:
    shard: ShardId
    ordinal: Ordinal | None
    failure: Failure
    renderer: RendererName | None = None  # who reported it, or was lost with it; None: whoever holds the lease


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of one shard."""

    shard: ShardRow
    todo: Ranges
    outcomes: tuple[NewOutcome, ...] = ()
    children: tuple[Child, ...] = ()
    failed_tries: tuple[FailedTry, ...] = ()
    gpu_seconds: float = 0.0  # of every row, whatever became of it
    money: float = 0.0

    @property
    def state(self) -> str:
        return self.shard.state if self.todo else "done"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The report came under an old fence. What it published is nobody's."""

    pictures: tuple[Published, ...]


@dataclass(frozen=True, slots=True, order=True)
class _Again:
    """What renders that are tried again have in common: those that agree in all of it wait in one child."""

    ready_at: datetime | None
    tries: int
    depot_tries: int
    avoid: tuple[str, ...]


def settle(
    shard: ShardRow | None,
    *,
    fence: str,
    rows: Sequence[RowReport],
    now: datetime | None,
    renderer: str,
    numerics: str,
    per_hour: float,
) -> Settled | Refusal:
    """Decides over one report. Rows that are not in the shard's todo any more were settled before: no harm done.

    *now* may be missing when no row has failed: only what is tried again needs it. *per_hour* is the price of the
    renderer's GPU. Whoever used it pays, whether a picture came of it or not.
    """
    if shard is None or not accepts(fence=fence, current=shard.fence, state=shard.state):
        return Refusal(tuple(row.picture for row in rows if row.picture is not None))
    outcomes: list[NewOutcome] = []
    again: dict[_Again, list[int]] = {}
    failed: list[FailedTry] = []
    gpu_seconds = 0.0
    for row in {row.ordinal: row for row in rows if contains(shard.todo, row.ordinal)}.values():
        used = row.seconds.gpu
        gpu_seconds += used  # what was handed back has some when it was stopped
        if row.tried is Tried.FAILED:
            failed.append(_failed(shard, row, renderer))
        if (child := _after(row, shard, now, renderer)) is None:
            outcomes.append(_outcome(shard, row, renderer, numerics, used, used / 3600 * per_hour))
        else:
            again.setdefault(child, []).append(row.ordinal)
    moved = [ordinal for ordinals in again.values() for ordinal in ordinals]
    return Settled(
        shard,
        todo=minus(shard.todo, [*moved, *(o.ordinal for o in outcomes)]),
        outcomes=tuple(outcomes),
        children=tuple(_child(shard, child, ordinals) for child, ordinals in again.items()),
        failed_tries=tuple(failed),
        gpu_seconds=gpu_seconds,
        money=gpu_seconds / 3600 * per_hour,
    )


def _after(row: RowReport, shard: ShardRow, now: datetime | None, renderer: str) -> _Again | None:
    """How the render is tried again; None when this was its last try."""
    match row.tried:
        case Tried.SUCCEEDED:
            return None
        case Tried.HANDED_BACK:
            return _Again(None, shard.tries, shard.depot_tries, shard.avoid)
        case Tried.FAILED:
            return _after_failed(row.failure or _UNEXPLAINED, shard, now, renderer)
        case _:
            assert_never(row.tried)


def _failed(shard: ShardRow, row: RowReport, renderer: str) -> FailedTry:
    return FailedTry(shard.id, Ordinal(row.ordinal), row.failure or _UNEXPLAINED, RendererName(renderer))


def _after_failed(failure: Failure, shard: ShardRow, now: datetime | None, renderer: str) -> _Again | None:
    if now is None:
        raise ValueError("A row has failed: what time is it?")
    of_depot = failure.kind is FailureKind.DEPOT  # which says nothing of the render, nor of the renderer
    tries = (shard.depot_tries if of_depot else shard.tries) + 1
    match after_failure(failure.kind, tries=tries, now=now):
        case RetryAt(at) if of_depot:
            return _Again(at, shard.tries, tries, shard.avoid)
        case RetryAt(at):
            return _Again(at, tries, shard.depot_tries, avoiding(shard.avoid, renderer))
        case GiveUp():
            return None


def avoiding(avoid: tuple[str, ...], renderer: str) -> tuple[str, ...]:
    return avoid if renderer in avoid else (*avoid, renderer)


def _child(shard: ShardRow, again: _Again, ordinals: Sequence[int]) -> Child:
    return Child(
        todo=ranges_of(ordinals),
        ready_at=again.ready_at,
        tries=again.tries,
        lost=shard.lost,
        state="cancelled" if shard.cancelling else "ready",
        depot_tries=again.depot_tries,
        avoid=again.avoid,
    )


_UNEXPLAINED = Failure(kind=FailureKind.ENGINE, code="engine_failed", detail="The renderer gave no reason.")


def _outcome(
    shard: ShardRow, row: RowReport, renderer: str, numerics: str, gpu_seconds: float, money: float
) -> NewOutcome:
    succeeded = row.tried is Tried.SUCCEEDED
    return NewOutcome(
        shard.team,
        shard.campaign,
        Ordinal(row.ordinal),
        row.fingerprint,
        tries=shard.tries + shard.depot_tries + 1,
        gpu_seconds=gpu_seconds,
        picture=row.picture if succeeded else None,
        failure=None if succeeded else row.failure or _UNEXPLAINED,
        renderer=renderer,
        numerics=row.numerics or numerics,
        money=money,
    )


def reuse(shard: ShardRow, known: Sequence[tuple[int, str, int]]) -> Settled:
    """*known* is (ordinal, fingerprint, picture id) of renders whose picture the team has already."""
    outcomes = tuple(
        NewOutcome(shard.team, shard.campaign, Ordinal(ordinal), fingerprint, 0, picture_id=picture)
        for ordinal, fingerprint, picture in known
    )
    return Settled(shard, todo=minus(shard.todo, [ordinal for ordinal, _, _ in known]), outcomes=outcomes)


@dataclass(slots=True)
class Ends:
    """Outcomes counted, for metrics: by team and what became of the render, and what was given up by why."""

    by_team: Counter[tuple[TeamId, str]] = field(default_factory=Counter)  # succeeded, failed, reused
    given_up: Counter[FailureKind] = field(default_factory=Counter)

    def add(self, settled: Settled) -> None:
        for outcome in settled.outcomes:
            if outcome.failure is not None:
                self.by_team[outcome.team, "failed"] += 1
                self.given_up[outcome.failure.kind] += 1
            else:
                self.by_team[outcome.team, "succeeded" if outcome.picture_id is None else "reused"] += 1

    @property
    def teams(self) -> frozenset[TeamId]:
        return frozenset(team for team, _ in self.by_team)


def books_balance(before: Ranges, after: Settled) -> bool:
    """Every ordinal that was to do has an outcome, waits in a child, or is still to do."""
    parts = size_of(after.todo) + len(after.outcomes) + sum(size_of(child.todo) for child in after.children)
    return size_of(before) == parts
