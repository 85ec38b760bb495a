"""What the leader does with shards: verbs with three small numbers that say of what and how."""

from collections.abc import Sequence
from typing import Any

from farm.core.ids import RendererName, ShardId
from farm.core.placement import Placed
from farm.core.settle import Child, FailedTry, Refusal, Settled, ShardRow, reuse, settle
from farm.core.shard import halves, ordinals_of, size_of
from farm.ports import SchedulerTx
from schemas.report import Failure, FailureKind
from tests.support.twin_actor import GPUS, NAMES, Actor, Undone
from tests.support.twin_dump import MOST_SHARDS
from tests.support.twins import HOUR

EVERY_SHARD = [ShardId(n) for n in range(1, MOST_SHARDS)]
GOOD, KINDS = ("good", "same"), [str(kind) for kind in FailureKind]
MIXED = ("good", "engine", "same", "depot", "back", "out_of_vram", "bad_source", "open", "bad_picture")


def take(actor: Actor, a: int, b: int, c: int) -> Any:
    if not actor.sessions:
        return None
    name, session = actor.sessions[-1 - c % len(actor.sessions)]
    with actor.scheduling() as tx:
        ready = actor.ready(tx)
        first = a % len(ready) if ready else 0
        taken = tx.take([Placed(shard, name, session) for shard in ready[first : first + 1 + b % 4]])
    found = sorted((shard for shard, _ in taken), key=lambda shard: (shard.campaign, shard.todo))
    actor.leases += [(shard, name) for shard in found]
    return [(shard.campaign, shard.todo, shard.state, shard.priority, shard.lane) for shard in found]


def take_blindly(actor: Actor, a: int, b: int, c: int) -> Any:
    """Shards in whatever state, as a scheduler would whose snapshot is old."""
    if not actor.sessions:
        return None
    name, session = actor.sessions[-1 - c % len(actor.sessions)]
    with actor.scheduling() as tx:
        every = sorted(tx.lock(EVERY_SHARD).values(), key=lambda row: (-row.campaign, row.todo))
        wanted = every[a : a + 1 + 2 * b]
        taken = [shard for shard, _ in tx.take([Placed(shard.id, name, session) for shard in wanted])]
    actor.leases += [(shard, name) for shard in taken]
    return [(shard.campaign, shard.todo) for shard in taken]


def verdict_on(
    actor: Actor, tx: SchedulerTx, lease: ShardRow, name: RendererName, fates: Sequence[str], b: int
) -> Settled | Refusal:
    """On one report about a lease, perhaps a late one or one that is repeated."""
    rows = [
        actor.row(lease, ordinal, fate)
        for at, ordinal in enumerate(ordinals_of(lease.todo))
        if (fate := fates[(b + at) % len(fates)]) != "open"
    ]
    return settle(
        tx.lock([lease.id]).get(lease.id),
        fence=lease.fence or "",
        rows=rows,
        now=tx.now() + HOUR,  # so that what backs off does so for longer than the test takes
        renderer=name,
        numerics="x",
        per_hour=tx.prices().get(GPUS[NAMES.index(name) % 2], 0.0),
    )


def settled(actor: Actor, tx: SchedulerTx, lease: ShardRow, name: RendererName, fates: Sequence[str], b: int) -> Any:
    verdict = verdict_on(actor, tx, lease, name, fates, b)
    if isinstance(verdict, Refusal):
        return [picture.key for picture in verdict.pictures]
    unwanted = sorted(tx.write([verdict]))
    if b % 2 and any(outcome.succeeded for outcome in verdict.outcomes):
        tx.note_success([name])
    return unwanted


def work(actor: Actor, a: int, b: int, c: int) -> Any:
    """All that is ready is taken, and reported in one transaction."""
    if not actor.sessions:
        return None
    name, session = actor.sessions[-1 - c % len(actor.sessions)]
    with actor.scheduling() as tx:
        taken = [shard for shard, _ in tx.take([Placed(shard, name, session) for shard in actor.ready(tx)])]
    with actor.scheduling() as tx:
        verdicts = [verdict_on(actor, tx, shard, name, MIXED if a == 7 else GOOD, b) for shard in taken]
        unwanted = tx.write([verdict for verdict in verdicts if isinstance(verdict, Settled)])
    actor.leases += [(shard, name) for shard in taken[:2]]
    return len(taken), len(unwanted)


def report(actor: Actor, a: int, b: int, c: int) -> Any:
    if not actor.leases:
        return None
    lease, name = actor.leases[-1 - a % len(actor.leases)]
    with actor.scheduling() as tx:
        return settled(actor, tx, lease, name, GOOD if c < 3 else MIXED, b)


def fail(actor: Actor, a: int, b: int, c: int) -> Any:
    """All of it, in one way."""
    if not actor.leases:
        return None
    lease, name = actor.leases[-1 - a % len(actor.leases)]
    with actor.scheduling() as tx:
        return settled(actor, tx, lease, name, [KINDS[c % len(KINDS)]], 0)


def report_and_undo(actor: Actor, a: int, b: int, c: int) -> Any:
    """A transaction that fails at its end leaves nothing behind."""
    if not actor.leases:
        return None
    lease, name = actor.leases[-1 - a % len(actor.leases)]
    keys, fingerprints = list(actor.known.keys), list(actor.known.fingerprints)
    try:
        with actor.scheduling() as tx:
            settled(actor, tx, lease, name, MIXED, b)
            tx.take([Placed(shard, name, session) for shard in actor.ready(tx) for _, session in actor.sessions[-1:]])
            tx.quarantine(name, why="it broke", lasts=c * HOUR)
            tx.doomed(["outputs/undone"], "orphan")
            raise Undone
    except Undone:
        actor.known.keys, actor.known.fingerprints = keys, fingerprints


def put_back(actor: Actor, a: int, b: int, c: int) -> Any:
    if not actor.leases:
        return None
    lease, name = actor.leases[-1 - a % len(actor.leases)]
    with actor.scheduling() as tx:
        tx.put_back(lease, lost=lease.lost + b % 2, delay=(c % 2) * HOUR, avoid=name if b % 2 else None)


def bisect(actor: Actor, a: int, b: int, c: int) -> Any:
    if not actor.leases:
        return None
    lease, name = actor.leases[-1 - a % len(actor.leases)]
    with actor.scheduling() as tx:
        shard = tx.lock([lease.id])[lease.id]
        if shard.state != "leased" or shard.fence != lease.fence or size_of(shard.todo) < 2:
            return None
        state = "cancelled" if shard.cancelling else "ready"
        at = tx.now() + HOUR if c % 2 else None
        children = tuple(Child(part, at, shard.tries, shard.lost + 1, state, 0, (name,)) for part in halves(shard.todo))
        died = Failure(kind=FailureKind.RENDERER_DIED, code="renderer_died", detail="It died.")
        return tx.write([Settled(shard, (), children=children, failed_tries=(FailedTry(shard.id, None, died),))])


def look_up(actor: Actor, a: int, b: int, c: int) -> Any:
    """Renders of a ready shard whose pictures are there already."""
    with actor.scheduling() as tx:
        ready = actor.ready(tx)
        if not ready:
            return None
        shard = tx.lock([ready[a % len(ready)]]).popitem()[1]
        ids = tx.pictures(shard.team, [f"{n:064x}" for n in range(3)])
        fingerprints = {ordinal: f"{ordinal % 3:064x}" for ordinal in ordinals_of(shard.todo)}
        known = [(ordinal, f, ids[f]) for ordinal, f in fingerprints.items() if f in ids]
        tx.write([reuse(shard, known)])
        return [ordinal for ordinal, _, _ in known]


VERBS = (take, take_blindly, report, work, fail, report_and_undo, put_back, bisect, look_up)
