"""Cutting a campaign into shards, and a shard that loses renderers into halves."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from farm.core.campaign import recipe_at
from farm.core.fingerprint import engine_digest
from farm.core.matrix import count, runs
from farm.core.records import NewShard
from schemas.campaign import ResolvedCampaign
from schemas.recipe import Recipe

MAX_SHARDS = 4_000
"""Above it shards grow instead: submitting stays one short statement, however large the campaign."""

MAX_LINKS = 1_500
"""In an order, for what its renders leave behind. So many are signed in a tenth of a second."""

LINKS = 3
"""Of a render: picture, thumbnail, provenance. Each rendition has one more."""

MAX_RENDERS = MAX_LINKS // LINKS
"""Of one shard."""

MAX_SECONDS = 900.0
"""Of one shard, however large its campaign and however often its pictures miss their checks: the links in an order
must outlive two of them."""

Ranges = tuple[tuple[int, int], ...]
"""Ordinals as sorted, disjoint [lo, hi) ranges."""


PROOF_SECONDS = 10.0
"""Of a shard of a proof, at most: a proof is looked at while somebody waits, so many renderers share it."""

SHARD_EDGES: frozenset[tuple[str, str]] = frozenset(
    {
        ("held", "ready"),  # the proof was approved
        ("held", "cancelled"),
        ("ready", "leased"),
        ("ready", "done"),  # all of it was rendered before, or by a renderer whose lease was taken from it
        ("ready", "cancelled"),
        ("leased", "ready"),  # the lease was lost, or the offer was
        ("leased", "done"),  # every render has an outcome, or waits in a child
        ("leased", "cancelled"),
        ("cancelled", "done"),  # a late report still counted
    }
)


def cut(
    campaign: ResolvedCampaign,
    seconds_of: Callable[[Recipe], float],
    target_seconds: float,
    *,
    proof: Sequence[int] = (),
) -> list[NewShard]:
    """Shards that tile the campaign, each within one engine key and about *target_seconds* of GPU time long.

    With a proof, its ordinals stand in small shards of their own that are ready; all others are held. The cost of a
    stretch is taken from its middle render: within a stretch only the strength changes it.
    """
    shards: list[NewShard] = []
    at_least = -(-count(campaign) // MAX_SHARDS)
    longest = MAX_LINKS // (LINKS + len(campaign.output.renditions))
    first = sorted(set(proof))
    for run in runs(campaign):
        mine = first[bisect_left(first, run.lo) : bisect_left(first, run.hi)]
        rest = _gaps(run.lo, run.hi, mine)
        recipe = recipe_at(campaign, (run.lo + run.hi) // 2)
        seconds = seconds_of(recipe)
        step = seconds / max(recipe.unet_steps, 1)
        engine_key = engine_digest(recipe.engine_key)
        most = min(longest, _most(max(seconds, recipe.most_steps * step)))
        small = _pieces(ranges_of(mine), _width(seconds, min(target_seconds, PROOF_SECONDS), 1, most))
        large = _pieces(rest, _width(seconds, target_seconds, at_least, most))
        shards += [NewShard(todo, engine_key, recipe.checkpoint, seconds, "ready", step) for todo in small]
        state = "held" if first else "ready"
        shards += [NewShard(todo, engine_key, recipe.checkpoint, seconds, state, step) for todo in large]
    return shards


def _width(seconds: float, target_seconds: float, at_least: int, most: int) -> int:
    """How many renders of *seconds* each make a shard."""
    return max(1, min(most, max(at_least, round(target_seconds / max(seconds, 1e-6)))))


def _most(seconds: float) -> int:
    """How many renders a shard may have, when each takes *seconds* at the worst."""
    return max(1, int(MAX_SECONDS / max(seconds, 1e-6)))


def _gaps(lo: int, hi: int, taken: Sequence[int]) -> Ranges:
    """What *taken*, sorted, leaves of [lo, hi)."""
    edges = [lo, *(edge for ordinal in taken for edge in (ordinal, ordinal + 1)), hi]
    return tuple((begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end)


def _pieces(ranges: Ranges, width: int) -> Iterator[Ranges]:
    """Equal pieces of at most *width* ordinals: no short tail that costs a dispatch of its own."""
    size = size_of(ranges)
    pieces = -(-size // width)
    left = list(reversed(ranges))
    for piece in range(pieces):
        wanted = size * (piece + 1) // pieces - size * piece // pieces
        found: list[tuple[int, int]] = []
        while wanted:
            lo, hi = left.pop()
            middle = min(hi, lo + wanted)
            found.append((lo, middle))
            wanted -= middle - lo
            if middle < hi:
                left.append((middle, hi))
        yield tuple(found)


def size_of(ranges: Ranges) -> int:
    return sum(hi - lo for lo, hi in ranges)


def ordinals_of(ranges: Ranges) -> list[int]:
    return [ordinal for lo, hi in ranges for ordinal in range(lo, hi)]


def ranges_of(ordinals: Sequence[int]) -> Ranges:
    """The fewest ranges that hold exactly *ordinals*."""
    ordered = sorted(set(ordinals))
    if not ordered:
        return ()
    found: list[tuple[int, int]] = []
    lo = hi = ordered[0]
    for ordinal in ordered:
        if ordinal != hi:
            found.append((lo, hi))
            lo = ordinal
        hi = ordinal + 1
    return (*found, (lo, hi))


def contains(ranges: Ranges, ordinal: int) -> bool:
    for lo, hi in ranges:  # noqa: SIM110  (a generator takes twice as long, and this is asked of every render)
        if lo <= ordinal < hi:
            return True
    return False


def minus(ranges: Ranges, ordinals: Sequence[int]) -> Ranges:
    """In steps of ranges, not of ordinals: a shard of hundreds is left by fifty at a time."""
    left: list[tuple[int, int]] = []
    gone = list(reversed(ranges_of(ordinals)))
    for lo, hi in ranges:
        at = lo
        while gone and at < hi and gone[-1][0] < hi:
            first, end = gone[-1]
            if at < first:
                left.append((at, first))
            at = max(at, min(end, hi))
            if end <= hi:
                gone.pop()
        if at < hi:
            left.append((at, hi))
    return tuple(left)


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


PATIENCE = 3
"""Leases that a shard may lose before it is halved, and one render before it is given up."""


def travels_alone(*, lost: int, width: int) -> bool:
    """Whether it is one render under suspicion: beside another shard its next loss would prove nothing."""
    return lost >= PATIENCE and width == 1


def after_lost_lease(*, lost: int, width: int, patience: int = PATIENCE) -> Requeue | Bisect | Poisoned:
    """What becomes of a shard whose lease ended with its renderer for the *lost*-th time.

    Most losses say nothing of the shard (a node went away), so *patience* of them are free. After that it is halved
    at each loss, until the render that kills stands alone and is given up after as many losses again.
    """
    if lost < patience:
        return Requeue()
    if width > 1:
        return Bisect()
    return Requeue() if lost < 2 * patience else Poisoned()
