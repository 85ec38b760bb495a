"""Budgets: who is near, who is through, and what may still start."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

from farm.core.ids import CampaignId, TeamId
from farm.core.records import SpentRow
from farm.core.words import duration
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane


@dataclass(frozen=True, slots=True)
class Purse:
    """An open campaign: what it may spend, has spent, and by when it is wanted."""

    campaign: CampaignId
    team: TeamId
    state: CampaignState
    paused_by: PausedBy | None
    lane: Lane
    priority: int
    position: float
    spent: SpentRow
    budget: Budget | None = None
    deadline: datetime | None = None
    off_peak: bool = False
    warnings: tuple[str, ...] = ()  # codes that people have been warned of
    gpu: str | None = None  # only on this type of GPU


@dataclass(frozen=True, slots=True)
class TeamPurse:
    """A team with a budget; *spent* is of the current month."""

    team: TeamId
    budget: Budget
    spent: SpentRow

    @property
    def used(self) -> float:
        """Share of the budget that is spent: of its GPU seconds or its money, whichever is nearer to its end."""
        limits = ((self.budget.gpu_seconds, self.spent.gpu_seconds), (self.budget.money, self.spent.money))
        return max((spent / limit for limit, spent in limits if limit), default=0.0)


@dataclass(frozen=True, slots=True)
class Pause:
    campaign: CampaignId
    by: PausedBy
    detail: str


@dataclass(frozen=True, slots=True)
class Resume:
    """The budget that paused it was raised, or a new month has begun."""

    campaign: CampaignId


@dataclass(frozen=True, slots=True)
class Warn:
    """People are told once; the code stays on the campaign until it no longer holds."""

    campaign: CampaignId
    code: str  # budget_near, budget_spent, team_budget_near, deadline_at_risk
    detail: str
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Unwarn:
    campaign: CampaignId
    code: str


@dataclass(frozen=True, slots=True)
class Budgets:
    """What follows from the budgets.

    ``room`` and ``team_room`` are GPU seconds that may still be started; who is not in them has no limit. A shard may
    start while there is room, however little: so what is spent in the end is above the limit by less than the shards
    under way take, and nothing waits for ever for a shard that would just fit.
    """

    decisions: tuple[Pause | Resume | Warn | Unwarn, ...]
    room: Mapping[CampaignId, float]
    team_room: Mapping[TeamId, float]


def judge_budgets(
    purses: Sequence[Purse],
    teams: Sequence[TeamPurse],
    *,
    under_way: Mapping[CampaignId, float],
    money_per_second: float,
) -> Budgets:
    """*under_way* are the GPU seconds that leased shards are expected to take; *money_per_second* is what one costs.

    A campaign that a budget has paused stays so until no cause is left. Its own budget is named before the team's: that
    is what its people can raise.
    """
    of_team = {team.team: _limits(team.budget, team.spent, money_per_second) for team in teams}
    busy: dict[TeamId, float] = {}
    for purse in purses:
        busy[purse.team] = busy.get(purse.team, 0.0) + under_way.get(purse.campaign, 0.0)
    decisions: list[Pause | Resume | Warn | Unwarn] = []
    room: dict[CampaignId, float] = {}
    for purse in purses:
        own = _limits(purse.budget, purse.spent, money_per_second)
        if own:
            room[purse.campaign] = _room(own, under_way.get(purse.campaign, 0.0))
        decisions += _decide(purse, own, of_team.get(purse.team, ()))
    team_room = {team: _room(limits, busy.get(team, 0.0)) for team, limits in of_team.items() if limits}
    return Budgets(tuple(decisions), room, team_room)


_LAST_SECOND = 1.0
_LAST_SHARE = 0.001
"""A limit counts as reached when less than a GPU second, and less than a thousandth, is left: figures are floats."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """One side of a budget: GPU seconds or money."""

    unit: str  # gpu_seconds, money
    limit: float
    spent: float
    warn_at: float
    each: float  # what a GPU second takes of it

    @property
    def left(self) -> float:
        return self.limit - self.spent

    @property
    def reached(self) -> bool:
        return self.left <= min(self.limit * _LAST_SHARE, self.each * _LAST_SECOND)

    @property
    def room(self) -> float:
        """GPU seconds."""
        if self.reached:
            return 0.0
        return self.left / self.each if self.each else inf

    @property
    def near(self) -> bool:
        return not self.reached and self.spent >= self.limit * self.warn_at

    @property
    def data(self) -> dict[str, object]:
        return {"unit": self.unit, "spent": round(self.spent, 6), "limit": self.limit}

    def __str__(self) -> str:
        if self.unit == "money":
            return f"{self.spent:,.2f} of {self.limit:,.2f}"
        return f"{duration(self.spent)} of {duration(self.limit)} of GPU time"


def _limits(budget: Budget | None, spent: SpentRow, money_per_second: float) -> list[_Limit]:
    """Without a price nothing more is spent: a limit in money then holds what has reached it, and no one else."""
    found = []
    if budget is not None and budget.gpu_seconds is not None:
        found.append(_Limit("gpu_seconds", budget.gpu_seconds, spent.gpu_seconds, budget.warn_at, 1.0))
    if budget is not None and budget.money is not None:
        found.append(_Limit("money", budget.money, spent.money, budget.warn_at, money_per_second))
    return found


def _room(limits: Sequence[_Limit], under_way: float) -> float:
    return max(0.0, min(limit.room for limit in limits) - under_way)


def _decide(purse: Purse, own: Sequence[_Limit], of_team: Sequence[_Limit]) -> Iterator[Pause | Resume | Warn | Unwarn]:
    spent = next((limit for limit in own if limit.reached), None)
    team_spent = next((limit for limit in of_team if limit.reached), None)
    paused = purse.state is CampaignState.PAUSED
    cause = None
    if spent is not None:
        cause = Pause(purse.campaign, PausedBy.BUDGET, _spent_sentence(spent))
    elif team_spent is not None:
        cause = Pause(purse.campaign, PausedBy.TEAM_BUDGET, _team_spent_sentence(team_spent))
    if purse.state is CampaignState.AWAITING_APPROVAL:
        cause = None  # nothing of it starts before people say so
    if cause is None and paused and purse.paused_by in _BUDGETS:
        yield Resume(purse.campaign)
    elif cause is not None and (not paused or purse.paused_by in _BUDGETS - {cause.by}):
        yield cause
    near = None if spent else next((limit for limit in own if limit.near), None)
    team_near = None if team_spent else next((limit for limit in of_team if limit.near), None)
    yield from _told(purse, "budget_spent", spent, _spent_sentence)
    yield from _told(purse, "budget_near", near, _near_sentence)
    yield from _told(purse, "team_budget_near", team_near, _team_near_sentence)


_BUDGETS = frozenset({PausedBy.BUDGET, PausedBy.TEAM_BUDGET})


def _told(purse: Purse, code: str, limit: _Limit | None, sentence: Callable[[_Limit], str]) -> Iterator[Warn | Unwarn]:
    if limit is not None and code not in purse.warnings:
        yield Warn(purse.campaign, code, sentence(limit), limit.data)
    elif limit is None and code in purse.warnings:
        yield Unwarn(purse.campaign, code)


def _spent_sentence(limit: _Limit) -> str:
    return f"The campaign's budget is spent ({limit}). Raise the budget and it goes on by itself."


def _near_sentence(limit: _Limit) -> str:
    return (
        f"The campaign has spent {limit} that it may, {limit.spent / limit.limit:.0%}. "
        "When all is spent it pauses: raise the budget if it shall not."
    )


def _team_spent_sentence(limit: _Limit) -> str:
    return (
        f"The team's budget for this month is spent ({limit}). The campaign goes on by itself next month, "
        "or when an operator raises the team's budget."
    )


def _team_near_sentence(limit: _Limit) -> str:
    return (
        f"The team has spent {limit} that it may this month, {limit.spent / limit.limit:.0%}. "
        "When all is spent its campaigns pause until next month: ask an operator to raise the team's budget."
    )
