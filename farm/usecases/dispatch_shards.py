"""Shards become orders: leased, looked up, written out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Epoch, Ordinal, RendererName, ShardId, TeamId
from farm.core.keys import provenance_key, rendition_key, source_key, thumbnail_key
from farm.core.placement import Placed
from farm.core.records import CheckpointRow, LoraRow
from farm.core.settle import Ends, FailedTry, NewOutcome, Settled, ShardRow, reuse
from farm.core.shard import minus
from farm.core.work import Row, rows_of
from farm.ports import Depot, SchedulerTx
from schemas.campaign import ResolvedCampaign
from schemas.order import CheckpointRef, FileRef, LoraRef, OrderRow, PutLinks, ShardOrder
from schemas.recipe import EngineKey
from schemas.report import Failure, FailureKind


@dataclass(frozen=True, slots=True)
class Work:
    """A shard that is leased and of which something must be rendered."""

    name: RendererName
    shard: ShardRow
    engine: EngineKey
    rows: Sequence[Row]
    checkpoint: CheckpointRow
    loras: Sequence[LoraRow]


@dataclass(slots=True)
class Taken:
    work: list[Work] = field(default_factory=list)
    ends: Ends = field(default_factory=Ends)  # of what was not ordered


def take_shards(
    tx: SchedulerTx, placed: Sequence[Placed], resolved_of: Callable[[SchedulerTx, CampaignId], ResolvedCampaign]
) -> Taken:
    """Leases the shards. What the team has rendered before is settled here and now, and not ordered again."""
    taken = Taken()
    settled: list[Settled] = []
    for shard, place in tx.take(placed):
        rows = rows_of(shard, resolved_of(tx, shard.campaign))
        found = _known(tx, shard, rows)
        done = {outcome.ordinal for outcome in found.outcomes}
        rows = [row for row in rows if row.ordinal not in done]
        if rows:
            work = _work(tx, place.name, shard, rows)
            if isinstance(work, Failure):
                found = _without_weights(found, rows, work)
            else:
                taken.work.append(work)
        if found.outcomes:
            settled.append(found)
            taken.ends.add(found)
    if settled:
        tx.write(settled)
    return taken


def look_up_shards(
    tx: SchedulerTx, shards: Sequence[ShardId], resolved_of: Callable[[SchedulerTx, CampaignId], ResolvedCampaign]
) -> Ends:
    """Settles what the team has rendered before, of shards that wait for a renderer."""
    ends = Ends()
    waiting = [shard for shard in tx.lock(sorted(shards)).values() if shard.state == "ready" and not shard.cancelling]
    found = [_known(tx, shard, rows_of(shard, resolved_of(tx, shard.campaign))) for shard in waiting]
    settled = [one for one in found if one.outcomes]
    for one in settled:
        ends.add(one)
    if settled:
        tx.write(settled)
    return ends


def _known(tx: SchedulerTx, shard: ShardRow, rows: Sequence[Row]) -> Settled:
    known = tx.pictures(shard.team, [row.fingerprint for row in rows])
    return reuse(shard, [(r.ordinal, r.fingerprint, known[r.fingerprint]) for r in rows if r.fingerprint in known])


def _work(tx: SchedulerTx, name: RendererName, shard: ShardRow, rows: Sequence[Row]) -> Work | Failure:
    engine = rows[0].recipe.engine_key
    digests = [lora.digest for lora in engine.loras]
    loras = tx.loras(shard.team, digests)
    missing = next((lora.name for lora in engine.loras if lora.digest not in loras), None)
    if missing is not None:
        return _gone(f"The LoRA {missing!r} is not there any more.")
    try:
        checkpoint = tx.checkpoint(shard.team, engine.checkpoint)
    except NotFound as error:
        return _gone(error.detail)
    return Work(name, shard, engine, rows, checkpoint, [loras[digest] for digest in digests])


def _gone(detail: str) -> Failure:
    return Failure(kind=FailureKind.BAD_WEIGHTS, code="weights_missing", detail=detail)


def _without_weights(found: Settled, rows: Sequence[Row], failure: Failure) -> Settled:
    shard = found.shard
    tries = shard.tries + shard.depot_tries + 1
    failed = tuple(
        NewOutcome(shard.team, shard.campaign, Ordinal(r.ordinal), r.fingerprint, tries, failure=failure) for r in rows
    )
    return Settled(
        shard,
        todo=minus(found.todo, [row.ordinal for row in rows]),
        outcomes=(*found.outcomes, *failed),
        failed_tries=tuple(FailedTry(shard.id, Ordinal(row.ordinal), failure) for row in rows),
    )


def write_order(work: Work, *, epoch: Epoch, number: int = 0, depot: Depot, ttl: timedelta, token: str) -> ShardOrder:
    """An order that needs nothing else. *token* is random: the keys it leads to are written once, by this attempt."""
    shard = work.shard
    files = tuple(
        FileRef(
            path=file.path,
            url=depot.link_get(work.checkpoint.prefix + file.path, ttl),
            sha256=file.sha256,
            bytes=file.bytes,
        )
        for file in work.checkpoint.files
    )
    pictures = {picture for row in work.rows for picture in row.recipe.pictures}
    return ShardOrder(
        shard=shard.id,
        fence=shard.fence or "",
        epoch=epoch,
        number=number,
        campaign=shard.campaign,
        lane=shard.lane,
        engine=work.engine,
        engine_digest=shard.engine_key,
        checkpoint=CheckpointRef(name=work.checkpoint.name, digest=work.checkpoint.digest, files=files),
        loras=tuple(
            LoraRef(name=lora.name, digest=lora.digest, url=depot.link_get(lora.key, ttl), bytes=lora.bytes)
            for lora in work.loras
        ),
        sources={sha256: depot.link_get(source_key(shard.team, sha256), ttl) for sha256 in sorted(pictures)},
        rows=tuple(_row(shard.team, shard, row, depot, ttl, token) for row in work.rows),
    )


def _row(team: TeamId, shard: ShardRow, row: Row, depot: Depot, ttl: timedelta, token: str) -> OrderRow:
    output = row.recipe.output
    key = f"outputs/{team}/{shard.campaign}/{row.ordinal}-{token}/picture.{output.format}"
    links = PutLinks(
        picture_key=key,
        picture=depot.link_put(key, ttl),
        thumbnail=depot.link_put(thumbnail_key(key), ttl),
        provenance=depot.link_put(provenance_key(key), ttl),
        renditions={
            made.name: depot.link_put(rendition_key(key, made.name, made.format), ttl) for made in output.renditions
        },
    )
    return OrderRow(
        ordinal=row.ordinal, recipe=row.recipe, fingerprint=row.fingerprint, links=links, made_from=row.made_from
    )
