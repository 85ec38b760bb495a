"""What a team may use, and has used."""

from pydantic import Field

from schemas.base import Sent, Wire
from schemas.campaign import Budget, Spent


class TeamLimits(Sent):
    """Set by operators. A field that is left out stays as it is."""

    weight: float | None = Field(None, gt=0, le=1000)  # of its share of GPU time
    quota: int | None = Field(None, ge=0)  # renderers it may use at once while other teams wait; 0: no limit
    burst: int | None = Field(None, ge=0)  # renderers it may use at once when nobody else wants them; 0: no limit
    budget: Budget | None = None  # for each calendar month (UTC)
    max_renders: int | None = Field(None, ge=1)
    retention_days: int | None = Field(None, ge=0)  # pictures of ended campaigns are kept this long; 0: for ever


class Team(Wire):
    """A team as it sees itself."""

    id: str
    name: str
    weight: float
    quota: int | None
    burst: int | None
    max_renders: int
    retention_days: int | None
    budget: Budget | None
    spent: Spent  # this month
