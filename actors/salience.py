"""Where a picture draws the eye: by its spectral residual, and to faces.

X. Hou, L. Zhang: Saliency Detection: A Spectral Residual Approach, CVPR 2007. What the amplitudes of a picture's
spectrum have beyond their local average is what stands out in it. Faces seen from the front are found by scikit-image's
cascade of local binary patterns; each counts as much as all the rest of the picture.
"""

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.geometry import CENTRE

SIDE: Final = 64
"""The scale at which the paper looks at a picture."""

_RIM: Final = 2  # cells: the transform sees an edge where the picture ends
_POSITIONS: Final = 65
_AS_GOOD: Final = 0.98
"""A crop nearer to the centre that shows this share of what the best one does is taken instead."""

_FACE_SIDE: Final = 256
"""Faces are looked for in a picture of this size, from a tenth of it on: 50 to 80 ms."""

Map = NDArray[np.float64]


class Box(NamedTuple):
    """In parts of the width and height of a picture."""

    left: float
    top: float
    right: float
    bottom: float


def faces(picture: Image.Image) -> list[Box]:
    small = picture.convert("RGB")
    small.thumbnail((_FACE_SIDE, _FACE_SIDE))
    width, height = small.size
    least = _FACE_SIDE // 10
    if min(width, height) <= least:
        return []
    found = _cascade().detect_multi_scale(
        np.asarray(small), scale_factor=1.2, step_ratio=1, min_size=(least, least), max_size=(width, height)
    )
    return [
        Box(
            face["c"] / width,
            face["r"] / height,
            (face["c"] + face["width"]) / width,
            (face["r"] + face["height"]) / height,
        )
        for face in found
    ]


@cache
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]


def salience(picture: Image.Image) -> Map:
    """(64, 64), fp64, not negative. *picture* is RGB."""
    found = _standing_out(picture)
    whole = max(float(found.sum()), 1e-9)
    for box in faces(picture):
        left, top, right, bottom = (round(edge * SIDE) for edge in box)
        cells = found[top : max(bottom, top + 1), left : max(right, left + 1)]
        cells += whole / cells.size
    return found


def _standing_out(picture: Image.Image) -> Map:
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX).convert("YCbCr")
    channels = np.moveaxis(np.asarray(small, dtype=np.float64), 2, 0)
    found = np.zeros((SIDE, SIDE))
    for channel in channels:
        spread = float(channel.std())
        if spread > 0.5:  # the residual of a flat channel is noise
            found += spread * _residual(channel)
    inner = np.zeros_like(found)
    inner[_RIM:-_RIM, _RIM:-_RIM] = found[_RIM:-_RIM, _RIM:-_RIM]
    return inner


def focus(picture: Image.Image, aspect: tuple[int, int]) -> tuple[float, float]:
    """How the excess of a crop to *aspect* (width, height) is shared out, as `geometry` takes it."""
    width, height = picture.size
    share = (aspect[0] / aspect[1]) / (width / height)  # of the width that the crop keeps; above 1: of the height
    if share == 1:
        return CENTRE
    found = salience(picture)
    if share < 1:
        return _best(found.sum(axis=0), share), CENTRE[1]
    return CENTRE[0], _best(found.sum(axis=1), 1 / share)


def _best(line: Map, share: float) -> float:
    """The excess before the window of *share* of *line* that holds most, nearest to the middle among the good ones."""
    total = float(line.sum())
    if total <= 0:
        return CENTRE[0]
    edges, summed = np.linspace(0, 1, len(line) + 1), np.concatenate([[0.0], np.cumsum(line)])
    places = np.linspace(0, 1, _POSITIONS)
    begins = places * (1 - share)
    held = np.interp(begins + share, edges, summed) - np.interp(begins, edges, summed)
    good = places[held >= held.max() * _AS_GOOD]
    return float(good[np.argmin(np.abs(good - CENTRE[0]))])


def _residual(channel: Map) -> Map:
    spectrum = np.fft.fft2(channel)
    amplitude = np.abs(spectrum)
    logarithm = np.log(amplitude + 1e-9)
    phase = spectrum / (amplitude + 1e-9)
    found: Map = np.abs(np.fft.ifft2(np.exp(logarithm - _average(logarithm)) * phase)) ** 2
    return _smooth(found)


def _average(values: Map) -> Map:
    """Over 3 x 3; a spectrum has no edges, it goes round."""
    rows = np.roll(values, 1, 0) + values + np.roll(values, -1, 0)
    whole: Map = (np.roll(rows, 1, 1) + rows + np.roll(rows, -1, 1)) / 9
    return whole


def _smooth(values: Map) -> Map:
    """By a Gaussian of 2 cells, multiplied in the spectrum."""
    waves = np.exp(-2 * (np.pi * 2.0 * np.fft.fftfreq(SIDE)) ** 2)
    found: Map = np.maximum(np.fft.ifft2(np.fft.fft2(values) * np.outer(waves, waves)).real, 0.0)
    return found
