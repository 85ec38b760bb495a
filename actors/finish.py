"""From what the engine drew to the files of a render. It runs in encoder processes: values in, values out, no torch."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors import checks as measures
from actors import masks, tiling
from actors.geometry import CENTRE
from actors.salience import focus
from schemas.picture import PictureFormat
from schemas.recipe import Output
from schemas.rendition import Rendition
from schemas.report import TriedSeed
from schemas.style import Checks, Focus, dimensions

THUMBNAIL_SIDE: Final = 256
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC: a composite that includes elements made by a trained algorithm. Image-to-image is that by definition."""

PNG_LEVEL: Final = 1
PNG_STRATEGY: Final = 3
"""zlib's Z_RLE. Of a photo it takes four fifths of the time of level 1 alone, and a quarter to a third of level 6,
whose size it has; measured at 1024x1024. What is flat stays small, which it does not with Z_HUFFMAN_ONLY."""

_XMP: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" \
Iptc4xmpExt:DigitalSourceType={source_type} xmp:CreatorTool="Halftone" dc:identifier={fingerprint}/>\
</rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""


@dataclass(frozen=True, slots=True)
class Judged:
    """``picture``: RGB, the mask composed back."""

    picture: Image.Image
    tried: TriedSeed


@dataclass(frozen=True, slots=True)
class File:
    """As it goes into the depot, mark and fingerprint inside."""

    body: bytes
    sha256: str
    width: int
    height: int
    format: PictureFormat


@dataclass(frozen=True, slots=True)
class Files:
    """``thumbnail`` is WebP; ``renditions`` by name."""

    picture: File
    thumbnail: bytes
    renditions: dict[str, File]


def judge(
    picture: Image.Image,
    source: Image.Image,
    mask: Image.Image | None,
    seed: int,
    checks: Checks | None,
    identity: float | None,
) -> Judged:
    """*picture* is as the engine drew it; *source* and *mask* are those of `Prepared`."""
    whole = masks.composed(picture, source, mask)
    blank = measures.blank(picture, source)  # before the mask: around it there is always something to see
    tried = measures.measured(whole, source, seed=seed, checks=checks, identity=identity, blank=blank)
    return Judged(whole, tried)


def enlarge_and_cut(picture: Image.Image, large: tuple[int, int]) -> list[Image.Image]:
    """One picture, of the size of *picture*, for each of ``schemas.rendition.tiles``, in their order."""
    return tiling.cut(_grown(picture, large), picture.size)


def merge(
    parts: Sequence[Image.Image], picture: Image.Image, large: tuple[int, int], mask: Image.Image | None
) -> Image.Image:
    """*parts*: the tiles, rendered, in their order. *mask*: that of *picture*, the kept one; where it is black, the
    enlarged *picture* is left as it was."""
    whole = tiling.merged(parts, picture.size, large)
    if mask is None:
        return whole
    return masks.composed(whole, _grown(picture, large), masks.enlarged(mask, large))


def encode(picture: Image.Image, enlarged: Image.Image | None, output: Output, fingerprint: str) -> Files:
    """*enlarged*: what `merge` gave, if a rendition asks for more pixels than *picture* has."""
    renditions = {
        each.name: _file(rendition(picture, enlarged, each), each.format, each.quality, fingerprint)
        for each in output.renditions
    }
    return Files(
        _file(picture, output.format, output.quality, fingerprint), _thumbnail(picture, fingerprint), renditions
    )


def rendition(picture: Image.Image, enlarged: Image.Image | None, wanted: Rendition) -> Image.Image:
    """Cut from *enlarged* only where *picture* has too few pixels; where it is cut is decided on *picture*."""
    small = wanted.enlargement(*picture.size) > 1
    base = enlarged if enlarged is not None and small else picture
    aspect = wanted.crop(*picture.size)
    shares = focus(picture, aspect) if wanted.focus is Focus.SALIENCE else CENTRE
    part = base.crop(crop_box(base.size, wanted.crop(*base.size), shares))
    return part.resize(dimensions(wanted.size), Image.Resampling.LANCZOS) if wanted.size else part


def crop_box(size: tuple[int, int], crop: tuple[int, int], focus: tuple[float, float]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in whole pixels of a part of *crop* pixels."""
    left, top = (round((size[axis] - crop[axis]) * focus[axis]) for axis in (0, 1))
    return left, top, left + crop[0], top + crop[1]


def _grown(picture: Image.Image, large: tuple[int, int]) -> Image.Image:
    return picture.resize(large, Image.Resampling.LANCZOS)


def xmp(fingerprint: str) -> bytes:
    return _XMP.format(source_type=quoteattr(SOURCE_TYPE), fingerprint=quoteattr(f"halftone:{fingerprint}")).encode()


def _file(picture: Image.Image, file_format: PictureFormat, quality: int, fingerprint: str) -> File:
    body = _encoded(picture, file_format, quality, xmp(fingerprint))
    return File(body, hashlib.sha256(body).hexdigest(), *picture.size, file_format)


def _encoded(picture: Image.Image, file_format: PictureFormat, quality: int, mark: bytes) -> bytes:
    file = io.BytesIO()
    match file_format:
        case PictureFormat.PNG:
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", mark.decode())
            picture.save(file, "PNG", compress_level=PNG_LEVEL, compress_type=PNG_STRATEGY, pnginfo=info)
        case PictureFormat.WEBP:
            picture.save(file, "WEBP", quality=quality, method=2, xmp=mark)
        case PictureFormat.JPEG:
            picture.save(file, "JPEG", quality=quality, subsampling=0, xmp=mark)
    return file.getvalue()


def _thumbnail(picture: Image.Image, fingerprint: str) -> bytes:
    """Long side at most 256 pixels, marked like the picture."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    return _encoded(small, PictureFormat.WEBP, 80, xmp(fingerprint))
