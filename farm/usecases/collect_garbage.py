"""Objects that nothing refers to get a tombstone, and are deleted when the grace time has passed.

Why no picture in use is ever deleted: an order's links live for the link lifetime, its lease for the lease time, and
the grace is longer than both together. What was uploaded later than that nobody can have; what was uploaded before has
been reported since, for its renderer is asked every few seconds while anybody leads. So `collect` may run only under a
leader that has led for some lease times, and it looks again right before it deletes. Keys are unique to an attempt: a
key that nobody refers to is never given out again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from farm.core.garbage import (
    MOST_AT_ONCE,
    ORPHAN,
    OUTPUTS,
    RETENTION,
    Alarm,
    alarm,
    in_use,
    most_orphans,
    pictures_beside,
)
from farm.ports import Depot, SchedulerTx

Begin = Callable[[], AbstractContextManager[SchedulerTx]]
"""Begins a transaction. Each is short, and no call to the depot is made in one: it keeps the leader from renewing."""

PAGE = 1_000
"""Objects looked at, or deleted, in one bit: what a store lists, or deletes, in one call."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bit:
    """What one bit of the work came to, in objects."""

    seen: int = 0
    orphans: int = 0
    spared: int = 0
    deleted: int = 0
    alarm: Alarm | None = None


def collect(begin: Begin, depot: Depot, *, grace: timedelta, force: bool = False) -> Iterator[Bit]:
    """Walks through the depot, then deletes what is due; yields after each bit, and may be dropped at any of them.

    Tombstones outlive it, so the next call goes on where this one was dropped. With *force* an alarm stops nothing.
    """
    objects = 0
    for bit in find_orphans(begin, depot, force=force):
        objects += bit.seen
        yield bit
        if bit.alarm is not None:
            return
    yield from delete_due(begin, depot, grace=grace, objects=objects, force=force)


def find_orphans(begin: Begin, depot: Depot, *, force: bool) -> Iterator[Bit]:
    """Tombstones for what belongs to no picture, whoever is about to report it: the grace time is theirs."""
    with begin() as tx:
        pictures = tx.picture_count()
        stones = tx.tombstones(timedelta(0), MOST_AT_ONCE) if pictures == 0 else []
    pruned = {stone.key for stone in stones if stone.reason == RETENTION}  # the farm may be empty for good reason
    found = 0
    for keys in _pages((key for key, _ in depot.list(OUTPUTS)), PAGE):
        orphans = look(begin, keys, pruned)
        found += orphans
        doubt = alarm(objects=0, orphans=found, pictures=0) if pictures == 0 and not force else None
        yield Bit(seen=len(keys), orphans=orphans, alarm=doubt)
        if doubt is not None:
            return


def look(begin: Begin, keys: Sequence[str], explained: AbstractSet[str]) -> int:
    """Tombstones for those of *keys* that belong to no picture; how many that no one can explain."""
    with begin() as tx:
        used = _in_use(tx, keys)
        orphans = [key for key in keys if key not in used and key not in explained]
        if orphans:
            tx.doomed(orphans, ORPHAN)
    return len(orphans)


def delete_due(begin: Begin, depot: Depot, *, grace: timedelta, objects: int, force: bool) -> Iterator[Bit]:
    """*objects*: how many the depot holds."""
    window = most_orphans(objects) + 1
    while True:
        with begin() as tx:
            due = {stone.key: stone for stone in tx.tombstones(grace, window)}
            pictures = tx.picture_count()
        keys: list[str] = []
        for page in _pages(due, PAGE):
            bit, unused = spare_used(begin, page)
            keys += unused
            yield bit
        unexplained = sum(due[key].reason != RETENTION for key in keys)
        found = alarm(objects=objects, orphans=unexplained, pictures=pictures)
        if found is not None and not force:
            yield Bit(alarm=found)
            return
        for page in _pages(keys, PAGE):
            yield delete(begin, depot, page)
        if len(due) < window:
            return


def spare_used(begin: Begin, keys: Sequence[str]) -> tuple[Bit, list[str]]:
    """Takes the tombstones off those that came into use; returns the others."""
    with begin() as tx:
        used = _in_use(tx, keys)
        if used:
            tx.spare(sorted(used))
    return Bit(spared=len(used)), [key for key in keys if key not in used]


def delete(begin: Begin, depot: Depot, keys: Sequence[str]) -> Bit:
    """Looks again, deletes, takes the tombstones away. Dropped in between, it deletes again next time: no harm done."""
    bit, unused = spare_used(begin, keys)
    if unused:
        depot.delete(unused)
        with begin() as tx:
            tx.spare(unused)
    return Bit(spared=bit.spared, deleted=len(unused))


def _in_use(tx: SchedulerTx, keys: Sequence[str]) -> set[str]:
    pictures = {picture for key in keys for picture in pictures_beside(key)}
    return in_use(keys, tx.keys_in_use(sorted(pictures)))


def _pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
