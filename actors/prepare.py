"""Pixels in: check a source, bring it upright, to sRGB and to the size of the render."""

import io
import struct
from typing import Final

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from actors.engine.port import Refused
from schemas.report import FailureKind
from schemas.source import FORMATS, MAX_BYTES, MAX_PIXELS, SourceFault
from schemas.style import Fit, dimensions

MIN_SIDE: Final = 8
MAX_ASPECT: Final = 20
_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def prepare(data: bytes, *, size: str, fit: Fit, background: str) -> Image.Image:
    """RGB, 8 bits, exactly *size*. Raises `Refused` (BAD_SOURCE) with a code of `SourceFault`."""
    upright = _decoded(_opened(data))
    return fitted(_flat(upright, background), dimensions(size), fit, background)


def _refuse(fault: SourceFault, detail: str) -> Refused:
    return Refused(FailureKind.BAD_SOURCE, fault.value, detail)


def _opened(data: bytes) -> Image.Image:
    """The header is read and found good; no pixel is decoded yet."""
    if not data:
        raise _refuse(SourceFault.EMPTY, "The file is empty.")
    if len(data) > MAX_BYTES:
        raise _refuse(SourceFault.TOO_MANY_BYTES, f"The file has {len(data)} bytes; {MAX_BYTES} are allowed.")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the latter where warnings raise
        raise _refuse(SourceFault.TOO_MANY_PIXELS, f"More than {MAX_PIXELS} pixels.") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise _refuse(SourceFault.TRUNCATED, "The file ends inside its header, or the header is damaged.") from error
    _check_shape(picture)
    return picture


def _unidentified(data: bytes) -> Refused:
    """Which of the two it is: a picture in a format that we do not take, or no picture at all."""
    known = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
    if data.startswith(known) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return _refuse(SourceFault.TRUNCATED, "The file ends inside its header, or the header is damaged.")
    try:
        name = Image.open(io.BytesIO(data)).format
    except Exception:  # noqa: BLE001 - Pillow's readers of odd formats raise all kinds of errors on damaged files
        return _refuse(SourceFault.NOT_A_PICTURE, "The file is not a picture.")
    return _refuse(SourceFault.UNSUPPORTED, f"{name} is not taken; {', '.join(FORMATS)} are.")


def _check_shape(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _refuse(SourceFault.TOO_MANY_PIXELS, f"{width}x{height} is more than {MAX_PIXELS} pixels.")
    if getattr(picture, "n_frames", 1) > 1:
        raise _refuse(SourceFault.ANIMATED, "The picture has several frames.")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise _refuse(SourceFault.TOO_NARROW, f"{width}x{height} is too narrow.")


def _decoded(picture: Image.Image) -> Image.Image:
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, struct.error, IndexError) as error:
        raise _refuse(SourceFault.TRUNCATED, "The pixels are cut off or damaged.") from error


def _flat(picture: Image.Image, background: str) -> Image.Image:
    """RGB in sRGB, with what is transparent filled with *background*."""
    if picture.mode.startswith(("I", "F")):
        return _from_deep_grey(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        alpha = rgba.getchannel("A")
        ground = Image.new("RGB", rgba.size, background)
        colours = rgba.convert("RGB")
        if picture.mode not in ("LA", "L", "P", "PA"):
            colours = _to_srgb(colours, picture.info.get("icc_profile"))
        ground.paste(colours, mask=alpha)
        return ground
    return _to_srgb(picture, picture.info.get("icc_profile"))


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


def fitted(picture: Image.Image, size: tuple[int, int], fit: Fit, background: str) -> Image.Image:
    lanczos = Image.Resampling.LANCZOS
    match fit:
        case Fit.CROP:
            return ImageOps.fit(picture, size, lanczos)
        case Fit.PAD:
            return ImageOps.pad(picture, size, lanczos, color=background)
        case Fit.STRETCH:
            return picture.resize(size, lanczos)
