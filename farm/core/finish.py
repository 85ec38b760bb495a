"""When a campaign would be done: behind its team's queue, beside the other teams, on the renderers there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from schemas.quote import Range

_WAKING = 120.0
"""Seconds until more renderers are at work, when there is more to do than those that run should take on."""

_DRAIN = 300.0
"""Seconds in which a farm that may grow aims to be through."""

_NODE_STARTS = 300.0
"""Seconds until a node that the cloud has to find is there, when it takes long."""


@dataclass(frozen=True, slots=True)
class TeamAhead:
    """The team that asks: its weight, and the GPU seconds of its own campaigns that go first."""

    weight: float
    ahead_seconds: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who shares which renderers."""

    running: int  # renderers, at least 1
    most: int
    team: TeamAhead
    others: Sequence[tuple[float, float]]  # weight and GPU seconds of each
    cold: bool = False  # none of the renderers runs yet

    def until(self, seconds: float) -> float:
        """GPU seconds that the farm spends until the team's next *seconds*, after what it has ahead, are done.

        Water-filling: while several teams have work each gets its share by weight, and what a team that is through
        leaves is shared by the others. So another team has had the less of its own work and of its share.
        """
        own = self.team.ahead_seconds + seconds
        level = own / self.team.weight
        return own + sum(min(theirs, weight * level) for weight, theirs in self.others)


def wait_for(seconds: Range, crowd: Crowd, *, least: float) -> Range:
    """Seconds until the last picture is there. A campaign takes *least* at any rate, unless it is shorter: about one
    shard.

    At best all renderers are there at once; as a rule more are woken when there is much to do; at worst none are.
    """
    return Range(
        low=max(crowd.until(seconds.low) / crowd.most, min(least, seconds.low)),
        expected=max(_growing(seconds.expected, crowd), min(least, seconds.expected)) + (_WAKING if crowd.cold else 0),
        high=max(crowd.until(seconds.high) / crowd.running, min(least, seconds.high))
        + (_NODE_STARTS if crowd.cold else 0),
    )


def _growing(seconds: float, crowd: Crowd) -> float:
    """With the renderers that run, and after a while with as many as the work calls for."""
    work = crowd.until(seconds)
    wanted = min(crowd.most, max(crowd.running, ceil(work / _DRAIN)))
    begun = min(work, crowd.running * _WAKING)
    return begun / crowd.running + (work - begun) / wanted
