"""Pure: which weights stay where there is room for some. Least recently used leave first."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


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
