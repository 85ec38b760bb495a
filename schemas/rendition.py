"""Crops and sizes that are made of a finished picture, and how a picture is cut into tiles to make it larger."""

from math import ceil
from typing import Annotated, NamedTuple

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Sent
from schemas.picture import PictureFormat
from schemas.style import Focus, Name, Size, dimensions

MAX_ENLARGEMENT = 4.0
OVERLAP = 1 / 8
"""Of a tile's side, at least, with its neighbour: where they mix."""


class Rendition(Sent):
    """A crop to an aspect such as ``4:5``, a size, or both from a size alone. Its name appears in file names."""

    name: Name
    aspect: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,2}:[1-9]\d{0,2}$")] | None = None
    size: Size | None = None
    format: PictureFormat = PictureFormat.PNG
    quality: int = Field(90, ge=1, le=100)
    focus: Focus = Focus.CENTRE

    @model_validator(mode="after")
    def _one_of_two(self) -> "Rendition":
        if (self.aspect is None) == (self.size is None):
            raise ValueError("give either an aspect, such as 4:5, or a size, such as 1080x1350")
        return self

    def crop(self, width: int, height: int) -> tuple[int, int]:
        """The largest (width, height) of its aspect inside a picture."""
        across, down = dimensions(self.size) if self.size else map(int, str(self.aspect).split(":"))
        scale = min(width / across, height / down)
        return min(width, max(1, round(across * scale))), min(height, max(1, round(down * scale)))

    def enlargement(self, width: int, height: int) -> float:
        """By what factor a picture must grow so that this one is cut from it without stretching; 1 when it is large
        enough."""
        if self.size is None:
            return 1.0
        across, down = dimensions(self.size)
        return max(1.0, across / width, down / height)


class Tile(NamedTuple):
    """Where a tile lies in the enlarged picture; its size is that of the render."""

    left: int
    top: int


def enlarged(size: str, renditions: tuple[Rendition, ...]) -> tuple[int, int] | None:
    """(width, height), multiples of 8, to which a render of *size* must grow for its renditions; None: it need not."""
    width, height = dimensions(size)
    factor = max((rendition.enlargement(width, height) for rendition in renditions), default=1.0)
    return None if factor <= 1.0 else (ceil(width * factor / 8) * 8, ceil(height * factor / 8) * 8)


def tiles(size: str, large: tuple[int, int]) -> tuple[Tile, ...]:
    """Tiles of *size* that cover *large*, row by row, evenly spread."""
    width, height = dimensions(size)
    return tuple(Tile(x, y) for y in _begins(height, large[1]) for x in _begins(width, large[0]))


def _begins(side: int, whole: int) -> list[int]:
    if whole <= side:
        return [0]
    count = ceil((whole - side * OVERLAP) / (side * (1 - OVERLAP)))
    return [round((whole - side) * number / (count - 1)) for number in range(count)]
