"""Which sources to fetch next, and the fitted pictures that wait for the GPU. The renderer's lock guards it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from actors.ledger import Hand, RowRef
from schemas.order import OrderRow
from schemas.recipe import Recipe
from schemas.style import Fit


class PictureKey(NamedTuple):
    """Rows with the same key start from the same pixels."""

    sha256: str
    size: str
    fit: Fit
    background: str

    @classmethod
    def of(cls, recipe: Recipe) -> "PictureKey":
        return cls(recipe.source, recipe.size, recipe.fit, recipe.background)


@dataclass(slots=True)
class Prepared:
    picture: Image.Image
    seconds: float  # what fetching took; the first row that uses it is charged

    def charge(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


Waiting = Iterable[tuple[Hand, RowRef, OrderRow]]


class Sources:
    """Bounded: it holds only the next *window* pictures that each shard in hand needs.

    A shard has a window of its own, so that one whose weights are still on their way does not stand before the other.
    The window counts pictures, not rows: rows of many strengths share a few sources, and still fill their passes.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._prepared: dict[PictureKey, Prepared] = {}
        self._coming: set[PictureKey] = set()

    def __contains__(self, key: PictureKey) -> bool:
        return key in self._prepared

    def __getitem__(self, key: PictureKey) -> Prepared:
        return self._prepared[key]

    def visible(self, waiting: Waiting) -> Iterator[tuple[Hand, RowRef, OrderRow, PictureKey]]:
        """The rows whose pictures are here or on their way."""
        windows: dict[tuple[int, str], set[PictureKey]] = {}
        for hand, ref, row in waiting:
            key, window = PictureKey.of(row.recipe), windows.setdefault(hand.key, set())
            if key in window or len(window) < self._window:
                window.add(key)
                yield hand, ref, row, key

    def wanted(self, waiting: Waiting) -> list[tuple[PictureKey, str]]:
        """(key, link) of what to fetch now. Each is given out once, until `came` or `failed` is told."""
        needed: dict[PictureKey, str] = {}
        for hand, _, row, key in self.visible(waiting):
            needed.setdefault(key, hand.order.sources.get(row.recipe.source, ""))
        for key in self._prepared.keys() - needed.keys():
            del self._prepared[key]
        fresh = [(key, url) for key, url in needed.items() if key not in self._prepared and key not in self._coming]
        self._coming.update(key for key, _ in fresh)
        return fresh

    def came(self, key: PictureKey, picture: Image.Image, seconds: float) -> None:
        self._coming.discard(key)
        self._prepared[key] = Prepared(picture, seconds)

    def failed(self, key: PictureKey) -> None:
        self._coming.discard(key)
