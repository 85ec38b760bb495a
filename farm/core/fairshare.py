"""Weighted fair share between teams, by GPU seconds: start-time fair queueing.

A team's virtual time is the GPU seconds it has used, divided by its weight; who has least goes first. What its leases
are expected to take counts as used while they last, so nothing has to be charged beforehand and put right afterwards.
A team that was idle begins where the least served of those that wait stands: idleness earns no credit, nor does waiting
for what the farm cannot give (another type of GPU, other hours, more than a quota).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from farm.core.ids import Session, TeamId

LAG, LEAD = 3600.0, 300.0
"""GPU seconds that a team may be behind those it waits with, and ahead of them when it begins to wait. What it has
missed, or has had alone, beyond that is forgotten. Teams that compete stay closer together than this: it takes nothing
from them, and resting for a moment gains nothing."""


@dataclass(frozen=True, slots=True)
class TeamShare:
    """A team that has something ready or leased."""

    team: TeamId
    weight: float = 1.0
    vtime: float = 0.0  # settled GPU seconds divided by weight
    backlogged: bool = True  # it had something ready at the last tick
    quota: int | None = None  # renderers at once while other teams wait
    burst: int | None = None  # renderers at once in any case

    def at(self, vtime: float) -> "TeamShare":
        return replace(self, vtime=vtime)


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The virtual time of a team that begins to wait, or that has fallen too far behind, is set anew."""

    team: TeamId
    vtime: float


@dataclass(frozen=True, slots=True)
class Rest:
    """The team has nothing ready any more."""

    team: TeamId


class Shares:
    """How much each team has had, while a plan is made."""

    def __init__(self, teams: Iterable[TeamShare]) -> None:
        self._teams = {share.team: share for share in teams}
        self._in_flight: dict[TeamId, float] = {}
        self._sessions: dict[TeamId, dict[Session, int]] = {}

    def lease(self, team: TeamId, session: Session, seconds: float) -> None:
        """A shard of the team is, or is about to be, at a renderer."""
        self._in_flight[team] = self._in_flight.get(team, 0.0) + seconds
        sessions = self._sessions.setdefault(team, {})
        sessions[session] = sessions.get(session, 0) + 1

    def share(self, team: TeamId) -> TeamShare:
        return self._teams.get(team) or TeamShare(team)

    def served(self, team: TeamId) -> float:
        """Virtual time, with what is under way."""
        share = self.share(team)
        return share.vtime + self._in_flight.get(team, 0.0) / share.weight

    def seconds_under_way(self, team: TeamId) -> float:
        return self._in_flight.get(team, 0.0)

    def renderers(self, team: TeamId) -> int:
        """How many renderers the team uses."""
        return len(self._sessions.get(team, ()))

    def within_quota(self, team: TeamId, session: Session) -> bool:
        return self._below(team, session, self.share(team).quota)

    def within_burst(self, team: TeamId, session: Session) -> bool:
        return self._below(team, session, self.share(team).burst)

    def _below(self, team: TeamId, session: Session, limit: int | None) -> bool:
        used = self._sessions.get(team, {})
        return limit is None or session in used or len(used) < limit


def turns(
    teams: Iterable[TeamShare], waiting: frozenset[TeamId], *, under_way: Iterable[tuple[TeamId, float]] = ()
) -> list[Rejoin | Rest]:
    """Which teams begin or cease to wait. *waiting* have something ready now; *under_way* are GPU seconds by lease."""
    shares = sorted(teams, key=lambda share: share.team)
    leased: dict[TeamId, float] = {}
    for team, seconds in under_way:
        leased[team] = leased.get(team, 0.0) + seconds
    on = [share for share in shares if share.backlogged and share.team in waiting]
    front = max(on, key=lambda share: share.vtime, default=None)
    caught_up = [_caught_up(share, front, leased.get(share.team, 0.0)) for share in on]
    served = [share.vtime + leased.get(share.team, 0.0) / share.weight for share in on]
    found: list[Rejoin | Rest] = [
        Rejoin(after.team, after.vtime) for before, after in zip(on, caught_up, strict=True) if after != before
    ]
    for share in shares:
        if share.team in waiting and not share.backlogged:
            found.append(Rejoin(share.team, _entry(share, caught_up, served)))
        elif share.backlogged and share.team not in waiting:
            found.append(Rest(share.team))
    return found


def _caught_up(share: TeamShare, front: TeamShare | None, leased: float) -> TeamShare:
    """Of a team that is too far behind the foremost, what it has missed is forgotten, down to half of `LAG`.

    What is under way is not missed. By half, so that it is not written anew at each tick.
    """
    if front is None:
        return share
    most = LAG / min(share.weight, front.weight)  # a team with little weight moves in large steps of virtual time
    behind = front.vtime - share.vtime - leased / share.weight
    return share.at(share.vtime + behind - most / 2) if behind > most else share


def _entry(share: TeamShare, on: Sequence[TeamShare], served: Sequence[float]) -> float:
    """Where a team begins that was idle: not before the least served, and not far behind the most served either, for
    what it had while it was alone was taken from nobody."""
    if not on:
        return share.vtime
    least = min(other.vtime for other in on)
    most = max(served) + LEAD / min(share.weight, *(other.weight for other in on))
    return min(max(share.vtime, least), most)
