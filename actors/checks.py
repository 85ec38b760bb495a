"""What is measured of a picture, and what follows: keep it, try again, or give up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from schemas.report import Failure, FailureKind, TriedSeed
from schemas.style import Checks

SIDE: Final = 512
"""Longer pictures are compared at this size: SSIM looks at 7 x 7 pixels, and structure as people see it is larger."""

COLOUR_SIDE: Final = 128
"""Of the grid of pixels whose colours are measured: 16,384 of them tell the mean to a tenth."""

BLANK: Final = 1.0
"""Standard deviation in levels below which a channel shows nothing."""

BLANK_MISS: Final = "blank"
NOT_FINITE_MISS: Final = "not_finite"
_DIGITS: Final = 4
_THRESHOLDS: Final = ("structure", "edges", "identity", "delta_e")

Plane = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Keep:
    index: int


@dataclass(frozen=True, slots=True)
class Again:
    """``number`` of the next try; the first was 0."""

    number: int


@dataclass(frozen=True, slots=True)
class Fail:
    failure: Failure


def verdict(tries: Sequence[TriedSeed], checks: Checks | None) -> Keep | Again | Fail:
    """After the last of *tries*, of which there is at least one."""
    if not tries[-1].missed:
        return Keep(len(tries) - 1)
    if checks is not None and len(tries) <= checks.rerolls:
        return Again(len(tries))
    index = best(tries)
    if _empty(tries[index]):
        return Fail(_failure(tries))
    return Keep(index)


def best(tries: Sequence[TriedSeed]) -> int:
    """One that shows something, with the fewest misses, then with the most structure; the first of equals."""

    def rank(index: int) -> tuple[bool, int, float]:
        tried = tries[index]
        return _empty(tried), len(tried.missed), -(tried.structure or 0.0)

    return min(range(len(tries)), key=rank)


def measured(
    picture: Image.Image, source: Image.Image, *, seed: int, checks: Checks | None, identity: float | None, blank: bool
) -> TriedSeed:
    """*picture* and *source* are RGB of the same size; *identity* is the engine's cosine. *blank*: it shows nothing."""
    before, after = _luminance(source), _luminance(picture)
    structure = _similarity(before, after, 255.0)
    found = TriedSeed(
        seed=seed,
        structure=structure,
        edges=_similarity(_edges(before), _edges(after), 1.0),
        identity=structure if identity is None else round(identity, _DIGITS),
        identity_by="structure" if identity is None else "embedding",
        delta_e=delta_e(picture, checks.palette) if checks and checks.palette else None,
        phash=phash(picture),
    )
    missed = (BLANK_MISS, *_asked(checks)) if blank else _missed(found, checks)
    return found.model_copy(update={"missed": missed})


def not_finite(seed: int, checks: Checks | None) -> TriedSeed:
    """A try of which the engine had no pixels to show."""
    return TriedSeed(seed=seed, missed=(NOT_FINITE_MISS, *_asked(checks)))


def blank(picture: Image.Image, source: Image.Image) -> bool:
    """Nearly no variance, where the source had some."""
    return _spread(picture) < BLANK <= _spread(source)


def delta_e(picture: Image.Image, palette: Sequence[str]) -> float:
    """CIEDE2000 from each pixel of a regular grid to the nearest colour of *palette*, on average."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    # Picked, not averaged: between two colours of the palette lies one that is not of it.
    lab = rgb2lab(np.asarray(_reduced(picture, COLOUR_SIDE, Image.Resampling.NEAREST)) / 255.0)
    colours = [rgb2lab(np.array([[ImageColor.getrgb(colour)[:3]]]) / 255.0) for colour in palette]
    nearest = np.min([deltaE_ciede2000(lab, colour) for colour in colours], axis=0)  # type: ignore[no-untyped-call]
    return round(float(nearest.mean()), _DIGITS)


def phash(picture: Image.Image) -> str:
    """16 hex digits: the signs of its lowest frequencies."""
    import imagehash

    return str(imagehash.phash(picture))


def _missed(found: TriedSeed, checks: Checks | None) -> tuple[str, ...]:
    if checks is None:
        return ()
    missed = [
        name for name in ("structure", "edges", "identity") if _below(getattr(found, name), getattr(checks, name))
    ]
    if checks.delta_e is not None and found.delta_e is not None and found.delta_e > checks.delta_e:
        missed.append("delta_e")
    return tuple(missed)


def _below(value: float | None, least: float | None) -> bool:
    return least is not None and value is not None and value < least


def _asked(checks: Checks | None) -> tuple[str, ...]:
    return tuple(name for name in _THRESHOLDS if checks is not None and getattr(checks, name) is not None)


def _empty(tried: TriedSeed) -> bool:
    return bool({BLANK_MISS, NOT_FINITE_MISS}.intersection(tried.missed))


def _failure(tries: Sequence[TriedSeed]) -> Failure:
    count = "The picture" if len(tries) == 1 else f"Each of {len(tries)} pictures"
    if any(NOT_FINITE_MISS in tried.missed for tried in tries):
        detail = f"{count} came out without finite numbers, or showed nothing."
        return Failure(kind=FailureKind.BAD_PICTURE, code="picture_not_finite", detail=detail)
    return Failure(kind=FailureKind.BAD_PICTURE, code="picture_blank", detail=f"{count} shows nothing but one colour.")


def _reduced(picture: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), resampling)


def _luminance(picture: Image.Image) -> Plane:
    return np.asarray(_reduced(picture.convert("L"), SIDE, Image.Resampling.BOX), dtype=np.float64)


def _edges(luminance: Plane) -> Plane:
    """The magnitude of Sobel's gradient, 0 to 1."""
    from skimage.filters import sobel

    return np.asarray(sobel(luminance / 255.0), dtype=np.float64)  # type: ignore[no-untyped-call]


def _similarity(one: Plane, other: Plane, span: float) -> float | None:
    """SSIM, where there is room for one of its windows."""
    from skimage.metrics import structural_similarity

    if min(one.shape) < 7:
        return None
    found = structural_similarity(one, other, data_range=span)  # type: ignore[no-untyped-call]
    return round(float(found), _DIGITS)


def _spread(picture: Image.Image) -> float:
    pixels = np.asarray(_reduced(picture, SIDE, Image.Resampling.NEAREST), dtype=np.float64)
    return float(pixels.std(axis=(0, 1)).max())
