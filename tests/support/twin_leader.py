"""What the leader does to a store: verbs with three small numbers that say of what and how."""

import uuid
from collections.abc import Sequence
from typing import Any

from farm.core.errors import LeadershipLost
from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import RendererName, Session
from farm.core.placement import Placed
from farm.core.records import FarmView, Heartbeat
from farm.core.settle import Child, FailedTry, Refusal, Settled, ShardRow, reuse, settle
from farm.core.shard import halves, ordinals_of, size_of
from farm.ports import SchedulerTx
from schemas.campaign import PausedBy
from schemas.report import Failure, FailureKind, Hello
from tests.support.twin_actor import GPUS, NAMES, Actor, Undone
from tests.support.twins import HOUR, TEAMS


def greet(actor: Actor, a: int, b: int, c: int) -> Any:
    """A new process of a renderer, or the same one again."""
    name = NAMES[a % len(NAMES)]
    mine = [session for owner, session in actor.sessions if owner == name]
    again = mine and b > 4
    session = mine[-1 - c % len(mine)] if again else Session(str(uuid.UUID(int=1000 + actor.number)))
    hello = Hello(name=name, session=session, node="n", pid=1, gpu=GPUS[a % 2], numerics="x", epoch=1, holds=())
    with actor.scheduling() as tx:
        tx.greet(hello, (1 + 2 * (c % 3)) * HOUR)
    if not again:
        actor.sessions.append((name, session))
    return None


def beat(actor: Actor, a: int, b: int, c: int) -> Any:
    with actor.scheduling() as tx:
        sessions = [session for _, session in actor.sessions[a % 3 :: 2]]
        tx.heartbeat([Heartbeat(str(s), "busy", f"render {b}", c, "0" * 64) for s in sessions], 3 * HOUR)


def end(actor: Actor, a: int, b: int, c: int) -> Any:
    with actor.scheduling() as tx:
        if a % 2:
            tx.end_absent("farm/a/", NAMES[: b % 3])
        elif actor.sessions:
            tx.end_sessions([actor.sessions[-1 - c % len(actor.sessions)][1]])


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


def take_one_that_is_not_ready(actor: Actor, a: int, b: int, c: int) -> Any:
    if not actor.leases or not actor.sessions:
        return None
    lease, _ = actor.leases[-1 - a % len(actor.leases)]
    name, session = actor.sessions[-1 - c % len(actor.sessions)]
    with actor.scheduling() as tx:
        again = tx.take([Placed(lease.id, name, session)])
    actor.leases += [(shard, name) for shard, _ in again]
    return len(again)


GOOD, KINDS = ("good", "good", "same", "good"), [str(kind) for kind in FailureKind]
MIXED = ("good", "engine", "same", "depot", "back", "out_of_vram", "bad_source", "open", "bad_picture")


def settled(actor: Actor, tx: SchedulerTx, lease: ShardRow, name: RendererName, fates: Sequence[str], b: int) -> Any:
    """One report about a lease, perhaps a late one or one that is repeated."""
    rows = [
        actor.row(lease, ordinal, fate)
        for at, ordinal in enumerate(ordinals_of(lease.todo))
        if (fate := fates[(b + at) % len(fates)]) != "open"
    ]
    now = tx.now() + HOUR  # so that what backs off does so for longer than the test takes
    verdict = settle(
        tx.lock([lease.id]).get(lease.id),
        fence=lease.fence or "",
        rows=rows,
        now=now,
        renderer=name,
        numerics="x",
        per_hour=tx.prices().get(GPUS[NAMES.index(name) % 2], 0.0),
    )
    if isinstance(verdict, Refusal):
        return verdict.keys
    unwanted = sorted(tx.write([verdict]))
    if any(outcome.succeeded for outcome in verdict.outcomes):
        tx.note_success([name])
    return unwanted


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


def judge(actor: Actor, a: int, b: int, c: int) -> Any:
    name = NAMES[a % len(NAMES)]
    with actor.scheduling() as tx:
        match b % 4:
            case 0 | 1:
                tx.quarantine(name, why=f"it broke {c} times", lasts=c * HOUR)
            case 2:
                tx.release(name)
            case _:
                tx.note_success([name])


def learn(actor: Actor, a: int, b: int, c: int) -> Any:
    with actor.scheduling() as tx:
        team, key, gpu = TEAMS[a % 2], f"engine {b % 2}", GPUS[c % 2]
        tx.learn(team, key, gpu, step_seconds=1.0 + b, squares=(1.0 + b) ** 2 + c, renders=1 + 60 * c)
        tx.learn_load(gpu, ("checkpoint", "lora")[b % 2], seconds=4.0 * c + 1, loads=1 + 7 * c)


def spend(actor: Actor, a: int, b: int, c: int) -> Any:
    """What follows from budgets and deadlines."""
    if (found := actor.any_campaign(a)) is None:
        return None
    code = ("budget_near", "budget_spent")[c % 2]
    with actor.scheduling() as tx:
        match b % 5:
            case 0 | 1:
                return tx.pause(found[1], (PausedBy.BUDGET, PausedBy.TEAM_BUDGET)[c % 2], "It is spent.")
            case 2:
                return tx.resume(found[1])
            case 3:
                return tx.warn(found[1], code, "Look out.", {"late_seconds": 1.5})
            case _:
                return tx.unwarn(found[1], code)


def turn(actor: Actor, a: int, b: int, c: int) -> Any:
    with actor.scheduling() as tx:
        tx.turn([Rejoin(TEAMS[a % 2], 1.5 * b)] if c % 2 else [Rest(TEAMS[a % 2])])
        tx.show_farm(
            FarmView(tx.now(), True, depot_up=b > 2, renderers=(("H100", "idle", a),), wanted=c, gpus=("H100",))
        )


def bury(actor: Actor, a: int, b: int, c: int) -> Any:
    keys = actor.known.keys[a : a + 3]
    with actor.scheduling() as tx:
        if c % 3:
            tx.doomed(keys, f"orphan {b}")
        else:
            tx.spare(keys)


def finish(actor: Actor, a: int, b: int, c: int) -> Any:
    with actor.scheduling() as tx:
        return tx.finish_campaigns()


def forget(actor: Actor, a: int, b: int, c: int) -> Any:
    """Retention, and old rows."""
    with actor.scheduling() as tx:
        if b % 2:
            return tx.sweep(events=(a * 2 + 1) * HOUR, attempts=5 * HOUR, sessions=3 * HOUR, limit=1 + c)
        due = tx.prunable(10)
        found = actor.any_campaign(a)
        wanted = due[0][1] if due else found[1] if found and c == 7 and b == 6 else None
        if wanted is None:
            return None
        forgotten, keys = tx.prune(wanted, 1 + c)
        return forgotten, sorted(keys)


def lead(actor: Actor, a: int, b: int, c: int) -> Any:
    holder = f"holder {a % 2}"
    mine, store = actor.holders.get(holder), actor.side.store
    match b % 4:
        case 0 if mine is not None:
            return store.renew(mine, 100 * HOUR if c % 2 else -HOUR)
        case 1 if mine is not None:
            return store.resign(mine)
        case 2 if mine is not None:
            try:
                with store.as_scheduler(mine) as tx:
                    return tx.finish_campaigns()
            except LeadershipLost:
                return "lost"
        case _:
            elected = store.elect(holder, 100 * HOUR)
            if elected is not None:
                actor.leadership = actor.holders[holder] = elected
            return elected


VERBS = (
    greet,
    beat,
    end,
    take,
    take_one_that_is_not_ready,
    report,
    fail,
    report_and_undo,
    put_back,
    bisect,
    look_up,
    judge,
    learn,
    spend,
    turn,
    bury,
    finish,
    forget,
    lead,
)
