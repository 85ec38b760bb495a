"""Pixels in: check the pictures of a render, bring them upright, to sRGB and to its size."""

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from actors import colours, masks
from actors.engine.port import ReferenceInput, Refused
from actors.geometry import CENTRE, Geometry, geometry, same_aspect
from actors.salience import focus
from schemas.recipe import Blended, Recipe
from schemas.report import FailureKind
from schemas.source import FORMATS, MAX_BYTES, MAX_PIXELS, SourceFault
from schemas.style import Fit, Focus, Prepare, dimensions

MIN_SIDE: Final = 8
MAX_ASPECT: Final = 20
REFERENCE_SIDE: Final = 1024
"""Longer ones are made smaller: an image encoder sees some 224 pixels of them, and many are held in RAM at once."""

_BLACK: Final = "#000000"
_PIXELS: Final = ("source", "size", "fit", "background", "prepare", "blend")


@dataclass(frozen=True, slots=True)
class Prepared:
    """All have the size of the render, but for references.

    ``picture``: RGB, blends laid over it. ``mask``: L, feathered; 255 is painted over, what is 0 must stay untouched.
    ``control``: RGB; none for edges.
    """

    picture: Image.Image
    mask: Image.Image | None = None
    control: Image.Image | None = None
    references: tuple[ReferenceInput, ...] = ()


def prepared(recipe: Recipe, files: Mapping[str, bytes]) -> Prepared:
    """*files* by sha256: all of ``recipe.pictures``. Raises `Refused` (BAD_SOURCE), with a code of `SourceFault`, or
    ``mask_``, ``control_`` or ``blend_other_aspect`` for what does not lie over its source."""
    source = colours.flat(decoded(files[recipe.source]), recipe.background, recipe.prepare)
    over = _Over(recipe, files, source.size, _geometry(recipe, source))
    picture = over.where.laid(over.where.cut(source), recipe.background)
    for blended in recipe.blend:
        picture = over.blended(picture, blended)
    references = tuple(_reference(recipe, sha256, files[sha256]) for sha256 in recipe.references)
    return Prepared(picture, over.mask(), over.control(), references)


def pixels_key(recipe: Recipe) -> str:
    """Renders with the same key start from the same ``picture``."""
    return _digest(recipe, *_PIXELS)


def inputs_key(recipe: Recipe) -> str:
    """Renders with the same key have the same `Prepared`."""
    control = recipe.control.picture if recipe.control else None
    return f"{_digest(recipe, *_PIXELS, 'mask', 'references')}|{control or ''}"


def decoded(data: bytes) -> Image.Image:
    """Any mode, upright. Raises `Refused` (BAD_SOURCE) with a code of `SourceFault`."""
    return _decoded(_opened(data))


def _digest(recipe: Recipe, *fields: str) -> str:
    text = json.dumps(recipe.model_dump(mode="json", include=set(fields)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _geometry(recipe: Recipe, source: Image.Image) -> Geometry:
    size = dimensions(recipe.size)
    seen = recipe.fit is Fit.CROP and recipe.prepare.focus is Focus.SALIENCE
    return geometry(source.size, size, recipe.fit, focus(source, size) if seen else CENTRE)


@dataclass(frozen=True, slots=True)
class _Over:
    """What lies over a source, and so goes through the same geometry."""

    recipe: Recipe
    files: Mapping[str, bytes]
    source: tuple[int, int]
    where: Geometry

    def mask(self) -> Image.Image | None:
        """What padding adds is not painted over, whatever the mask is."""
        mask = self.recipe.mask
        if mask is None:
            return None
        drawn = self._shade(mask.picture)
        return self.where.laid(masks.feathered(ImageChops.invert(drawn) if mask.invert else drawn, mask.feather), 0)

    def control(self) -> Image.Image | None:
        """Its values are depths or joints, not colours to look at: neither levels nor white balance touch them."""
        control = self.recipe.control
        if control is None or control.picture is None:
            return None
        picture = colours.flat(self._decoded(control.picture, "control"), _BLACK, Prepare())
        return self.where.laid(self.where.cut(picture), _BLACK)

    def blended(self, below: Image.Image, blended: Blended) -> Image.Image:
        """Laid over *below*; it covers as much as its own alpha x weight x mask."""
        above = self.where.cut(colours.overlaid(self._decoded(blended.picture, "blend"), self.recipe.prepare))
        alpha = above.getchannel("A").point(lambda value: round(value * blended.weight))
        if blended.mask is not None:
            alpha = ImageChops.multiply(alpha, self._shade(blended.mask))
        return Image.composite(self.where.laid(above.convert("RGB"), _BLACK), below, self.where.laid(alpha, 0))

    def _shade(self, sha256: str) -> Image.Image:
        """Averaged over each pixel's area: a wider filter would make black pixels beside white ones lighter."""
        return self.where.cut(colours.grey(self._decoded(sha256, "mask")), Image.Resampling.BOX)

    def _decoded(self, sha256: str, what: str) -> Image.Image:
        picture = decoded(self.files[sha256])
        if not same_aspect(picture.size, self.source):
            sizes = f"{picture.width}x{picture.height}, the source {self.source[0]}x{self.source[1]}"
            detail = f"The {what} picture does not have the aspect of its source: it is {sizes}."
            raise Refused(FailureKind.BAD_SOURCE, f"{what}_other_aspect", detail)
        return picture


def _reference(recipe: Recipe, sha256: str, data: bytes) -> ReferenceInput:
    """Its name tells its pixels from those on another background."""
    picture = colours.flat(decoded(data), recipe.background, Prepare())
    picture.thumbnail((REFERENCE_SIDE, REFERENCE_SIDE), Image.Resampling.LANCZOS)
    return ReferenceInput(f"{sha256} on {recipe.background}", picture)


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
