"""The formats of finished pictures."""

from enum import StrEnum


class PictureFormat(StrEnum):
    """How a finished picture is stored."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
