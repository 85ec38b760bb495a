"""The files that go into the depot."""

import io
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from actors.publish import SOURCE_TYPE, encode, thumbnail
from schemas.recipe import Output, PictureFormat

FINGERPRINT = "ab" * 32
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_DC = "{http://purl.org/dc/elements/1.1/}"


def marks(data: bytes) -> dict[str, str]:
    """Attributes of the XMP description, read back from the file."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        packet = image.info["xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    description = ET.fromstring(text).find(f"{_RDF}RDF/{_RDF}Description")
    assert description is not None
    return dict(description.attrib)


@pytest.mark.parametrize("file_format", list(PictureFormat))
def test_every_format_carries_the_ai_mark_and_the_fingerprint(file_format: PictureFormat) -> None:
    found = marks(encode(Image.new("RGB", (32, 24)), Output(format=file_format), FINGERPRINT))
    assert found[f"{_IPTC}DigitalSourceType"] == SOURCE_TYPE
    assert found[f"{_DC}identifier"] == f"halftone:{FINGERPRINT}"


def test_png_keeps_every_pixel() -> None:
    image = Image.effect_noise((40, 30), 80).convert("RGB")
    with Image.open(io.BytesIO(encode(image, Output(), FINGERPRINT))) as stored:
        assert stored.tobytes() == image.tobytes()


@pytest.mark.parametrize("file_format", [PictureFormat.WEBP, PictureFormat.JPEG])
def test_quality_decides_the_size_of_lossy_files(file_format: PictureFormat) -> None:
    image = Image.effect_noise((80, 80), 80).convert("RGB")
    low, high = (encode(image, Output(format=file_format, quality=q), FINGERPRINT) for q in (20, 95))
    assert len(low) < len(high)


def test_thumbnail_has_a_long_side_of_256_and_the_mark() -> None:
    small = thumbnail(Image.new("RGB", (1024, 512)), FINGERPRINT)
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size) == ("WEBP", (256, 128))
    assert marks(small)[f"{_IPTC}DigitalSourceType"] == SOURCE_TYPE


def test_small_pictures_are_not_blown_up_for_the_thumbnail() -> None:
    with Image.open(io.BytesIO(thumbnail(Image.new("RGB", (64, 48)), FINGERPRINT))) as image:
        assert image.size == (64, 48)
