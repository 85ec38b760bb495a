"""Upload a source: check the picture, keep its bytes as they came, remember it."""

import hashlib
import io
import re

from PIL import Image

from farm.core.errors import BadRequest
from farm.core.ids import TeamId
from farm.core.keys import source_key
from farm.core.records import SourceRow
from farm.ports import ApiStore, Clock, Depot
from schemas.source import FORMATS, MAX_BYTES, MAX_PIXELS, SourceFault

MIN_SIDE = 16
MAX_ASPECT = 20
"""A picture twenty times as long as it is wide is a mistake: no style has a size that could show it."""

_OTHERS = (  # what people rename to .jpg, by its first bytes
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (4, b"ftyp", "HEIC, AVIF or video"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG"),
)


def upload_source(
    store: ApiStore, depot: Depot, clock: Clock, team: TeamId, *, name: str, data: bytes
) -> tuple[SourceRow, bool]:
    """The source, and whether it is new. Raises `BadRequest` with a code of `SourceFault`."""
    sha256 = hashlib.sha256(data).hexdigest()
    with store.as_team(team) as tx:
        if known := tx.sources_by_sha([sha256]).get(sha256):
            return known, False
    width, height, kind = check(data)
    row = SourceRow(sha256, tidy_name(name), len(data), width, height, kind, clock.now())
    # The object first: a row must never point at nothing.
    depot.put(source_key(team, sha256), data, f"image/{kind.lower()}")
    with store.as_team(team) as tx:
        new = tx.add_source(row)
        return tx.sources_by_sha([sha256])[sha256], new


def tidy_name(name: str) -> str:
    """The last part of a path, without control characters, at most 200 characters long."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable()).strip()[:200] or "source"


def check(data: bytes) -> tuple[int, int, str]:
    """Width, height and format of a picture. Raises `BadRequest` when it cannot be a source."""
    if not data:
        raise _refuse(SourceFault.EMPTY, "The file is empty.")
    if len(data) > MAX_BYTES:
        raise _refuse(SourceFault.TOO_MANY_BYTES, f"The file is larger than {MAX_BYTES // 2**20} MiB.")
    with _open(data) as image:
        _check_header(image)
        try:
            image.load()
        except Exception as fault:  # decoders raise anything when the bytes are damaged
            raise _refuse(SourceFault.TRUNCATED, f"The picture is cut off or damaged: {fault}.") from fault
        return image.width, image.height, _format(image)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise _refuse(SourceFault.TOO_MANY_PIXELS, _too_many("far more")) from fault
    except Exception as fault:
        if data.startswith((b"\xff\xd8\xff", b"\x89PNG")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise _refuse(SourceFault.TRUNCATED, f"The picture is cut off or damaged: {fault}.") from fault
        for offset, magic, kind in _OTHERS:
            if data[offset:].lstrip()[: len(magic)] == magic or data[offset : offset + len(magic)] == magic:
                detail = f"This is {kind}. JPEG, PNG and WebP are taken."
                raise _refuse(SourceFault.UNSUPPORTED, detail) from fault
        raise _refuse(SourceFault.NOT_A_PICTURE, "This is no picture: JPEG, PNG and WebP are taken.") from fault


def _format(image: Image.Image) -> str:
    # Many phones write a JPEG with a second picture behind it (depth, gain map): MPO. Only the first one counts.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _refuse(SourceFault.TOO_MANY_PIXELS, _too_many(f"{width * height / 1e6:.0f}"))
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise _refuse(SourceFault.ANIMATED, "The picture moves. Take one frame of it.")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        detail = f"{width} x {height} pixels are too narrow: at least {MIN_SIDE} a side, at most {MAX_ASPECT} : 1."
        raise _refuse(SourceFault.TOO_NARROW, detail)


def _too_many(found: str) -> str:
    return f"The picture has {found} megapixels; {MAX_PIXELS // 1_000_000} is the limit."


def _refuse(fault: SourceFault, detail: str) -> BadRequest:
    return BadRequest(detail, code=fault.value)
