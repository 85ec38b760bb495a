"""Where the pixels of a source go in a render. Worked out once for a source, used for all that belongs to it."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from PIL import Image

from schemas.style import Fit

CENTRE: Final = (0.5, 0.5)
ASPECT_TOLERANCE: Final = 0.01
"""By how much two aspects may differ and still be the same one: what resizing and trimming leave behind."""


class Box(NamedTuple):
    """A part of a picture, in shares of its sides."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class Inset(NamedTuple):
    """A part of the render, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """``kept`` of every picture is brought to ``inset`` of a render of ``size``."""

    size: tuple[int, int]
    kept: Box
    inset: Inset

    def cut(self, picture: Image.Image, resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
        """``kept`` of *picture*, whatever its pixel sizes are, as large as ``inset``."""
        _, _, width, height = self.inset
        return picture.resize((width, height), resampling, box=pixels(self.kept, picture.size))

    def laid(self, part: Image.Image, ground: str | int | tuple[int, ...]) -> Image.Image:
        """What `cut` gave, with *ground* as the colour of what ``inset`` leaves free: a picture of ``size``."""
        if part.size == self.size:
            return part
        whole = Image.new(part.mode, self.size, ground)
        whole.paste(part, self.inset[:2])
        return whole


def geometry(
    picture: tuple[int, int], size: tuple[int, int], fit: Fit, focus: tuple[float, float] = CENTRE
) -> Geometry:
    """Of a picture and a render, both as (width, height). *focus* says how the excess of a crop is shared out: 0 cuts
    nothing from the left (top), 1 nothing from the right (bottom)."""
    whole = Inset(0, 0, *size)
    match fit:
        case Fit.CROP:
            return Geometry(size, _largest(picture, size, focus), whole)
        case Fit.PAD:
            return Geometry(size, Box(), _inside(picture, size))
        case Fit.STRETCH:
            return Geometry(size, Box(), whole)


def pixels(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """*box* of a picture of *size*; rounding never carries it over the edge."""
    width, height = size
    return (
        max(0.0, box.left * width),
        max(0.0, box.top * height),
        min(float(width), box.right * width),
        min(float(height), box.bottom * height),
    )


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """To a hundredth, or to a pixel of the smaller one's shorter side: no closer can its sides come to the aspect."""
    small, large = sorted((one, other))
    short, long = (0, 1) if small[0] <= small[1] else (1, 0)
    ideal = small[long] * large[short] / large[long]
    return abs(small[short] - ideal) <= max(1.0, ASPECT_TOLERANCE * ideal)


def _largest(picture: tuple[int, int], size: tuple[int, int], focus: tuple[float, float]) -> Box:
    """The largest part of *picture* with the aspect of *size*."""
    scale = min(picture[0] / size[0], picture[1] / size[1])
    width, height = (min(1.0, size[axis] * scale / picture[axis]) for axis in (0, 1))
    left, top = (1.0 - width) * focus[0], (1.0 - height) * focus[1]
    return Box(left, top, min(1.0, left + width), min(1.0, top + height))


def _inside(picture: tuple[int, int], size: tuple[int, int]) -> Inset:
    scale = min(size[0] / picture[0], size[1] / picture[1])
    width, height = (max(1, min(size[axis], round(picture[axis] * scale))) for axis in (0, 1))
    return Inset((size[0] - width) // 2, (size[1] - height) // 2, width, height)
