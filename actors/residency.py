"""Pure: which weights lie where, when there is not room for all.

Three tiers: the GPU, RAM, and what is below them, from where a thing can be had again. What is needed now is pinned:
it lies in RAM at the worst, and on the GPU if it can. What the next shard needs comes before what was merely used.
The rest leaves, least recently used first, and only as much of it as must.
"""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Resident:
    """Something that takes up room. ``used`` grows with each use; equal values leave in the order of their names."""

    name: str
    bytes: int
    used: float


def leaving(
    residents: Iterable[Resident], *, budget_bytes: int, pinned: AbstractSet[str] = frozenset()
) -> tuple[str, ...]:
    """Who must go so that the rest fit into *budget_bytes*, in the order of leaving.

    What is pinned stays, even if it alone is more than the budget: a render under way needs it.
    """
    held = list(residents)
    excess = sum(resident.bytes for resident in held) - budget_bytes
    gone: list[str] = []
    for resident in sorted(held, key=lambda r: (r.used, r.name)):
        if excess <= 0:
            break
        if resident.name not in pinned:
            gone.append(resident.name)
            excess -= resident.bytes
    return tuple(gone)


class Tier(IntEnum):
    """Where a thing lies; more is nearer to the work."""

    BELOW = 0  # on disk, or not copied at all
    RAM = 1
    GPU = 2


class Need(IntEnum):
    PAST = 0  # it was used
    NEXT = 1  # the next shard will use it
    NOW = 2  # the merge at hand uses it, or cannot be undone without it


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    bytes: int
    at: Tier
    used: float = 0.0  # grows with each use
    need: Need = Need.PAST


@dataclass(frozen=True, slots=True)
class Move:
    name: str
    to: Tier


def plan(items: Iterable[Item], budgets: Mapping[Tier, int]) -> tuple[Move, ...]:
    """The fewest moves after which the budgets hold and what is needed is near. Room is made before it is taken.

    Without a budget for the GPU there is none. The budget of RAM is exceeded only by what is needed now.
    """
    given = {item.name: item for item in items}
    placed = _on_gpu(given, budgets[Tier.GPU]) if Tier.GPU in budgets else dict(given)
    placed = _in_ram(placed, budgets[Tier.RAM])
    moves = [Move(name, item.at) for name, item in placed.items() if item.at != given[name].at]
    return tuple(sorted(moves, key=lambda move: (move.to > given[move.name].at, move.to, move.name)))


def _on_gpu(items: Mapping[str, Item], budget: int) -> dict[str, Item]:
    placed = dict(items)
    now = [item for item in items.values() if item.need is Need.NOW]
    chosen = _chosen(now, Tier.GPU, budget)
    for item in now:
        if item.name in chosen and item.at is not Tier.GPU:
            placed[item.name] = replace(item, at=Tier.GPU)
        elif item.name not in chosen and item.at is Tier.GPU:
            placed[item.name] = replace(item, at=Tier.RAM)
    return _without_excess(placed, Tier.GPU, budget, chosen)


def _in_ram(items: Mapping[str, Item], budget: int) -> dict[str, Item]:
    placed = dict(items)
    for item in items.values():
        if item.need is Need.NOW and item.at is Tier.BELOW:
            placed[item.name] = replace(item, at=Tier.RAM)
    pinned = {item.name for item in placed.values() if item.need is Need.NOW and item.at is Tier.RAM}
    room = budget - sum(placed[name].bytes for name in pinned)
    following = [item for item in placed.values() if item.need is Need.NEXT and item.at is not Tier.GPU]
    chosen = _chosen(following, Tier.RAM, room)
    for item in following:
        placed[item.name] = replace(item, at=Tier.RAM if item.name in chosen else Tier.BELOW)
    return _without_excess(placed, Tier.RAM, budget, pinned | chosen)


def _chosen(items: Collection[Item], tier: Tier, room: int) -> set[str]:
    """Who may be there: first who is there already, so that nothing is moved to and fro."""
    chosen: set[str] = set()
    for item in sorted(items, key=lambda i: (i.at is not tier, -i.used, i.name)):
        if item.bytes <= room:
            chosen.add(item.name)
            room -= item.bytes
    return chosen


def _without_excess(items: dict[str, Item], tier: Tier, budget: int, pinned: AbstractSet[str]) -> dict[str, Item]:
    """What the next shard needs leaves last of those that may."""
    there = [item for item in items.values() if item.at is tier]
    order = {item.name: n for n, item in enumerate(sorted(there, key=lambda i: (i.need, i.used, i.name)))}
    residents = (Resident(item.name, item.bytes, order[item.name]) for item in there)
    for name in leaving(residents, budget_bytes=budget, pinned=pinned):
        items[name] = replace(items[name], at=Tier(tier - 1))
    return items
