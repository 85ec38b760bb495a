"""One tick: what the scheduler sees becomes what it does.

What it sees: the heads of the queues, the leases, the renderers, and what `oversee` made of teams, budgets, deadlines
and failures. `plan` is a pure function of them, so that a day of decisions can be replayed in a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.core.fairshare import Rejoin, Rest, Shares, TeamShare, turns
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId
from farm.core.leases import Held, Revoke, Seen
from farm.core.placement import Backlog, Free, Placed, Placement, Queue, Rules, place
from farm.core.recalls import recalls
from schemas.order import Lane

__all__ = [
    "Decision",
    "Dispatch",
    "End",
    "Held",
    "LookUp",
    "Reclaim",
    "Release",
    "Retire",
    "Revoke",
    "Seen",
    "Snapshot",
    "Wake",
    "plan",
]

LOOK_UPS = 16
"""Shards compared in one tick: some thousand fingerprints, a few milliseconds of the database."""

HUNG_AFTER = 1800.0
HUNG_FACTOR = 20.0
"""Seconds, and how many times as long as expected, before a lease that makes no progress is taken for a hung GPU."""

SETTLE_GRACE = 10.0
"""Seconds a new lease may be missing from what its renderer says it holds: the offer is still on its way."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """*suspects*, *closed* and *probing* are the verdict on renderers; *wake* and *retire* whom the work asks for."""

    queues: Sequence[Queue]
    backlog: Mapping[tuple[CampaignId, str], Backlog]
    looked_up: frozenset[ShardId]  # waiting shards whose fingerprints were compared already
    held: Sequence[Held]
    refused: frozenset[tuple[ShardId, Fence]]  # offers that were turned down
    seen: Sequence[Seen]
    teams: Sequence[TeamShare]
    rules: Rules
    may_reclaim: bool  # False for the first lease time of a new leader: it has not heard everybody yet
    suspects: frozenset[RendererName] = frozenset()
    closed: frozenset[RendererName] = frozenset()
    probing: frozenset[RendererName] = frozenset()
    wake: Sequence[RendererName] = ()
    retire: Sequence[RendererName] = ()


@dataclass(frozen=True, slots=True)
class Dispatch:
    placed: Placed


@dataclass(frozen=True, slots=True)
class Wake:
    name: RendererName


@dataclass(frozen=True, slots=True)
class Retire:
    """It has had nothing to do for long, and is not wanted."""

    name: RendererName


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The lease ended with its renderer; *name* where it is known.

    *blamed*: it was being rendered, so it may be what the renderer ended of. One that was only prefetched is not.
    """

    held: Held
    name: RendererName | None = None
    blamed: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """The renderer lives and does not have the shard: the offer was lost. Nobody is to blame."""

    held: Held


@dataclass(frozen=True, slots=True)
class LookUp:
    """What the team has rendered before needs no renderer."""

    shards: tuple[ShardId, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The renderer answers, and its GPU does not: a lease has lasted far beyond all that is left of its shard."""

    name: RendererName


Decision = Dispatch | End | LookUp | Wake | Retire | Reclaim | Release | Revoke | Rejoin | Rest


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
    waiting = frozenset(queue.team for queue in view.queues)
    shifts = turns(view.teams, waiting, under_way=((held.team, held.gpu_seconds) for held in view.held))
    free = _free(view, kept)
    placement = _place(view, kept, free, shifts)
    looks = _look_ups(view, placement.placed)
    recalled = recalls({one.session: kept.of(one.session) for one in free}, free, placement)
    scaled = _scaled(view, placement)
    placed = [Dispatch(one) for one in placement.placed]
    return [*ended, *_hung(view), *revoked, *shifts, *looks, *recalled, *scaled, *placed]


def _something_is_real(view: Snapshot) -> bool:
    """Something is under way, or was compared and not all known: before that, perhaps nobody has to be woken."""
    return bool(view.held) or any(head.shard in view.looked_up for queue in view.queues for head in queue.heads[:1])


def _scaled(view: Snapshot, placement: Placement) -> list[Decision]:
    busy = {placed.name for placed in placement.placed}
    woken = [Wake(name) for name in view.wake] if _something_is_real(view) else []
    return [*woken, *(Retire(name) for name in view.retire if name not in busy)]


def _look_ups(view: Snapshot, placed: Sequence[Placed]) -> list[LookUp]:
    """The first of each queue that nobody takes now is compared once; those that are dispatched are, on the way.

    When all of it is known the next one is the first: a campaign that was rendered before ends without a renderer.
    """
    taken = {p.shard for p in placed}
    firsts = (next((h.shard for h in queue.heads if h.shard not in taken), None) for queue in view.queues)
    new = [shard for shard in firsts if shard is not None and shard not in view.looked_up]
    return [LookUp(tuple(new[:LOOK_UPS]))] if new else []


def _leases(view: Snapshot) -> tuple[list[Decision], _Ledger]:
    """Which leases end, and those that stay."""
    seen = {renderer.session: renderer for renderer in view.seen if renderer.session is not None}
    ended: list[Decision] = []
    kept = _Ledger()
    rendered = _rendered(view.held)
    for held in view.held:
        renderer = seen.get(held.session)
        heard = renderer is not None and not renderer.silent  # its heartbeat was only late, as after a database outage
        if held.ended or (held.expired and view.may_reclaim and not heard):
            ended.append(Reclaim(held, None if renderer is None else renderer.name, held.shard in rendered))
        elif (held.shard, held.fence) in view.refused or (renderer is not None and _missing(held, renderer)):
            ended.append(Release(held))
        else:
            kept.add(held)
    return ended, kept


def _rendered(held: Sequence[Held]) -> frozenset[ShardId]:
    """Of each session's leases the one that is in the GPU, as far as that can be told: interactive first, then old."""
    first: dict[Session, Held] = {}
    for lease in sorted(held, key=lambda lease: (lease.lane is Lane.BULK, -lease.age, lease.shard)):
        first.setdefault(lease.session, lease)
    return frozenset(lease.shard for lease in first.values())


def _hung(view: Snapshot) -> list[End]:
    seen = {renderer.session: renderer for renderer in view.seen if renderer.session is not None}
    late = set()
    for held in view.held:
        renderer = seen.get(held.session)
        if renderer is not None:
            speed = min(1.0, view.rules.speeds.get(renderer.gpu, 1.0))
            if held.age > (HUNG_AFTER + HUNG_FACTOR * held.gpu_seconds) / speed:
                late.add(renderer.name)
    return [End(name) for name in sorted(late)]


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
        rest = tuple(shard for shard in held_there if shard not in stop)
        if rest and renderer.name in view.closed:
            decisions.append(Revoke(renderer.name, rest, running=False))  # it would go on failing them
    return decisions


def _free(view: Snapshot, kept: _Ledger) -> list[Free]:
    """Renderers that may get work, with what they have. Suspects get none while another is free of suspicion."""
    able = [r for r in view.seen if r.session is not None and not (r.draining or r.silent)]
    able = [r for r in able if r.name not in view.closed]
    clean = [r for r in able if r.name not in view.suspects]
    return [_free_one(view, r, r.session, kept) for r in clean or able if r.session is not None]


def _free_one(view: Snapshot, renderer: Seen, session: Session, kept: _Ledger) -> Free:
    mine = sorted(kept.of(session), key=lambda held: held.age)
    bulk = [held for held in mine if held.lane is Lane.BULK]
    speed = view.rules.speeds.get(renderer.gpu, 1.0)
    engine_key, checkpoint = (
        (bulk[0].engine_key, bulk[0].checkpoint) if bulk else (renderer.engine_key, renderer.checkpoint)
    )
    return Free(
        name=renderer.name,
        session=session,
        held=len(bulk),
        engine_key=engine_key,
        checkpoint=checkpoint,
        gpu=renderer.gpu,
        speed=speed,
        interactive=len(mine) - len(bulk),
        reserved=renderer.full or any(held.alone for held in mine),
        left=sum(held.gpu_seconds for held in mine) / speed,
        probe=renderer.name in view.probing,
    )


def _place(view: Snapshot, kept: _Ledger, free: Sequence[Free], shifts: Sequence[Rejoin | Rest]) -> Placement:
    raised = {shift.team: shift.vtime for shift in shifts if isinstance(shift, Rejoin)}
    shares = Shares(share.at(raised[share.team]) if share.team in raised else share for share in view.teams)
    warm: dict[str, int] = {}
    for session, leases in kept.by_session.items():
        for held in leases:
            shares.lease(held.team, session, held.gpu_seconds)
    for renderer in free:
        warm[renderer.engine_key] = warm.get(renderer.engine_key, 0) + 1
    return place(view.queues, free, shares, view.rules, backlog=view.backlog, warm=warm)
