"""Leases end: with their renderer, or because the renderer never got the shard."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

from farm.core.ids import Ordinal, RendererName
from farm.core.plan import Reclaim, Release
from farm.core.retry import after_lost
from farm.core.settle import Child, Ends, FailedTry, NewOutcome, Settled, ShardRow, avoiding
from farm.core.shard import PATIENCE, Bisect, Poisoned, Requeue, after_lost_lease, halves, ordinals_of, size_of
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
    ends: Ends = field(default_factory=Ends)  # of renders that nobody will try again


def reclaim_shards(tx: SchedulerTx, decisions: Sequence[Reclaim | Release]) -> Reclaimed:
    """A lease that was settled or taken over since the plan was made is left alone."""
    counts = Reclaimed()
    shards = tx.lock(sorted(decision.held.shard for decision in decisions))
    for decision in decisions:
        shard = shards.get(decision.held.shard)
        if shard is None or shard.state != "leased" or shard.fence != decision.held.fence:
            continue
        if isinstance(decision, Release):
            tx.put_back(shard, lost=shard.lost, delay=timedelta(0))
            counts.released += 1
        elif not decision.blamed:
            tx.put_back(shard, lost=shard.lost, delay=timedelta(0))
            counts.expired += 1
        else:
            _lose(tx, shard, decision.name, counts)
    return counts


def _lose(tx: SchedulerTx, shard: ShardRow, name: RendererName | None, counts: Reclaimed) -> None:
    """It waits a little, longer with each loss, and goes to another renderer if there is one."""
    counts.expired += 1
    lost = shard.lost + 1
    match after_lost_lease(lost=lost, width=size_of(shard.todo)):
        case Requeue():
            tx.put_back(shard, lost=lost, delay=after_lost(lost), avoid=name)
        case Bisect():
            counts.bisected += 1
            tx.write([_bisected(shard, lost, name, tx.now() + after_lost(lost))])
        case Poisoned():
            counts.poisoned += 1
            given_up = _poisoned(tx, shard, lost, name)
            counts.ends.add(given_up)
            tx.write([given_up])
        case other:
            assert_never(other)


def _bisected(shard: ShardRow, lost: int, name: RendererName | None, ready_at: datetime) -> Settled:
    """Both halves wait; the loss is on record once, of the whole shard."""
    avoid = shard.avoid if name is None else avoiding(shard.avoid, name)
    state = "cancelled" if shard.cancelling else "ready"
    children = tuple(
        # One that stands alone now has its own patience before it: half of what was lost was lost for its neighbour.
        Child(
            part,
            ready_at,
            shard.tries,
            lost if size_of(part) > 1 else min(lost, PATIENCE),
            state,
            shard.depot_tries,
            avoid,
        )
        for part in halves(shard.todo)
    )
    failure = Failure(
        kind=FailureKind.RENDERER_DIED, code="renderer_died", detail="The renderer ended while it had the shard."
    )
    return Settled(shard, todo=(), children=children, failed_tries=(FailedTry(shard.id, None, failure, name),))


def _poisoned(tx: SchedulerTx, shard: ShardRow, lost: int, name: RendererName | None) -> Settled:
    failure = Failure(
        kind=FailureKind.RENDERER_DIED,
        code="renderer_died",
        detail=f"{lost} renderers in a row ended while they had this render.",
    )
    tries = shard.tries + shard.depot_tries + 1
    fingerprints = {row.ordinal: row.fingerprint for row in rows_of(shard, tx.resolved(shard.campaign))}
    return Settled(
        shard,
        todo=(),
        outcomes=tuple(
            NewOutcome(shard.team, shard.campaign, Ordinal(o), fingerprints[o], tries, failure=failure)
            for o in ordinals_of(shard.todo)
        ),
        failed_tries=tuple(FailedTry(shard.id, Ordinal(o), failure, name) for o in ordinals_of(shard.todo)),
    )
