"""Pure: which rows go through the UNet next, and which waiting rows join them.

Rows of one group and one state of the weights share a pass; together the two are a place. Rows join a place and leave
it at any step. A group holds rows of one state of the weights at a time, and all rows under way have one checkpoint.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Id = TypeVar("Id", bound=Hashable)
G = TypeVar("G", bound=Hashable)

OVERTAKE = 2
"""A shard that could begin elsewhere is overtaken by at most this many younger shards, less one."""


class Place(NamedTuple, Generic[G]):
    checkpoint: Hashable
    weights: Hashable  # the checkpoint and the LoRAs in it
    group: G


@dataclass(frozen=True, slots=True)
class Packed(Generic[Id, G]):
    """A row that waits or is under way. ``shard`` is its shard's number of arrival; rows stand in order of arrival.

    ``ready`` says that its picture is at hand. Rows whose weights are not on disk yet are left out.
    ``urgent`` rows are interactive: somebody looks at the screen. ``steps``: how many it still takes.
    """

    id: Id
    shard: int
    place: Place[G]
    ready: bool = True
    urgent: bool = False
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Turn(Generic[Id, G]):
    """The rows of ``joining`` begin at ``place``; then all that are there take a step."""

    place: Place[G]
    joining: tuple[Id, ...]


def next_turn(
    waiting: Sequence[Packed[Id, G]],
    active: Sequence[Packed[Id, G]],
    *,
    capacity: Callable[[G], int],
    warm: Place[G] | None,
) -> Turn[Id, G] | None:
    """None when waiting is better. *warm* names the weights that are loaded (its group does not matter).

    Urgent rows go first, and bulk rows that are under way elsewhere pause. Where that cannot be (another checkpoint,
    or other weights in the same group), what is under way is finished and no bulk row joins.
    """
    urgent = [row.place for row in (*active, *waiting) if row.urgent and row.ready]
    blocked = next((place for place in urgent if _blockers(place, active)), None)
    for place in urgent:
        if not _blockers(place, active):
            return Turn(place, _joining(place, waiting, active, capacity, bulk=blocked is None))
    if blocked is not None:
        return Turn(_first(_blockers(blocked, active), warm), ())
    if active:
        place = _first(active, warm)
    else:
        start = _start(waiting, capacity, warm)
        if start is None:
            return None
        place = start
    return Turn(place, _joining(place, waiting, active, capacity, bulk=True))


def going_on(
    active: Sequence[Packed[Id, G]], *, capacity: Callable[[G], int], warm: Place[G] | None
) -> Place[G] | None:
    """Where the next step is taken whatever bulk waits, as nobody could join there. None: look at the queue.

    It is for when nothing urgent is in hand; `next_turn` would say the same, at the price of a walk through the queue.
    """
    if not active:
        return None
    place = _first(active, warm)
    return place if sum(row.place.group == place.group for row in active) >= capacity(place.group) else None


def _blockers(place: Place[G], active: Iterable[Packed[Id, G]]) -> list[Packed[Id, G]]:
    """Rows under way that would be lost, or meet the wrong weights, if *place* took a step."""
    others = [row for row in active if row.place.checkpoint != place.checkpoint]
    return others or [row for row in active if row.place.group == place.group and row.place != place]


def _first(rows: Sequence[Packed[Id, G]], warm: Place[G] | None) -> Place[G]:
    """What needs no loading, then what is oldest."""
    return min(rows, key=lambda row: (not _is_warm(row.place, warm), row.shard)).place


def _is_warm(place: Place[G], warm: Place[G] | None) -> bool:
    return warm is not None and place.weights == warm.weights


def _joining(
    place: Place[G],
    waiting: Sequence[Packed[Id, G]],
    active: Sequence[Packed[Id, G]],
    capacity: Callable[[G], int],
    *,
    bulk: bool,
) -> tuple[Id, ...]:
    """Who takes the free rows of a pass: urgent rows, then bulk if it may. Bulk that would overtake too far stays.

    Of a shard the longest rows go first: short ones fill the passes at its end, which would be half empty otherwise.
    """
    free = capacity(place.group) - sum(row.place.group == place.group for row in active)
    elsewhere = [row for row in (*active, *_startable(waiting, capacity)) if row.place != place and not row.urgent]
    barrier = min((row.shard for row in elsewhere), default=None)
    may = [
        row
        for row in waiting
        if row.place == place
        and row.ready
        and (row.urgent or (bulk and (barrier is None or row.shard < barrier + OVERTAKE)))
    ]
    return tuple(row.id for row in sorted(may, key=lambda row: (not row.urgent, row.shard, -row.steps))[: max(0, free)])


def _start(waiting: Sequence[Packed[Id, G]], capacity: Callable[[G], int], warm: Place[G] | None) -> Place[G] | None:
    """Where bulk begins when nothing is under way: where it is warm, unless the oldest was overtaken often enough."""
    rows = _startable(waiting, capacity)
    if not rows:
        return None
    limit = min(row.shard for row in rows) + OVERTAKE
    best = min(
        (row for row in rows if row.shard < limit),
        key=lambda row: (not _is_warm(row.place, warm), not _fits(row.place, warm), row.shard),
    ).place
    if warm is not None and not _fits(best, warm):
        late = (row for row in waiting if not row.urgent and row.shard < limit and _fits(row.place, warm))
        if any(late):  # a checkpoint is not given up for a picture that is a moment late
            return None
    return best


def _fits(place: Place[G], warm: Place[G] | None) -> bool:
    return warm is not None and place.checkpoint == warm.checkpoint


def _startable(waiting: Iterable[Packed[Id, G]], capacity: Callable[[G], int]) -> list[Packed[Id, G]]:
    """Bulk rows that are ready, of places where a pass may begin.

    A pass that is not full costs as much as a full one, so it begins only when no row whose picture is still on its
    way would have joined it.
    """
    places: dict[Place[G], list[Packed[Id, G]]] = {}
    for row in waiting:
        if not row.urgent:
            places.setdefault(row.place, []).append(row)
    found: list[Packed[Id, G]] = []
    for place, members in places.items():
        ready = [row for row in members if row.ready]
        if len(ready) == len(members) or len(ready) >= capacity(place.group):
            found += ready
    return found
