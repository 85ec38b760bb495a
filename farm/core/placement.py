"""Which shard goes to which renderer: fair between teams, in order within a team, warm where it can be.

Interactive shards go first, to whoever can begin them soonest. Then each free renderer gets a shard of the team that
has had least. Within the team it is the first campaign's turn; a renderer that is warm for a later one may stay with
it as long as that overtakes the first by no more than `PATIENCE` times the loading that it saves. A cold renderer
takes the weights whose queue would last longest with the renderers that it has: so a LoRA in demand spreads.
"""

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from farm.core.fairshare import Shares
from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId
from farm.core.queues import Backlog, Band, Free, Head, Line, Loading, Queue
from schemas.order import Lane

__all__ = ["SLOTS", "Backlog", "Free", "Head", "Loading", "Placed", "Placement", "Queue", "Rules", "place"]

SLOTS = 2
"""Bulk shards in a renderer at once: one being rendered, one being prefetched. An interactive one comes on top."""

PREFETCH_SECONDS = 15.0
"""A renderer gets its next shard when so much is left of the one it has: time to fetch, and no longer bound to it."""

MOST_LEFT_OUT = 16
"""Teams for which a slot is sought in one tick."""

LEEWAY_SECONDS = 60.0
"""GPU seconds by which a team may be ahead of the least served one and still keep a renderer that is warm for it."""


@dataclass(frozen=True, slots=True)
class Placed:
    shard: ShardId
    name: RendererName
    session: Session


@dataclass(frozen=True, slots=True)
class Rules:
    """What placing must obey. A campaign or team that is not in `room` or `team_room` has no limit."""

    loading: Loading
    room: Mapping[CampaignId, float] = field(default_factory=dict)  # GPU seconds that may still be started
    team_room: Mapping[TeamId, float] = field(default_factory=dict)
    urgent: Mapping[CampaignId, int] = field(default_factory=dict)  # rank; lower goes first
    off_peak: bool = True  # campaigns that wait for off-peak hours may go
    speeds: Mapping[str, float] = field(default_factory=dict)  # of every type of GPU in the farm


@dataclass(slots=True)
class Placement:
    placed: list[Placed]
    left_out: dict[TeamId, frozenset[RendererName]]  # teams with nothing under way that found no slot; who could do it
    idle: tuple[RendererName, ...]  # renderers that have nothing, and for which there is nothing
    shares: Shares


def place(
    queues: Sequence[Queue],
    free: Sequence[Free],
    shares: Shares,
    rules: Rules,
    *,
    backlog: Mapping[tuple[CampaignId, str], Backlog],
    warm: Mapping[str, int],
) -> Placement:
    """Fills slots of *free*, which are all renderers that may get work, full ones too. *warm* counts by engine key."""
    return _Placing(queues, free, shares, rules, backlog, warm).run()


class _Placing:
    def __init__(
        self,
        queues: Sequence[Queue],
        free: Sequence[Free],
        shares: Shares,
        rules: Rules,
        backlog: Mapping[tuple[CampaignId, str], Backlog],
        warm: Mapping[str, int],
    ) -> None:
        self._shares, self._rules = shares, rules
        gpus = {queue.gpu for queue in queues}
        self._able = {gpu: frozenset(r.name for r in free if gpu in (None, r.gpu)) for gpu in gpus}
        self._free = {renderer.session: renderer for renderer in free}
        self._warm = dict(warm)
        self._room, self._team_room = dict(rules.room), dict(rules.team_room)
        lines = [
            Line(queue, backlog.get((queue.campaign, queue.engine_key)), warm.get(queue.engine_key, 0))
            for queue in queues
            if queue.heads and (rules.off_peak or not queue.off_peak)
        ]
        self._interactive = [line for line in lines if line.queue.lane is Lane.INTERACTIVE]
        self._bands = _bands([line for line in lines if line.queue.lane is Lane.BULK], rules)
        self._by_key: dict[str, set[TeamId]] = {}
        for line in lines:
            self._by_key.setdefault(line.queue.engine_key, set()).add(line.queue.team)
        self._order = sorted(self._bands, key=self._served)  # the least served first
        self._left = sum(len(line.queue.heads) for line in lines)
        self._placed: list[Placed] = []

    def run(self) -> Placement:
        self._place_interactive()
        idle = []
        for already in range(SLOTS):
            for session in self._turns(already):
                renderer = self._free[session]
                if not self._place_one(renderer) and already == 0 and not renderer.interactive:
                    idle.append(renderer.name)
        left_out = self._left_out()
        return Placement(self._placed, left_out, tuple(idle), self._shares)

    def _left_out(self) -> dict[TeamId, frozenset[RendererName]]:
        """Teams with nothing under way whose turn comes before that of every team that has something."""
        full = [renderer for renderer in self._free.values() if renderer.held == SLOTS]
        found: dict[TeamId, frozenset[RendererName]] = {}
        for team in self._order if full else ():
            if self._shares.renderers(team) or len(found) == MOST_LEFT_OUT:
                break
            lines = [line for band in self._bands[team] for line in band.lines]
            able = [r.name for r in full if any(self._fits(r, line) is not None for line in lines)]
            if able:
                found[team] = frozenset(able)
        return found

    def _turns(self, already: int) -> list[Session]:
        """Who is asked, in which order: idle ones, the fastest first; then those that will soon be through."""
        found = [r for r in self._free.values() if r.held == already and not r.shut]
        if already == 0:
            return [r.session for r in sorted(found, key=lambda r: (r.probe, -r.speed, r.name))]
        kept = self._kept_free()
        found = [r for r in found if not r.probe and r.left < PREFETCH_SECONDS and r.session not in kept]
        return [r.session for r in sorted(found, key=lambda r: (r.left, r.name))]

    def _kept_free(self) -> set[Session]:
        """Renderers that get nothing more until they are empty, since a shard that travels alone waits for one."""
        kept: set[Session] = set()
        bulk = [line for bands in self._bands.values() for band in bands for line in band.lines]
        for line in (line for line in [*self._interactive, *bulk] if line.loner() is not None and self._has_room(line)):
            head, names, team = line.loner(), self._able[line.queue.gpu], line.queue.team
            fit = [r for r in self._free.values() if r.name in names and r.session not in kept and not r.shut]
            fit = [r for r in fit if self._shares.within_burst(team, r.session)]
            fit = [r for r in fit if head is not None and r.name not in head.avoid] or fit
            if fit:
                kept.add(min(fit, key=lambda r: (r.left, r.name)).session)
        return kept

    # interactive

    def _place_interactive(self) -> None:
        """Each goes to whoever can begin soonest; a renderer has one at a time beside its bulk shards."""
        room = {r.session for r in self._free.values() if not (r.interactive or r.probe or r.shut)}
        lines = sorted(self._interactive, key=lambda line: (-line.queue.priority, line.queue.position, line.key))
        while room and lines:
            line = min(lines, key=lambda line: self._shares.served(line.queue.team))
            able = [
                (self._loading(self._free[s], line), bool(self._free[s].held), self._free[s].name, s, head)
                for s in room
                if (head := self._fits(self._free[s], line)) is not None
                and self._shares.within_burst(line.queue.team, s)
            ]
            if not able:
                lines.remove(line)
                continue
            *_, session, head = min(able, key=lambda found: found[:3])
            self._put(self._free[session], line, head)
            room.discard(session)
            if len(line.taken) == len(line.queue.heads):
                lines.remove(line)

    # bulk

    def _place_one(self, renderer: Free) -> bool:
        if not self._left:
            return False
        beyond: list[TeamId] = []  # their quota: they get what nobody within theirs wants
        for team in self._in_turn(renderer, beyond):
            if (found := self._of_team(renderer, team)) is not None:
                self._put(renderer, *found)
                return True
        for team in beyond:
            if (found := self._of_team(renderer, team)) is not None:
                self._put(renderer, *found)
                return True
        return False

    def _in_turn(self, renderer: Free, beyond: list[TeamId]) -> Iterator[TeamId]:
        """The least served first; before it one that the renderer is warm for, if it is not far ahead."""
        stay: TeamId | None = None
        first = True
        for team in tuple(self._order):
            if team == stay or not self._shares.within_burst(team, renderer.session):
                continue
            if not self._shares.within_quota(team, renderer.session):
                beyond.append(team)
                continue
            if first and self._shares.renderers(team):
                stay = self._warm_team(renderer, self._shares.served(team) + LEEWAY_SECONDS)
                if stay is not None:
                    yield stay
            first = False
            if team != stay:
                yield team

    def _warm_team(self, renderer: Free, bound: float) -> TeamId | None:
        teams = self._by_key.get(renderer.engine_key, set()) if renderer.engine_key else set()
        able = [
            self._served(team)
            for team in teams & self._bands.keys()
            if self._shares.served(team) <= bound
            and self._shares.within_burst(team, renderer.session)
            and self._shares.within_quota(team, renderer.session)
        ]
        return min(able)[1] if able else None

    def _of_team(self, renderer: Free, team: TeamId) -> tuple[Line, Head] | None:
        for band in self._bands[team]:
            found = band.pick(renderer, lambda line: self._fits(renderer, line), self._rules.loading)
            if found is not None and not self._sooner_elsewhere(renderer, *found):
                return found
        return None

    def _sooner_elsewhere(self, renderer: Free, line: Line, head: Head) -> bool:
        """Whether a faster renderer that is busy now would still be through with it sooner: at the end of the work."""
        if self._left > len(self._free) or len(self._rules.speeds) < 2 or head.alone:
            return False
        mine, team, able = head.seconds / renderer.speed, line.queue.team, self._able[line.queue.gpu] - set(head.avoid)
        return any(
            other.speed > renderer.speed * 1.1
            and other.left + head.seconds / other.speed < mine
            and other.name in able
            and not (other.shut or other.probe)
            and self._shares.within_burst(team, other.session)
            for other in self._free.values()
        )

    # both

    def _served(self, team: TeamId) -> tuple[float, TeamId]:
        return self._shares.served(team), team

    def _fits(self, renderer: Free, line: Line) -> Head | None:
        queue = line.queue
        if queue.gpu is not None and queue.gpu != renderer.gpu:
            return None
        if not self._has_room(line):
            return None
        return line.head_for(renderer, self._able[queue.gpu])

    def _has_room(self, line: Line) -> bool:
        queue = line.queue
        return self._room.get(queue.campaign, inf) > 0 and self._team_room.get(queue.team, inf) > 0

    def _loading(self, renderer: Free, line: Line) -> float:
        return self._rules.loading.seconds(renderer, line.queue.engine_key, line.queue.checkpoint)

    def _put(self, renderer: Free, line: Line, head: Head) -> None:
        queue = line.queue
        line.take(head)
        self._left -= 1
        self._shares.lease(queue.team, renderer.session, head.seconds)
        if queue.team in self._bands:
            self._order.remove(queue.team)
            if any(band.left for band in self._bands[queue.team]):
                insort(self._order, queue.team, key=self._served)
        if queue.campaign in self._room:
            self._room[queue.campaign] -= head.seconds
        if queue.team in self._team_room:
            self._team_room[queue.team] -= head.seconds
        self._placed.append(Placed(head.shard, renderer.name, renderer.session))
        left = renderer.left + head.seconds / renderer.speed + self._loading(renderer, line)
        now = replace(renderer, left=left, reserved=head.alone)
        if queue.lane is Lane.INTERACTIVE:
            now = replace(now, interactive=now.interactive + 1)
        else:
            now = replace(now, held=now.held + 1, engine_key=queue.engine_key, checkpoint=queue.checkpoint)
        self._free[renderer.session] = now


def _bands(lines: Sequence[Line], rules: Rules) -> dict[TeamId, list[Band]]:
    """Of each team, what goes first: urgent before the rest, then by priority."""
    found: dict[TeamId, dict[tuple[float, int], list[Line]]] = {}
    for line in lines:
        rank = rules.urgent.get(line.queue.campaign)
        key = (float("inf") if rank is None else float(rank), -line.queue.priority)
        found.setdefault(line.queue.team, {}).setdefault(key, []).append(line)
    return {team: [Band(bands[key]) for key in sorted(bands)] for team, bands in sorted(found.items())}
