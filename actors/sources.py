"""Which pictures to fetch next, and the prepared ones that wait for the GPU. The renderer's lock guards it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from actors.ledger import Hand, HeldRow, RowRef
from actors.prepare import Prepared, inputs_key
from schemas.order import Lane, OrderRow

KEPT_BYTES = 512 * 2**20
"""Prepared pictures that no row waits for are kept up to this size: another style may want the same sources."""

Queue = Iterable[tuple[Hand, RowRef, HeldRow]]


@dataclass(slots=True)
class Arrived:
    prepared: Prepared
    bytes: int
    seconds: float  # what fetching took; the first row that uses it is charged

    def charge(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pictures to fetch: ``row`` is one of those that need them, ``links`` leads to each by its sha256."""

    key: str
    row: OrderRow
    links: dict[str, str]
    urgent: bool


class Sources:
    """Bounded: it holds only the next *window* inputs that each shard in hand needs, and *kept_bytes* of others.

    A shard has a window of its own, so that one whose weights are still on their way does not stand before the other.
    The window counts inputs, not rows: rows of many strengths share a few sources, and still fill their passes.
    """

    def __init__(self, window: int, kept_bytes: int = KEPT_BYTES) -> None:
        self._window, self._kept_bytes = window, kept_bytes
        self._arrived: dict[str, Arrived] = {}  # in the order in which they were last needed
        self._bytes = 0
        self._coming: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._arrived

    def __getitem__(self, key: str) -> Arrived:
        return self._arrived[key]

    def visible(self, queue: Queue) -> Iterator[tuple[Hand, RowRef, HeldRow]]:
        """Rows that have begun, and those whose pictures are here or on their way."""
        windows: dict[tuple[int, str], set[str]] = {}
        for hand, ref, row in queue:
            key, window = key_of(row), windows.setdefault(hand.key, set())
            if row.making is not None:
                yield hand, ref, row
            elif key in window or len(window) < self._window:
                window.add(key)
                yield hand, ref, row

    def wanted(self, queue: Queue) -> list[Wanted]:
        """What to fetch now. Each is given out once, until `came` or `failed` is told."""
        needed: dict[str, Wanted] = {}
        for hand, _, row in self.visible(queue):
            if row.making is None and row.inputs not in needed:
                urgent = hand.order.lane is Lane.INTERACTIVE
                needed[row.inputs] = Wanted(row.inputs, row.order, hand.order.sources, urgent)
        self._forget(needed.keys())
        fresh = [each for key, each in needed.items() if key not in self._arrived and key not in self._coming]
        self._coming.update(each.key for each in fresh)
        return fresh

    def _forget(self, needed: Iterable[str]) -> None:
        """What is needed is bounded by the windows; of the rest the least recently needed leave."""
        spare = self._bytes
        for key in needed:
            if key in self._arrived:
                self._arrived[key] = arrived = self._arrived.pop(key)
                spare -= arrived.bytes
        while spare > self._kept_bytes:
            gone = self._arrived.pop(next(iter(self._arrived)))
            spare -= gone.bytes
            self._bytes -= gone.bytes

    def came(self, key: str, prepared: Prepared, seconds: float) -> None:
        self._coming.discard(key)
        self._arrived[key] = Arrived(prepared, _bytes(prepared), seconds)
        self._bytes += self._arrived[key].bytes

    def failed(self, key: str) -> None:
        self._coming.discard(key)


def key_of(row: HeldRow) -> str:
    """Kept on the row: it is asked for at every step."""
    row.inputs = row.inputs or inputs_key(row.order.recipe)
    return row.inputs


def _bytes(given: Prepared) -> int:
    pictures = [given.picture, given.mask, given.control, *(each.picture for each in given.references)]
    return sum(each.width * each.height * len(each.getbands()) for each in pictures if each is not None)
