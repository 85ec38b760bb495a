"""Cutting a campaign into shards, and a shard that loses renderers into halves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farm.core.campaign import recipe_at
from farm.core.fingerprint import engine_digest
from farm.core.ids import Ordinal
from farm.core.matrix import count, runs
from farm.core.records import NewShard
from schemas.campaign import ResolvedCampaign
from schemas.recipe import Recipe

MAX_SHARDS = 4_000
"""Above it shards grow instead: submitting stays one short statement, however large the campaign."""

MAX_RENDERS = 500
"""Of one shard. An order of so many is written in a tenth of a second."""

MAX_SECONDS = 900.0
"""Of one shard, however large its campaign: the links in an order must outlive two of them."""

Ranges = tuple[tuple[int, int], ...]
"""Ordinals as sorted, disjoint [lo, hi) ranges."""


def cut(campaign: ResolvedCampaign, seconds_of: Callable[[Recipe], float], target_seconds: float) -> list[NewShard]:
    """Shards that tile the campaign, each within one engine key and about *target_seconds* of GPU time long.

    The cost of a stretch is taken from its middle render: within a stretch only the strength changes it.
    """
    shards: list[NewShard] = []
    at_least = -(-count(campaign) // MAX_SHARDS)
    for run in runs(campaign):
        recipe = recipe_at(campaign, (run.lo + run.hi) // 2)
        seconds = seconds_of(recipe)
        longest = max(1, min(MAX_RENDERS, int(MAX_SECONDS / max(seconds, 1e-6))))
        wanted = max(1, min(longest, max(at_least, round(target_seconds / max(seconds, 1e-6)))))
        pieces = max(1, -(-(run.hi - run.lo) // wanted))
        engine_key, width = engine_digest(recipe.engine_key), run.hi - run.lo
        for piece in range(pieces):  # equal pieces: no short tail that costs a dispatch of its own
            lo, hi = run.lo + width * piece // pieces, run.lo + width * (piece + 1) // pieces
            shards.append(NewShard(Ordinal(lo), Ordinal(hi), engine_key, recipe.checkpoint, seconds))
    return shards


def size_of(ranges: Ranges) -> int:
    return sum(hi - lo for lo, hi in ranges)


def ordinals_of(ranges: Ranges) -> list[int]:
    return [ordinal for lo, hi in ranges for ordinal in range(lo, hi)]


def ranges_of(ordinals: Sequence[int]) -> Ranges:
    """The fewest ranges that hold exactly *ordinals*."""
    found: list[tuple[int, int]] = []
    for ordinal in sorted(set(ordinals)):
        if found and found[-1][1] == ordinal:
            found[-1] = (found[-1][0], ordinal + 1)
        else:
            found.append((ordinal, ordinal + 1))
    return tuple(found)


def contains(ranges: Ranges, ordinal: int) -> bool:
    return any(lo <= ordinal < hi for lo, hi in ranges)


def minus(ranges: Ranges, ordinals: Sequence[int]) -> Ranges:
    gone = set(ordinals)
    return ranges_of([ordinal for ordinal in ordinals_of(ranges) if ordinal not in gone])


def halves(ranges: Ranges) -> tuple[Ranges, Ranges]:
    """Two shards where there was one; of the two, one does not hold the poison. Needs at least two ordinals."""
    ordinals = ordinals_of(ranges)
    middle = len(ordinals) // 2
    return ranges_of(ordinals[:middle]), ranges_of(ordinals[middle:])


@dataclass(frozen=True, slots=True)
class Requeue:
    """It goes back as it is."""


@dataclass(frozen=True, slots=True)
class Bisect:
    """It goes back as two."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Its one render has taken renderer after renderer down: that render has failed."""


def after_lost_lease(*, lost: int, width: int, patience: int = 3) -> Requeue | Bisect | Poisoned:
    """What becomes of a shard whose lease ended with its renderer for the *lost*-th time.

    Most losses say nothing of the shard (a node went away), so *patience* of them are free. After that it is halved
    at each loss, until the render that kills stands alone and is given up after as many losses again.
    """
    if lost < patience:
        return Requeue()
    if width > 1:
        return Bisect()
    return Requeue() if lost < 2 * patience else Poisoned()
