"""Pure: which of the waiting rows share the next UNet pass."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

OVERTAKE = 2
"""A shard that needs other weights is overtaken by at most this many younger shards that are warm, less one."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that is not begun. ``shard`` is its shard's number of arrival; rows stand in order of arrival.

    ``ready`` says that its picture is at hand. Rows whose ``weights`` are not on disk yet are left out.
    ``urgent`` rows are interactive: somebody looks at the screen.
    """

    id: Hashable
    shard: int
    weights: Hashable
    group: Hashable
    ready: bool
    urgent: bool = False

    @property
    def shares(self) -> Hashable:
        return self.weights, self.group


def chosen_weights(rows: Sequence[Waiting], warm: Hashable | None) -> Hashable | None:
    """Whose turn it is: what is warm, unless the oldest row was overtaken often enough. None when no row waits."""
    if not rows:
        return None
    oldest = min(rows, key=lambda row: row.shard)
    warm_since = min((row.shard for row in rows if row.weights == warm), default=None)
    if warm_since is None or warm_since - oldest.shard >= OVERTAKE:
        return oldest.weights
    return warm


def next_pass(rows: Sequence[Waiting], *, batch: int, warm: Hashable | None) -> tuple[Hashable, ...]:
    """The ids of the rows that go next, all with the same weights and group; empty when waiting is better.

    Urgent rows go first, whatever is warm; bulk rows fill the pass if they can. Bulk goes on while the pictures of
    urgent rows are still on their way.
    """
    first = next((row for row in rows if row.urgent and row.ready), None)
    if first is not None:
        joining = [row for row in rows if row.ready and row.shares == first.shares]
        return tuple(row.id for row in sorted(joining, key=lambda row: not row.urgent)[:batch])
    return _bulk_pass([row for row in rows if not row.urgent], batch=batch, warm=warm)


def _bulk_pass(rows: Sequence[Waiting], *, batch: int, warm: Hashable | None) -> tuple[Hashable, ...]:
    """A pass that is not full costs as much as a full one, so it goes only when no row whose picture is still on its
    way would have joined it."""
    weights = chosen_weights(rows, warm)
    groups: dict[Hashable, list[Waiting]] = {}
    for row in rows:
        if row.weights == weights:
            groups.setdefault(row.group, []).append(row)
    for members in groups.values():
        ready = [row for row in members if row.ready]
        if len(ready) >= batch or (ready and len(ready) == len(members)):
            return tuple(row.id for row in ready[:batch])
    return ()
