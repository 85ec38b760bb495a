"""An uploaded picture, addressed by its sha256."""

from enum import StrEnum

from schemas.base import Wire

MAX_PIXELS = 50_000_000
"""More is refused before it is decoded: 50 Mpx in RGB are 150 MB."""

MAX_BYTES = 64 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "WEBP")


class SourceFault(StrEnum):
    """Why a file cannot be a source. The value is the stable code of the problem."""

    EMPTY = "source_empty"
    NOT_A_PICTURE = "source_not_a_picture"
    UNSUPPORTED = "source_unsupported_format"
    TRUNCATED = "source_truncated"
    TOO_MANY_PIXELS = "source_too_many_pixels"
    TOO_MANY_BYTES = "source_too_many_bytes"
    ANIMATED = "source_animated"
    TOO_NARROW = "source_too_narrow"


class Source(Wire):
    """A source as the API shows it. ``id`` is ``src_`` and the sha256 of the file."""

    id: str
    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    created_at: str


class SourceLinks(Wire):
    """A presigned link to the file as it was uploaded; good for ten minutes."""

    picture: str
