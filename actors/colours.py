"""Colours of a source: its profile, what shines through it, its levels, its white."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from schemas.style import Prepare

CLIPPED: Final = 0.01
"""Share of the pixels that becomes black, and that becomes white, when levels are set."""

_LEAST_RANGE: Final = 16
"""Levels. A picture with fewer between its darkest and brightest is flat on purpose; stretching it shows its noise."""

_MOST_GAIN: Final = 2.0
"""A cast needs less; a red wall that becomes grey would need more."""

_LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB, IEC 61966-2-1
Values = NDArray[np.float64]

_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_WITH_ALPHA: Final = ("RGBA", "LA", "PA", "RGBa", "La")


def overlaid(picture: Image.Image, prepare: Prepare) -> Image.Image:
    """RGBA in sRGB, white balance and levels as *prepare* says. Transparent pixels have no say in them."""
    colours, alpha = _parts(picture)
    seen = None if alpha is None else alpha.point(lambda value: 255 if value >= 128 else 0)
    if prepare.white_balance:
        colours = _balanced(colours, seen)
    if prepare.auto_levels:
        colours = _levelled(colours, seen)
    colours.putalpha(255 if alpha is None else alpha)
    return colours


def flat(picture: Image.Image, background: str, prepare: Prepare) -> Image.Image:
    """RGB in sRGB, with what is transparent filled with *background*."""
    if not prepare.white_balance and not prepare.auto_levels and not _transparent(picture):
        return _parts(picture)[0]
    over = overlaid(picture, prepare)
    ground = Image.new("RGB", over.size, background)
    ground.paste(over.convert("RGB"), mask=over.getchannel("A"))
    return ground


def grey(picture: Image.Image) -> Image.Image:
    """L. What is transparent is black; a profile has no say in a mask."""
    colours, alpha = _parts(picture, with_profile=False)
    shade = colours.convert("L")
    if alpha is None:
        return shade
    ground = Image.new("L", shade.size, 0)
    ground.paste(shade, mask=alpha)
    return ground


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in _WITH_ALPHA or "transparency" in picture.info


def _parts(picture: Image.Image, *, with_profile: bool = True) -> tuple[Image.Image, Image.Image | None]:
    """(RGB in sRGB, alpha or None when nothing shines through)."""
    if picture.mode.startswith(("I", "F")):
        return _from_deep_grey(picture), None
    icc = picture.info.get("icc_profile") if with_profile else None
    if not _transparent(picture):
        return _to_srgb(picture, icc), None
    rgba = picture.convert("RGBA")
    fits = picture.mode not in ("LA", "La", "L", "P", "PA")  # a profile of grey or of a palette is not one of RGB
    return _to_srgb(rgba.convert("RGB"), icc if fits else None), rgba.getchannel("A")


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion clips 16-bit grey at 255 instead of scaling it."""
    if picture.mode == "F":
        return picture.convert("L").convert("RGB")
    return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")


def _to_srgb(picture: Image.Image, icc: bytes | None) -> Image.Image:
    """A profile that is damaged or belongs to another mode is left out of account, as browsers do."""
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGB")
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(picture, profile, _SRGB, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return picture.convert("RGB")


def _balanced(picture: Image.Image, seen: Image.Image | None) -> Image.Image:
    """Grey world: the average of all light becomes grey, as bright as it was."""
    counts = _counts(picture, seen)
    if not counts.sum():
        return picture
    light = _linear(np.arange(256) / 255)
    means = counts @ light / counts.sum(axis=1)
    gains = np.clip(float(_LUMINANCE @ means) / np.maximum(means, 1e-6), 1 / _MOST_GAIN, _MOST_GAIN)
    tables = [_levels(_encoded(np.minimum(light * gain, 1.0))) for gain in gains]
    return picture.point([value for table in tables for value in table])


def _levelled(picture: Image.Image, seen: Image.Image | None) -> Image.Image:
    """The same straight line for all three channels, laid through luminance: no colour is shifted."""
    counts = np.array(picture.convert("L").histogram(seen), dtype=np.float64)
    if not counts.sum():
        return picture
    share = np.cumsum(counts) / counts.sum()
    dark, bright = int(np.searchsorted(share, CLIPPED, "right")), int(np.searchsorted(share, 1 - CLIPPED))
    if bright - dark < _LEAST_RANGE:
        return picture
    table = _levels(np.clip((np.arange(256) - dark) / (bright - dark), 0, 1))
    return picture.point(table * 3)


def _counts(picture: Image.Image, seen: Image.Image | None) -> Values:
    """(3, 256): how often each level comes in each channel."""
    return np.array(picture.histogram(seen), dtype=np.float64).reshape(3, 256)


def _levels(values: Values) -> list[int]:
    return [int(value) for value in np.rint(values * 255)]


def _linear(values: Values) -> Values:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(values: Values) -> Values:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
