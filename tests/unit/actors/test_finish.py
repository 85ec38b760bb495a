"""From what the engine drew to the files of a render."""

import hashlib
import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from actors.finish import SOURCE_TYPE, crop_box, encode, enlarge_and_cut, judge, merge, rendition
from actors.tiling import weights
from schemas.picture import PictureFormat
from schemas.recipe import Output
from schemas.rendition import MAX_ENLARGEMENT, Rendition, enlarged, tiles
from schemas.style import Checks, Focus

FINGERPRINT = "ab" * 32
COFFEE = Image.fromarray(data.coffee()).resize((192, 128))  # type: ignore[no-untyped-call]
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_DC = "{http://purl.org/dc/elements/1.1/}"


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int16)


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def marks(body: bytes) -> dict[str, str]:
    """Attributes of the XMP description, read back from the file."""
    packet = opened(body).info["xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    description = ET.fromstring(text).find(f"{_RDF}RDF/{_RDF}Description")
    assert description is not None
    return dict(description.attrib)


# judging


def test_masked_picture_is_composed_before_it_is_measured() -> None:
    mask = Image.new("L", COFFEE.size, 0)
    mask.paste(255, (0, 0, 20, 128))
    drawn = noise(COFFEE.size)
    judged = judge(drawn, COFFEE, mask, 3, Checks(structure=0.7), None)
    assert np.array_equal(levels(judged.picture)[:, 20:], levels(COFFEE)[:, 20:])
    assert np.array_equal(levels(judged.picture)[:, :20], levels(drawn)[:, :20])
    assert judged.tried.missed == ()
    assert judge(drawn, COFFEE, None, 3, Checks(structure=0.7), None).tried.missed == ("structure",)


def test_blank_is_found_although_the_mask_leaves_the_source_around_it() -> None:
    mask = Image.new("L", COFFEE.size, 0)
    mask.paste(255, (0, 0, 20, 128))
    judged = judge(Image.new("RGB", COFFEE.size), COFFEE, mask, 3, None, None)
    assert judged.tried.missed == ("blank",)


# tiles

small_sides = st.integers(2, 12).map(lambda value: 8 * value)
factors = st.floats(1.01, MAX_ENLARGEMENT)


def grown(size: tuple[int, int], factor: float) -> tuple[int, int]:
    wanted = Rendition(name="large", size=f"{round(size[0] * factor)}x{round(size[1] * factor)}")
    large = enlarged(f"{size[0]}x{size[1]}", (wanted,))
    assume(large is not None)
    assert large is not None
    return large


@settings(deadline=None, max_examples=60)
@given(small_sides, small_sides, factors, st.integers(0, 99))
def test_tiles_that_nobody_changed_give_the_enlarged_picture_back(
    width: int, height: int, factor: float, seed: int
) -> None:
    picture, large = noise((width, height), seed), grown((width, height), factor)
    parts = enlarge_and_cut(picture, large)
    assert {part.size for part in parts} == {(width, height)}
    assert len(parts) == len(tiles(f"{width}x{height}", large))
    whole = picture.resize(large, Image.Resampling.LANCZOS)
    assert np.abs(levels(merge(parts, picture, large, None)) - levels(whole)).max() <= 1


@settings(deadline=None, max_examples=60)
@given(small_sides, small_sides, factors, st.tuples(*[st.integers(0, 255)] * 3))
def test_constant_tiles_make_a_constant_picture_exactly(
    width: int, height: int, factor: float, colour: tuple[int, int, int]
) -> None:
    plain, large = Image.new("RGB", (width, height), colour), grown((width, height), factor)
    parts = [plain] * len(tiles(f"{width}x{height}", large))
    assert merge(parts, plain, large, None).tobytes() == Image.new("RGB", large, colour).tobytes()


@given(st.integers(2, 40).map(lambda value: 8 * value), st.floats(1.0, MAX_ENLARGEMENT))
def test_weights_of_tiles_are_one_everywhere_and_never_negative(side: int, factor: float) -> None:
    whole = max(side, round(side * factor / 8) * 8)
    begins = sorted({tile.left for tile in tiles(f"{side}x8", (whole, 8))})
    total = np.zeros(whole)
    for begin, line in weights(begins, side, whole).items():
        assert line.min() >= 0
        total[begin : begin + side] += line
    assert np.allclose(total, 1.0, atol=1e-6)


def test_single_tile_is_the_picture() -> None:
    picture, drawn = noise((64, 48)), noise((64, 48), 1)
    assert merge([drawn], picture, (64, 48), None).tobytes() == drawn.tobytes()


def test_neighbours_mix_only_near_the_middle_of_their_overlap() -> None:
    large = (120, 64)
    left, right = Image.new("RGB", (64, 64), (0, 0, 0)), Image.new("RGB", (64, 64), (255, 255, 255))
    row = levels(merge([left, right], left, large, None))[32, :, 0]
    assert row[:56].max() == 0
    assert row[64:].min() == 255
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 64  # no seam


def test_enlarged_picture_keeps_its_source_where_the_mask_is_black() -> None:
    picture, large = COFFEE, (384, 256)
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (64, 32, 128, 96))
    parts = [noise(picture.size, number) for number in range(len(tiles("192x128", large)))]
    result, whole = levels(merge(parts, picture, large, mask)), levels(picture.resize(large, Image.Resampling.LANCZOS))
    outside = np.kron(levels(mask), np.ones((2, 2), dtype=int)) == 0
    assert np.array_equal(result[outside], whole[outside])
    assert np.abs(result - whole)[80:176, 144:240].mean() > 20


# renditions


@given(
    st.integers(64, 2048),
    st.integers(64, 2048),
    st.integers(1, 32),
    st.integers(1, 32),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_crop_has_its_aspect_within_a_pixel_and_lies_inside(
    width: int, height: int, across: int, down: int, x: float, y: float
) -> None:
    wanted = Rendition(name="r", aspect=f"{across}:{down}").crop(width, height)
    left, top, right, bottom = crop_box((width, height), wanted, (x, y))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    cut = right - left, bottom - top
    assert abs(cut[0] - cut[1] * across / down) <= 1 or abs(cut[1] - cut[0] * down / across) <= 1
    assert cut[0] == width or cut[1] == height


@pytest.mark.parametrize("aspect", ["1:1", "4:5", "9:16", "16:9"])
def test_rendition_of_an_aspect_is_cut_from_the_pixels_as_they_are(aspect: str) -> None:
    result = rendition(COFFEE, None, Rendition(name="r", aspect=aspect))
    across, down = map(int, aspect.split(":"))
    left, top = (COFFEE.width - result.width) // 2, (COFFEE.height - result.height) // 2
    assert abs(result.width / result.height - across / down) < 0.02
    box = (left, top, left + result.width, top + result.height)
    assert np.array_equal(levels(result), levels(COFFEE.crop(box)))


def test_rendition_of_a_size_has_it_whether_it_is_smaller_or_larger() -> None:
    large = COFFEE.resize((576, 384))
    assert rendition(COFFEE, large, Rendition(name="r", size="40x50")).size == (40, 50)
    assert rendition(COFFEE, large, Rendition(name="r", size="300x350")).size == (300, 350)


def test_only_a_rendition_that_needs_more_pixels_is_cut_from_the_enlarged_picture() -> None:
    red = Image.new("RGB", (576, 384), "red")
    assert rendition(COFFEE, red, Rendition(name="r", size="300x350")).getpixel((9, 9)) == (255, 0, 0)
    assert rendition(COFFEE, red, Rendition(name="r", size="64x64")).getpixel((9, 9)) != (255, 0, 0)
    assert rendition(COFFEE, red, Rendition(name="r", aspect="1:1")).getpixel((9, 9)) != (255, 0, 0)


def test_focus_moves_the_crop_of_both_pictures_to_the_same_place() -> None:
    ground = Image.new("RGB", (256, 128), (128, 128, 128))
    ground.paste(COFFEE.crop((32, 0, 160, 128)).resize((64, 64)), (184, 32))
    large = ground.resize((512, 256), Image.Resampling.LANCZOS)
    small_cut = rendition(ground, None, Rendition(name="r", size="128x128", focus=Focus.SALIENCE))
    large_cut = rendition(ground, large, Rendition(name="r", size="256x256", focus=Focus.SALIENCE))
    assert levels(small_cut)[40:90, 60:].std() > 30
    assert levels(rendition(ground, None, Rendition(name="r", size="128x128")))[:, :110].std() == 0
    shrunk = large_cut.resize((128, 128), Image.Resampling.BOX)
    assert np.abs(levels(shrunk) - levels(small_cut)).mean() < 3


# files


@pytest.mark.parametrize("file_format", list(PictureFormat))
def test_picture_thumbnail_and_renditions_carry_the_ai_mark_and_the_fingerprint(file_format: PictureFormat) -> None:
    output = Output(format=file_format, renditions=(Rendition(name="square", aspect="1:1", format=file_format),))
    files = encode(COFFEE, None, output, FINGERPRINT)
    square = files.renditions["square"]
    for body in (files.picture.body, files.thumbnail, square.body):
        assert marks(body)[f"{_IPTC}DigitalSourceType"] == SOURCE_TYPE
        assert marks(body)[f"{_DC}identifier"] == f"halftone:{FINGERPRINT}"
    for file in (files.picture, square):
        assert file.sha256 == hashlib.sha256(file.body).hexdigest()
        assert opened(file.body).format == file_format.value.upper()
        assert opened(file.body).size == (file.width, file.height)
    assert (square.width, square.height, square.format) == (128, 128, file_format)


def test_png_keeps_every_pixel_and_takes_little_room_for_what_is_flat() -> None:
    for image in (noise((400, 300)), COFFEE):
        assert opened(encode(image, None, Output(), FINGERPRINT).picture.body).tobytes() == image.tobytes()
    flat = encode(Image.new("RGB", (1024, 1024), "red"), None, Output(), FINGERPRINT)
    assert len(flat.picture.body) < 16_000


@pytest.mark.parametrize("file_format", [PictureFormat.WEBP, PictureFormat.JPEG])
def test_quality_decides_the_size_of_lossy_files(file_format: PictureFormat) -> None:
    low, high = (encode(COFFEE, None, Output(format=file_format, quality=q), FINGERPRINT) for q in (20, 95))
    assert len(low.picture.body) < len(high.picture.body)


@pytest.mark.parametrize(("size", "small"), [((1024, 512), (256, 128)), ((64, 48), (64, 48))])
def test_thumbnail_has_a_long_side_of_256_at_most(size: tuple[int, int], small: tuple[int, int]) -> None:
    thumbnail = opened(encode(Image.new("RGB", size), None, Output(), FINGERPRINT).thumbnail)
    assert (thumbnail.format, thumbnail.size) == ("WEBP", small)
