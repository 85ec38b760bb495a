"""One tick: what the scheduler sees becomes what it does.

What it sees: the heads of the queues, the leases, the renderers. `plan` is a pure function of them, so that a day of
decisions can be replayed in a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from farm.core.ids import Fence, RendererName, Session, ShardId
from farm.core.placement import SLOTS, Free, Placed, Waiting, place
from farm.core.scaling import wanted

LOOK_UPS = 16
"""Shards compared in one tick: some thousand fingerprints, a few milliseconds of the database."""

HUNG_AFTER = 1800.0
HUNG_FACTOR = 20.0
"""Seconds, and how many times as long as expected, before a lease that makes no progress is taken for a hung GPU."""

SETTLE_GRACE = 10.0
"""Seconds a new lease may be missing from what its renderer says it holds: the offer is still on its way."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as the database has it."""

    shard: ShardId
    session: Session
    fence: Fence
    age: float  # seconds
    expired: bool  # its renderer session has not been heard of for the lease time
    ended: bool  # the process behind the session is known to be gone
    cancelled: bool  # its campaign is being cancelled
    engine_key: str
    checkpoint: str
    gpu_seconds: float = 0.0  # expected of what is still to do


@dataclass(frozen=True, slots=True)
class Seen:
    """A renderer as the fleet has it. ``session`` is None until it has introduced itself."""

    name: RendererName
    session: Session | None
    holds: frozenset[tuple[ShardId, Fence]]
    engine_key: str
    checkpoint: str
    draining: bool = False
    silent: bool = False  # it does not answer: what it has may yet end, but it gets no more
    heard_age: float = 0.0  # seconds since it said what it holds


@dataclass(frozen=True, slots=True)
class Snapshot:
    waiting: Sequence[Waiting]
    ready_shards: int  # of which `waiting` are the heads
    looked_up: frozenset[ShardId]  # waiting shards whose fingerprints were compared already
    held: Sequence[Held]
    refused: frozenset[tuple[ShardId, Fence]]  # offers that were turned down
    seen: Sequence[Seen]
    names: Sequence[RendererName]  # of the fleet, at full strength
    may_reclaim: bool  # False for the first lease time of a new leader: it has not heard everybody yet


@dataclass(frozen=True, slots=True)
class Dispatch:
    placed: Placed


@dataclass(frozen=True, slots=True)
class Wake:
    name: RendererName


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The lease ended with its renderer."""

    held: Held


@dataclass(frozen=True, slots=True)
class Release:
    """The renderer lives and does not have the shard: the offer was lost. Nobody is to blame."""

    held: Held


@dataclass(frozen=True, slots=True)
class Revoke:
    """The renderer shall stop working on these."""

    name: RendererName
    shards: tuple[ShardId, ...]


@dataclass(frozen=True, slots=True)
class LookUp:
    """What the team has rendered before needs no renderer."""

    shards: tuple[ShardId, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The renderer answers, and its GPU does not: a lease has lasted far beyond all that is left of its shard."""

    name: RendererName


Decision = Dispatch | End | LookUp | Wake | Reclaim | Release | Revoke


@dataclass(slots=True)
class _Ledger:
    """Leases by session, while the plan is made."""

    by_session: dict[Session, list[Held]] = field(default_factory=dict)

    def add(self, held: Held) -> None:
        self.by_session.setdefault(held.session, []).append(held)

    def of(self, session: Session) -> list[Held]:
        return self.by_session.get(session, [])


def plan(view: Snapshot) -> list[Decision]:
    ended, kept = _leases(view)
    revoked = _revocations(view, kept)
    placed = place(view.waiting, _free(view, kept))
    looks = _look_ups(view, placed)
    return [*ended, *_hung(view), *revoked, *looks, *_wakes(view, looks), *(Dispatch(p) for p in placed)]


def _look_ups(view: Snapshot, placed: Sequence[Placed]) -> list[LookUp]:
    """Shards that nobody takes now are compared once; those that are dispatched are compared on the way."""
    taken = {p.shard for p in placed}
    new = [shard.shard for shard in view.waiting if shard.shard not in taken and shard.shard not in view.looked_up]
    return [LookUp(tuple(new[:LOOK_UPS]))] if new else []


def _leases(view: Snapshot) -> tuple[list[Decision], _Ledger]:
    """Which leases end, and those that stay."""
    seen = {renderer.session: renderer for renderer in view.seen if renderer.session is not None}
    ended: list[Decision] = []
    kept = _Ledger()
    for held in view.held:
        renderer = seen.get(held.session)
        heard = renderer is not None and not renderer.silent  # its heartbeat was only late, as after a database outage
        if held.ended or (held.expired and view.may_reclaim and not heard):
            ended.append(Reclaim(held))
        elif (held.shard, held.fence) in view.refused or (renderer is not None and _missing(held, renderer)):
            ended.append(Release(held))
        else:
            kept.add(held)
    return ended, kept


def _hung(view: Snapshot) -> list[End]:
    names = {renderer.session: renderer.name for renderer in view.seen if renderer.session is not None}
    late = {held.session for held in view.held if held.age > HUNG_AFTER + HUNG_FACTOR * held.gpu_seconds}
    return [End(names[session]) for session in sorted(late & names.keys())]


def _missing(held: Held, renderer: Seen) -> bool:
    """Whether the renderer, when it last spoke, should have had the shard for a while, and did not."""
    known_for = held.age - renderer.heard_age
    return (held.shard, held.fence) not in renderer.holds and known_for > SETTLE_GRACE


def _revocations(view: Snapshot, kept: _Ledger) -> list[Decision]:
    """Cancelled campaigns, and shards that a renderer holds although its lease on them is over."""
    decisions: list[Decision] = []
    for renderer in view.seen:
        if renderer.session is None:
            continue
        # By shard, not by fence: an order under a newer fence has replaced what was held under the old one.
        leases = {held.shard: held for held in kept.of(renderer.session)}
        held_there = sorted({shard for shard, _ in renderer.holds})
        stop = [shard for shard in held_there if (lease := leases.get(shard)) is None or lease.cancelled]
        if stop:
            decisions.append(Revoke(renderer.name, tuple(stop)))
    return decisions


def _wakes(view: Snapshot, looks: Sequence[LookUp]) -> list[Wake]:
    """No renderer is woken while heads of queues are being compared: of what stands behind them nothing may be left."""
    present = {renderer.name for renderer in view.seen} & set(view.names)
    ready = 0 if looks else view.ready_shards
    most = wanted(open_shards=ready + len(view.held), most=len(view.names))
    missing = [name for name in view.names if name not in present]
    return [Wake(name) for name in missing[: max(0, most - len(present))]]


def _free(view: Snapshot, kept: _Ledger) -> list[Free]:
    free = []
    for renderer in view.seen:
        if renderer.session is None or renderer.draining or renderer.silent:
            continue
        mine = sorted(kept.of(renderer.session), key=lambda held: held.age)
        if len(mine) < SLOTS:
            engine_key, checkpoint = (
                (mine[0].engine_key, mine[0].checkpoint) if mine else (renderer.engine_key, renderer.checkpoint)
            )
            free.append(Free(renderer.name, renderer.session, len(mine), engine_key, checkpoint))
    return free
