"""Leases end: with their renderer, or because the renderer never got the shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from farm.core.ids import Ordinal
from farm.core.plan import Reclaim, Release
from farm.core.settle import Child, FailedTry, NewOutcome, Settled, ShardRow
from farm.core.shard import Bisect, Poisoned, Requeue, after_lost_lease, halves, ordinals_of, size_of
from farm.core.work import rows_of
from farm.ports import SchedulerTx
from schemas.report import Failure, FailureKind


@dataclass(slots=True)
class Reclaimed:
    """How many shards went which way."""

    expired: int = 0
    released: int = 0
    bisected: int = 0
    poisoned: int = 0


def reclaim_shards(tx: SchedulerTx, decisions: Sequence[Reclaim | Release]) -> Reclaimed:
    """A lease that was settled or taken over since the plan was made is left alone."""
    counts = Reclaimed()
    shards = tx.lock(sorted(decision.held.shard for decision in decisions))
    for decision in decisions:
        shard = shards.get(decision.held.shard)
        if shard is None or shard.state != "leased" or shard.fence != decision.held.fence:
            continue
        if isinstance(decision, Release):
            tx.put_back(shard, lost=shard.lost)
            counts.released += 1
        else:
            _lose(tx, shard, counts)
    return counts


def _lose(tx: SchedulerTx, shard: ShardRow, counts: Reclaimed) -> None:
    counts.expired += 1
    lost = shard.lost + 1
    match after_lost_lease(lost=lost, width=size_of(shard.todo)):
        case Requeue():
            tx.put_back(shard, lost=lost)
        case Bisect():
            counts.bisected += 1
            state = "cancelled" if shard.cancelling else "ready"
            children = tuple(Child(part, None, shard.tries, lost, state) for part in halves(shard.todo))
            tx.write([Settled(shard, todo=(), children=children)])
        case Poisoned():
            counts.poisoned += 1
            tx.write([_poisoned(tx, shard, lost)])
        case other:
            assert_never(other)


def _poisoned(tx: SchedulerTx, shard: ShardRow, lost: int) -> Settled:
    failure = Failure(
        kind=FailureKind.RENDERER_DIED,
        code="renderer_died",
        detail=f"{lost} renderers in a row ended while they had this render.",
    )
    fingerprints = {row.ordinal: row.fingerprint for row in rows_of(shard, tx.resolved(shard.campaign))}
    return Settled(
        shard,
        todo=(),
        outcomes=tuple(
            NewOutcome(shard.team, shard.campaign, Ordinal(o), fingerprints[o], shard.tries + 1, failure=failure)
            for o in ordinals_of(shard.todo)
        ),
        failed_tries=tuple(FailedTry(shard.id, Ordinal(o), failure) for o in ordinals_of(shard.todo)),
    )
