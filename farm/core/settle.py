"""What a report changes: the decision, as values. The store writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from farm.core.ids import CampaignId, Fence, Ordinal, ShardId, TeamId
from farm.core.lease import accepts
from farm.core.retry import GiveUp, RetryAt, after_failure
from farm.core.shard import Ranges, contains, minus, ranges_of, size_of
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


@dataclass(frozen=True, slots=True)
class NewOutcome:
    """An outcome about to be written. A picture is new (``picture``) or known already (``picture_id``)."""

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


@dataclass(frozen=True, slots=True)
class FailedTry:
    shard: ShardId
    ordinal: Ordinal | None
    failure: Failure


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of one shard."""

    shard: ShardRow
    todo: Ranges
    outcomes: tuple[NewOutcome, ...] = ()
    children: tuple[Child, ...] = ()
    failed_tries: tuple[FailedTry, ...] = ()

    @property
    def state(self) -> str:
        return self.shard.state if self.todo else "done"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The report came under an old fence. What it published is nobody's."""

    keys: tuple[str, ...]


def settle(
    shard: ShardRow | None,
    *,
    fence: str,
    rows: Sequence[RowReport],
    now: datetime,
    renderer: str,
    numerics: str,
) -> Settled | Refusal:
    """Decides over one report. Rows that are not in the shard's todo any more were settled before: no harm done."""
    if shard is None or not accepts(fence=fence, current=shard.fence, state=shard.state):
        return Refusal(tuple(row.picture.key for row in rows if row.picture is not None))
    outcomes: list[NewOutcome] = []
    again: dict[tuple[datetime | None, int], list[int]] = {}
    failed: list[FailedTry] = []
    for row in {row.ordinal: row for row in rows}.values():
        if not contains(shard.todo, row.ordinal):
            continue
        match row.tried:
            case Tried.HANDED_BACK:
                again.setdefault((None, shard.tries), []).append(row.ordinal)
            case Tried.SUCCEEDED:
                outcomes.append(_outcome(shard, row, renderer, numerics, tries=shard.tries + 1))
            case Tried.FAILED:
                failure = row.failure or _UNEXPLAINED
                failed.append(FailedTry(shard.id, Ordinal(row.ordinal), failure))
                match after_failure(failure.kind, tries=shard.tries + 1, now=now):
                    case RetryAt(at):
                        again.setdefault((at, shard.tries + 1), []).append(row.ordinal)
                    case GiveUp():
                        outcomes.append(_outcome(shard, row, renderer, numerics, tries=shard.tries + 1))
            case _:
                assert_never(row.tried)
    moved = [ordinal for ordinals in again.values() for ordinal in ordinals]
    return Settled(
        shard,
        todo=minus(shard.todo, [*moved, *(o.ordinal for o in outcomes)]),
        outcomes=tuple(outcomes),
        children=tuple(
            Child(ranges_of(ordinals), at, tries, shard.lost, "cancelled" if shard.cancelling else "ready")
            for (at, tries), ordinals in again.items()
        ),
        failed_tries=tuple(failed),
    )


_UNEXPLAINED = Failure(kind=FailureKind.ENGINE, code="engine_failed", detail="The renderer gave no reason.")


def _outcome(shard: ShardRow, row: RowReport, renderer: str, numerics: str, *, tries: int) -> NewOutcome:
    return NewOutcome(
        shard.team,
        shard.campaign,
        Ordinal(row.ordinal),
        row.fingerprint,
        tries,
        gpu_seconds=row.seconds.gpu,
        picture=row.picture if row.tried is Tried.SUCCEEDED else None,
        failure=None if row.tried is Tried.SUCCEEDED else row.failure or _UNEXPLAINED,
        renderer=renderer,
        numerics=numerics,
    )


def reuse(shard: ShardRow, known: Sequence[tuple[int, str, int]]) -> Settled:
    """*known* is (ordinal, fingerprint, picture id) of renders whose picture the team has already."""
    outcomes = tuple(
        NewOutcome(shard.team, shard.campaign, Ordinal(ordinal), fingerprint, 0, picture_id=picture)
        for ordinal, fingerprint, picture in known
    )
    return Settled(shard, todo=minus(shard.todo, [ordinal for ordinal, _, _ in known]), outcomes=outcomes)


def books_balance(before: Ranges, after: Settled) -> bool:
    """Every ordinal that was to do has an outcome, waits in a child, or is still to do."""
    parts = size_of(after.todo) + len(after.outcomes) + sum(size_of(child.todo) for child in after.children)
    return size_of(before) == parts
