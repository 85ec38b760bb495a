"""What the leader does to a store: verbs with three small numbers that say of what and how."""

import uuid
from typing import Any

from farm.core.errors import LeadershipLost
from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import Session
from farm.core.records import FarmView, Heartbeat
from schemas.campaign import PausedBy
from schemas.report import Hello
from tests.support.twin_actor import GPUS, NAMES, Actor
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


def judge(actor: Actor, a: int, b: int, c: int) -> Any:
    name = actor.leases[-1][1] if a % 2 and actor.leases else NAMES[a % len(NAMES)]
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


VERBS = (greet, beat, end, judge, learn, spend, turn, bury, finish, forget, lead)
