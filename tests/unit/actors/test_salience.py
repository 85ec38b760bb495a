"""Where a picture draws the eye."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from skimage import data

from actors.salience import faces, focus, salience


def scene(x: int, y: int, size: tuple[int, int] = (600, 600)) -> Image.Image:
    """A cup on a grainy table."""
    grain = np.random.default_rng(1).normal(190, 4, (size[1], size[0], 1)).repeat(3, axis=2)
    image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    image.paste(Image.fromarray(data.coffee()).crop((180, 0, 480, 300)).resize((140, 140)), (x, y))  # type: ignore[no-untyped-call]
    return image


@pytest.mark.parametrize(("x", "low", "high"), [(10, 0.0, 0.2), (230, 0.4, 0.6), (450, 0.8, 1.0)])
def test_crop_follows_the_subject_along_the_axis_that_is_cut(x: int, low: float, high: float) -> None:
    across, down = focus(scene(x, 230), (9, 16))
    assert low <= across <= high
    assert down == 0.5
    turned_across, turned_down = focus(scene(230, x), (16, 9))
    assert turned_across == 0.5
    assert low <= turned_down <= high


def test_subject_stands_out_of_the_map() -> None:
    found = salience(scene(450, 40))
    y, x = np.unravel_index(int(found.argmax()), found.shape)
    assert 450 / 600 * 64 - 1 <= x <= 590 / 600 * 64 + 1
    assert 40 / 600 * 64 - 1 <= y <= 180 / 600 * 64 + 1


def test_subject_that_differs_by_colour_alone_is_seen() -> None:
    """Its luminance is that of its ground."""
    image = Image.new("RGB", (600, 200), (120, 120, 120))
    ImageDraw.Draw(image).ellipse((480, 60, 560, 140), fill=(203, 84, 90))
    assert image.convert("L").getextrema() == (120, 120)
    assert focus(image, (1, 1))[0] > 0.8


def test_picture_that_shows_nothing_is_cut_in_the_middle() -> None:
    assert focus(Image.new("RGB", (300, 200), "red"), (1, 1)) == (0.5, 0.5)
    noise = np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert abs(focus(Image.fromarray(noise), (1, 1))[0] - 0.5) < 0.2


def test_picture_of_the_wanted_aspect_is_left_whole() -> None:
    assert focus(scene(450, 40), (3, 3)) == (0.5, 0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 460), st.sampled_from([(1, 2), (9, 16), (4, 5)]))
def test_mirrored_picture_is_cut_at_the_mirrored_place(x: int, aspect: tuple[int, int]) -> None:
    image = scene(x, 230)
    assert focus(ImageOps.mirror(image), aspect)[0] == pytest.approx(1 - focus(image, aspect)[0], abs=0.04)
    assert focus(image, aspect) == focus(image.copy(), aspect)


def test_a_crop_keeps_the_face() -> None:
    """The flag and the white helmet of the astronaut stand out more than she does."""
    picture = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    (face,) = faces(picture)
    for aspect in ((16, 9), (9, 16), (21, 9)):
        across, down = focus(picture, aspect)
        width = min(1.0, aspect[0] / aspect[1])
        height = min(1.0, aspect[1] / aspect[0])
        left, top = across * (1 - width), down * (1 - height)
        assert left <= face.left, aspect
        assert face.right <= left + width, aspect
        assert top <= face.top, aspect
        assert face.bottom <= top + height, aspect


def test_faces_are_found_only_where_there_are_some() -> None:
    assert faces(Image.fromarray(data.coffee())) == []  # type: ignore[no-untyped-call]
    assert faces(Image.new("RGB", (20, 4000))) == []
