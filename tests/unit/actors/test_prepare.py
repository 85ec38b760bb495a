"""Sources good and bad."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from actors.engine.port import Refused
from actors.prepare import prepare
from schemas.report import FailureKind
from schemas.source import MAX_BYTES, SourceFault
from schemas.style import Fit
from tests.unit.actors.support import picture


def saved(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def prepared(data: bytes, size: str = "64x48", fit: Fit = Fit.STRETCH, background: str = "#ffffff") -> Image.Image:
    return prepare(data, size=size, fit=fit, background=background)


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def huge_png() -> bytes:
    """A header of 100,000 x 100,000 pixels with almost nothing behind it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animation() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])


BAD = {
    "nothing": (b"", SourceFault.EMPTY),
    "text": (b"hello, world", SourceFault.NOT_A_PICTURE),
    "a gif": (picture(file_format="GIF"), SourceFault.UNSUPPORTED),
    "a tiff": (picture(file_format="TIFF"), SourceFault.UNSUPPORTED),
    "half a jpeg": (picture(size=(300, 300), file_format="JPEG")[:900], SourceFault.TRUNCATED),
    "half a png": (saved(Image.effect_noise((200, 200), 90))[:5000], SourceFault.TRUNCATED),
    "half a webp": (saved(Image.effect_noise((200, 200), 90).convert("RGB"), "WEBP")[:3000], SourceFault.TRUNCATED),
    "the start of a png": (picture()[:12], SourceFault.TRUNCATED),
    "too many pixels": (saved(Image.new("1", (8000, 6251))), SourceFault.TOO_MANY_PIXELS),
    "a decompression bomb": (huge_png(), SourceFault.TOO_MANY_PIXELS),
    "an animation": (animation(), SourceFault.ANIMATED),
    "a line": (picture(size=(300, 10)), SourceFault.TOO_NARROW),
    "a speck": (picture(size=(7, 7)), SourceFault.TOO_NARROW),
    "too many bytes": (b"\0" * (MAX_BYTES + 1), SourceFault.TOO_MANY_BYTES),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_source_is_refused_with_its_code(name: str) -> None:
    data, fault = BAD[name]
    with pytest.raises(Refused) as refused:
        prepared(data)
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.BAD_SOURCE, fault.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_damaged_file_is_refused_or_rendered_but_never_breaks_us(file_format: str, data: st.DataObject) -> None:
    good = picture(size=(40, 40), file_format=file_format)
    bad = bytearray(good[: data.draw(st.integers(1, len(good)))])
    for _ in range(data.draw(st.integers(0, 8))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Refused):  # anything else that is raised fails the test
        assert prepared(bytes(bad)).size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("fit", list(Fit))
def test_every_mode_and_fit_ends_as_rgb_of_the_size(mode: str, fit: Fit) -> None:
    result = prepared(saved(Image.new(mode, (30, 50))), fit=fit)
    assert (result.mode, result.size) == ("RGB", (64, 48))


def test_orientation_of_the_camera_is_applied() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees: what was left is on top
    result = prepared(saved(image, "JPEG", exif=exif, quality=95), size="16x32")
    assert colour(result, 8, 4)[2] > 200
    assert colour(result, 8, 28)[0] > 200


def test_deep_grey_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((16, 16), 128 * 257, dtype=np.uint16))
    assert colour(prepared(saved(image)), 8, 8) == (128, 128, 128)


def test_transparent_pixels_get_the_background() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert colour(prepared(saved(image), background="#0a141e"), 8, 8) == (10, 20, 30)


def test_transparent_colour_of_a_palette_gets_the_background() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    result = prepared(saved(image, transparency=0), background="#0000ff")
    assert colour(result, 5, 24) == (0, 0, 255)
    assert colour(result, 60, 24) == (0, 255, 0)


def test_cmyk_without_a_profile_becomes_rgb() -> None:
    result = prepared(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = colour(result, 8, 8)
    assert red > 240
    assert max(green, blue) < 20


def test_profile_is_converted_to_srgb_and_a_damaged_one_is_left_out() -> None:
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert colour(prepared(saved(image, icc_profile=lab_like)), 8, 8) == (200, 100, 50)
    assert colour(prepared(saved(image, icc_profile=b"no profile")), 8, 8) == (200, 100, 50)


def test_fits_differ_as_they_say() -> None:
    image = Image.new("RGB", (100, 50), "red")
    image.paste("blue", (0, 0, 20, 50))
    data = saved(image)
    crop, pad, stretch = (prepared(data, "32x32", fit, "#00ff00") for fit in (Fit.CROP, Fit.PAD, Fit.STRETCH))
    assert colour(crop, 0, 16) == (255, 0, 0)
    assert colour(pad, 16, 1) == (0, 255, 0)
    assert colour(stretch, 0, 1)[2] > 200
