"""Sources good and bad, and what lies over them."""

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from actors.engine.port import Refused
from actors.geometry import geometry, pixels, same_aspect
from actors.masks import composed, enlarged, feathered
from actors.prepare import Prepared, inputs_key, pixels_key, prepared
from schemas.recipe import Blended, Control, Mask
from schemas.report import FailureKind
from schemas.source import MAX_BYTES, SourceFault
from schemas.style import ControlKind, Fit, Focus, Prepare
from tests.unit.actors.support import picture, recipe


def saved(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def made(data: bytes, size: str = "64x48", fit: Fit = Fit.STRETCH, background: str = "#ffffff") -> Image.Image:
    return prepared(recipe("source", size=size, fit=fit, background=background), {"source": data}).picture


def all_made(source: Image.Image, files: dict[str, Image.Image] | None = None, **changes: Any) -> Prepared:
    """With more pictures beside the source, by the names that *changes* call them."""
    given = {name: saved(image) for name, image in (files or {}).items()}
    return prepared(recipe("source", **changes), {"source": saved(source), **given})


def pixel_array(image: Image.Image | None) -> np.ndarray:
    assert image is not None
    return np.asarray(image).astype(np.int16)


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
        made(data)
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.BAD_SOURCE, fault.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_damaged_file_is_refused_or_rendered_but_never_breaks_us(file_format: str, data: st.DataObject) -> None:
    good = picture(size=(40, 40), file_format=file_format)
    bad = bytearray(good[: data.draw(st.integers(1, len(good)))])
    for _ in range(data.draw(st.integers(0, 8))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Refused):  # anything else that is raised fails the test
        assert made(bytes(bad)).size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("fit", list(Fit))
def test_every_mode_and_fit_ends_as_rgb_of_the_size(mode: str, fit: Fit) -> None:
    result = made(saved(Image.new(mode, (30, 50))), fit=fit)
    assert (result.mode, result.size) == ("RGB", (64, 48))


def test_orientation_of_the_camera_is_applied() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees: what was left is on top
    result = made(saved(image, "JPEG", exif=exif, quality=95), size="16x32")
    assert colour(result, 8, 4)[2] > 200
    assert colour(result, 8, 28)[0] > 200


def test_deep_grey_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((16, 16), 128 * 257, dtype=np.uint16))
    assert colour(made(saved(image)), 8, 8) == (128, 128, 128)


def test_transparent_pixels_get_the_background() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert colour(made(saved(image), background="#0a141e"), 8, 8) == (10, 20, 30)


def test_transparent_colour_of_a_palette_gets_the_background() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    result = made(saved(image, transparency=0), background="#0000ff")
    assert colour(result, 5, 24) == (0, 0, 255)
    assert colour(result, 60, 24) == (0, 255, 0)


def test_cmyk_without_a_profile_becomes_rgb() -> None:
    result = made(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = colour(result, 8, 8)
    assert red > 240
    assert max(green, blue) < 20


def test_profile_is_converted_to_srgb_and_a_damaged_one_is_left_out() -> None:
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert colour(made(saved(image, icc_profile=lab_like)), 8, 8) == (200, 100, 50)
    assert colour(made(saved(image, icc_profile=b"no profile")), 8, 8) == (200, 100, 50)


def test_fits_differ_as_they_say() -> None:
    image = Image.new("RGB", (100, 50), "red")
    image.paste("blue", (0, 0, 20, 50))
    data = saved(image)
    crop, pad, stretch = (made(data, "32x32", fit, "#00ff00") for fit in (Fit.CROP, Fit.PAD, Fit.STRETCH))
    assert colour(crop, 0, 16) == (255, 0, 0)
    assert colour(pad, 16, 1) == (0, 255, 0)
    assert colour(stretch, 0, 1)[2] > 200


# what lies over a source


def drawing(size: tuple[int, int]) -> Image.Image:
    """A white rectangle at the same place of any size."""
    image = Image.new("L", size, 0)
    width, height = size
    ImageDraw.Draw(image).rectangle((width // 4, height // 5, width // 2 - 1, height // 2 - 1), fill=255)
    return image


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("small", [(400, 300), (200, 150), (1200, 900)])
def test_mask_and_control_land_where_their_source_does(fit: Fit, small: tuple[int, int]) -> None:
    result = all_made(
        drawing((400, 300)),
        {"mask": drawing(small), "control": drawing(small)},
        size="128x256",
        fit=fit,
        background="#000000",
        mask=Mask(picture="mask", feather=0),
        control=Control(kind=ControlKind.DEPTH, picture="control", scale=1, start=0, end=1),
    )
    white = pixel_array(result.picture)[..., 0] > 127
    assert white.any()
    assert np.abs(white.astype(int) - (pixel_array(result.mask) > 127)).mean() < 0.01
    assert np.abs(white.astype(int) - (pixel_array(result.control)[..., 0] > 127)).mean() < 0.01


@pytest.mark.parametrize("what", ["mask", "control", "blend"])
def test_picture_of_another_aspect_than_its_source_is_refused_by_name(what: str) -> None:
    every: dict[str, dict[str, Any]] = {
        "mask": {"mask": Mask(picture="other", feather=0)},
        "control": {"control": Control(kind=ControlKind.POSE, picture="other", scale=1, start=0, end=1)},
        "blend": {"blend": (Blended(picture="other", weight=0.5),)},
    }
    with pytest.raises(Refused) as refused:
        all_made(drawing((400, 300)), {"other": drawing((300, 300))}, **every[what])
    failure = refused.value.failure
    assert (failure.kind, failure.code) == (FailureKind.BAD_SOURCE, f"{what}_other_aspect")


@given(st.integers(64, 6000), st.integers(64, 6000), st.integers(16, 4096))
def test_a_resized_copy_has_the_aspect_of_its_original_in_either_order(width: int, height: int, side: int) -> None:
    scale = side / max(width, height)
    copy = max(1, round(width * scale)), max(1, round(height * scale))
    assume(min(copy) >= 8)
    assert same_aspect((width, height), copy)
    assert same_aspect(copy, (width, height))


def test_orientation_is_applied_to_the_mask_as_well() -> None:
    upright = drawing((300, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    made_from = recipe("source", size="96x128", mask=Mask(picture="mask", feather=0))
    result = prepared(made_from, {"source": saved(upright), "mask": turned})
    assert np.array_equal(pixel_array(result.mask) > 127, pixel_array(result.picture)[..., 0] > 127)


def test_inverted_mask_paints_what_was_black_but_never_the_padding() -> None:
    white_left = Image.new("L", (100, 100), 0)
    white_left.paste(255, (0, 0, 50, 100))
    mask = Mask(picture="mask", feather=0, invert=True)
    result = all_made(white_left, {"mask": white_left}, size="128x64", fit=Fit.PAD, mask=mask)
    painted = pixel_array(result.mask)
    assert painted[:, :32].max() == 0  # padding
    assert painted[:, 32:64].max() == 0  # was white
    assert painted[:, 64:96].min() == 255
    assert painted[:, 96:].max() == 0


def test_transparent_part_of_a_mask_is_not_painted() -> None:
    mask = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (0, 0, 32, 48))
    painted = pixel_array(all_made(drawing((64, 48)), {"mask": mask}, mask=Mask(picture="mask", feather=0)).mask)
    assert painted[:, :32].min() == 255
    assert painted[:, 32:].max() == 0


def test_feather_reaches_the_mask_of_a_render_in_its_own_pixels() -> None:
    white_left = Image.new("L", (640, 480), 0)
    white_left.paste(255, (0, 0, 320, 480))
    row = pixel_array(all_made(white_left, {"mask": white_left}, mask=Mask(picture="mask", feather=8)).mask)[24]
    assert row[32:].max() == 0
    assert row[: 32 - 8 - 2].min() == 255
    assert 0 < row[28] < 255


def test_blends_are_laid_over_one_another_in_order() -> None:
    red, blue, green = (Image.new("RGB", (64, 48), name) for name in ("red", "blue", "lime"))
    half = all_made(red, {"a": blue}, blend=(Blended(picture="a", weight=0.5),)).picture
    assert colour(half, 5, 5) == (127, 0, 128)
    both = (Blended(picture="a", weight=0.5), Blended(picture="b", weight=0.5))
    assert colour(all_made(red, {"a": blue, "b": green}, blend=both).picture, 5, 5) == (63, 128, 64)


def test_blend_covers_by_weight_times_mask_times_its_own_alpha() -> None:
    above = Image.new("RGBA", (64, 48), (0, 0, 255, 255))
    above.paste((0, 0, 255, 0), (0, 24, 64, 48))  # its lower half shines through
    left = Image.new("L", (64, 48), 0)
    left.paste(255, (0, 0, 32, 48))
    blend = (Blended(picture="above", weight=1.0, mask="left"),)
    result = all_made(Image.new("RGB", (64, 48), "red"), {"above": above, "left": left}, blend=blend).picture
    assert colour(result, 10, 10) == (0, 0, 255)
    assert colour(result, 50, 10) == (255, 0, 0)
    assert colour(result, 10, 40) == (255, 0, 0)


def test_long_references_are_made_smaller_and_lose_their_transparency() -> None:
    reference = Image.new("RGBA", (2000, 500), (0, 0, 0, 0))
    found = all_made(drawing((64, 48)), {"ref": reference}, references=("ref",), background="#102030").references
    assert [(each.picture.mode, each.picture.size) for each in found] == [("RGB", (1024, 256))]
    assert colour(found[0].picture, 3, 3) == (16, 32, 48)


def test_a_reference_on_two_backgrounds_has_two_names() -> None:
    shown = {"ref": Image.new("RGBA", (64, 48), (0, 0, 0, 0))}
    light, dark, again = (
        all_made(drawing((64, 48)), shown, references=("ref",), background=background).references[0]
        for background in ("#ffffff", "#000000", "#ffffff")
    )
    assert light.picture.tobytes() != dark.picture.tobytes()
    assert light.name == again.name != dark.name


def test_crop_by_salience_keeps_what_stands_out() -> None:
    image = Image.effect_noise((600, 200), 8).convert("RGB")
    ImageDraw.Draw(image).ellipse((480, 60, 560, 140), fill="red")
    centre = all_made(image, size="64x64").picture
    seen = all_made(image, size="64x64", prepare=Prepare(focus=Focus.SALIENCE)).picture
    assert (pixel_array(centre)[..., 0] - pixel_array(centre)[..., 1]).max() < 60
    red = (pixel_array(seen)[..., 0] - pixel_array(seen)[..., 1]) > 120
    assert red.sum() > 0.9 * np.pi * (40 * 64 / 200) ** 2


# geometry

sides = st.integers(8, 5000)
targets = st.integers(2, 256).map(lambda value: 8 * value)
shares = st.floats(0, 1)


@given(sides, sides, targets, targets, st.sampled_from(list(Fit)), shares, shares)
def test_what_is_kept_lies_inside_the_picture_and_what_is_placed_inside_the_render(
    width: int, height: int, across: int, down: int, fit: Fit, x: float, y: float
) -> None:
    assume(max(width, height) <= 20 * min(width, height))
    found = geometry((width, height), (across, down), fit, (x, y))
    left, top, right, bottom = pixels(found.kept, (width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert 0 <= found.inset.left <= found.inset.left + found.inset.width <= across
    assert 0 <= found.inset.top <= found.inset.top + found.inset.height <= down
    if fit is Fit.CROP:
        assert abs((right - left) - (bottom - top) * across / down) < 1e-6 * max(width, height)
        assert right - left > width - 1e-6 * width or bottom - top > height - 1e-6 * height  # the largest there is


# masks


@st.composite
def drawn_masks(draw: st.DrawFn) -> Image.Image:
    size = draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
    image = Image.new("L", size, draw(st.sampled_from([0, 0, 255])))
    for _ in range(draw(st.integers(0, 4))):
        x, y = draw(st.integers(0, size[0])), draw(st.integers(0, size[1]))
        shade = draw(st.sampled_from([0, 90, 255]))
        image.paste(shade, (x, y, x + draw(st.integers(1, 40)), y + draw(st.integers(1, 40))))
    return image


@settings(deadline=None)
@given(drawn_masks(), st.integers(0, 40))
def test_feather_never_touches_a_black_pixel_and_makes_none_lighter(mask: Image.Image, feather: int) -> None:
    before, after = pixel_array(mask), pixel_array(feathered(mask, feather))
    assert (after <= before).all()
    assert after[before == 0].sum() == 0


@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_patch_narrower_than_its_feather_keeps_its_white_beside_a_wide_one(width: int) -> None:
    mask = Image.new("L", (400, 200), 0)
    mask.paste(255, (0, 0, 150, 200))
    mask.paste(255, (300, 20, 300 + width, 180))
    assert pixel_array(feathered(mask, 40))[100, 300 : 300 + width].max() == 255


@settings(deadline=None)
@given(drawn_masks(), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_pixels_outside_the_feathered_mask_are_those_of_the_source_to_the_bit(
    mask: Image.Image, feather: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    drawn, source = (
        Image.fromarray(random.integers(0, 256, (mask.height, mask.width, 3), dtype=np.uint8)) for _ in range(2)
    )
    soft = feathered(mask, feather)
    result, share = pixel_array(composed(drawn, source, soft)), pixel_array(soft)
    assert np.array_equal(result[share == 0], pixel_array(source)[share == 0])
    assert np.array_equal(result[share == 255], pixel_array(drawn)[share == 255])


@settings(deadline=None)
@given(drawn_masks(), st.integers(1, 4))
def test_enlarged_mask_is_black_wherever_the_small_one_was(mask: Image.Image, factor: int) -> None:
    large = pixel_array(enlarged(mask, (mask.width * factor, mask.height * factor)))
    blocks = np.kron(pixel_array(mask), np.ones((factor, factor), dtype=int))
    assert large[blocks == 0].sum() == 0


# colours


def photo(cast: tuple[float, float, float], low: int, high: int) -> Image.Image:
    """Levels from *low* to *high* in every channel, then a cast."""
    shades = np.random.default_rng(3).uniform(low, high, (120, 160, 3))
    return Image.fromarray(np.clip(shades * cast, 0, 255).astype(np.uint8))


def test_levels_span_from_black_to_white_and_no_colour_is_shifted() -> None:
    image = Image.merge("RGB", [photo((1, 1, 1), 80, 160).getchannel(0)] * 3)
    result = pixel_array(all_made(image, size="160x120", prepare=Prepare(auto_levels=True)).picture)
    assert np.percentile(result, 1.5) <= 4
    assert np.percentile(result, 98.5) >= 251
    assert np.array_equal(result[..., 0], result[..., 1])
    tinted = pixel_array(
        all_made(photo((1, 0.8, 0.6), 80, 160), size="160x120", prepare=Prepare(auto_levels=True)).picture
    )
    red, green, blue = tinted.mean(axis=(0, 1))
    assert red > green + 10 > blue + 20  # the cast is white balance's affair


def test_flat_picture_keeps_its_levels() -> None:
    image = Image.new("RGB", (64, 48), (90, 100, 110))
    assert colour(all_made(image, prepare=Prepare(auto_levels=True)).picture, 5, 5) == (90, 100, 110)


def test_white_balance_takes_a_cast_away_and_keeps_the_brightness() -> None:
    image = photo((1, 0.9, 0.7), 30, 220)
    result = all_made(image, size="160x120", prepare=Prepare(white_balance=True)).picture
    means = pixel_array(result).mean(axis=(0, 1))
    assert means.max() - means.min() < 4
    assert abs(pixel_array(result.convert("L")).mean() - pixel_array(image.convert("L")).mean()) < 4


def test_transparent_pixels_have_no_say_in_levels_and_white_balance() -> None:
    seen = photo((1, 0.9, 0.7), 80, 160)
    lone = all_made(seen, size="160x120", prepare=Prepare(auto_levels=True, white_balance=True)).picture
    wide = Image.new("RGBA", (320, 120), (0, 0, 255, 0))
    wide.paste(seen, (0, 0))
    beside = all_made(
        wide, size="320x120", background="#0a0b0c", prepare=Prepare(auto_levels=True, white_balance=True)
    ).picture
    assert beside.crop((0, 0, 160, 120)).tobytes() == lone.tobytes()
    assert colour(beside, 300, 60) == (10, 11, 12)


# names of pixels

BASE = recipe("source", mask=Mask(picture="mask", feather=4))


@pytest.mark.parametrize(
    "change",
    [
        {"source": "other"},
        {"size": "48x64"},
        {"fit": Fit.PAD},
        {"background": "#000000"},
        {"prepare": Prepare(auto_levels=True)},
        {"blend": (Blended(picture="b", weight=0.5),)},
    ],
)
def test_what_changes_the_picture_changes_its_name(change: dict[str, Any]) -> None:
    other = BASE.model_copy(update=change)
    assert pixels_key(other) != pixels_key(BASE)
    assert inputs_key(other) != inputs_key(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"mask": Mask(picture="mask", feather=5)},
        {"mask": None},
        {"control": Control(kind=ControlKind.DEPTH, picture="d", scale=1, start=0, end=1)},
        {"references": ("r",)},
    ],
)
def test_what_lies_beside_the_picture_changes_only_the_name_of_all_inputs(change: dict[str, Any]) -> None:
    other = BASE.model_copy(update=change)
    assert pixels_key(other) == pixels_key(BASE)
    assert inputs_key(other) != inputs_key(BASE)


@pytest.mark.parametrize("change", [{"prompt": "a dog"}, {"seed": 8}, {"strength": 0.9}, {"reference_scale": 0.4}])
def test_renders_that_differ_elsewhere_share_their_inputs(change: dict[str, Any]) -> None:
    assert inputs_key(BASE.model_copy(update=change)) == inputs_key(BASE)
