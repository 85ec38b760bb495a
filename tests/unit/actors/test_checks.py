"""What is measured of a picture, and what follows from it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from skimage import data

from actors.checks import Again, Fail, Keep, best, blank, delta_e, measured, not_finite, phash, verdict
from schemas.report import FailureKind, TriedSeed
from schemas.style import Checks

COFFEE = Image.fromarray(data.coffee())  # type: ignore[no-untyped-call]
CAT = Image.fromarray(data.chelsea()).resize(COFFEE.size)  # type: ignore[no-untyped-call]


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    grain = np.random.default_rng(5).normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def of(picture: Image.Image, checks: Checks | None = None, identity: float | None = None) -> TriedSeed:
    return measured(picture, COFFEE, seed=1, checks=checks, identity=identity, blank=False)


def values(tried: TriedSeed) -> tuple[float, float]:
    assert tried.structure is not None
    assert tried.edges is not None
    return tried.structure, tried.edges


def test_picture_that_is_its_source_keeps_all_structure_and_another_little() -> None:
    assert values(of(COFFEE)) == (1.0, 1.0)
    structure, edges = values(of(CAT))
    assert structure < 0.4
    assert edges < 0.4


def test_structure_falls_with_noise_and_edges_fall_with_blur() -> None:
    structures = [values(of(noisy(COFFEE, deviation)))[0] for deviation in (0, 10, 40)]
    edges = [values(of(COFFEE.filter(ImageFilter.GaussianBlur(radius))))[1] for radius in (0, 2, 6)]
    assert structures == sorted(structures, reverse=True)
    assert edges == sorted(edges, reverse=True)
    assert structures[2] < 0.7
    assert edges[2] < 0.8


def test_new_colours_leave_the_edges_as_they_were() -> None:
    """Turned into its negative, a picture has every edge where it had it, and no luminance."""
    structure, edges = values(of(ImageOps.invert(COFFEE)))
    assert edges > 0.95
    assert structure < 0.3


def test_picture_too_small_for_a_window_has_no_structure_to_measure() -> None:
    tiny = Image.new("RGB", (64, 6))
    assert measured(tiny, tiny, seed=1, checks=None, identity=None, blank=False).structure is None


@pytest.mark.parametrize(
    ("colour", "palette", "expected"),
    [
        ("#ff0000", ["#ff0000"], 0.0),
        ("#ff0000", ["#00ff00", "#ff0000"], 0.0),
        ("#ff0000", ["#00ff00"], 86.6082),  # the figure that CIEDE2000 calculators agree on for sRGB, D65
        ("#000000", ["#ffffff"], 100.0),
    ],
)
def test_distance_to_a_palette_is_ciede2000_to_its_nearest_colour(
    colour: str, palette: list[str], expected: float
) -> None:
    assert delta_e(Image.new("RGB", (40, 30), colour), palette) == pytest.approx(expected, abs=0.01)


def test_distance_is_the_mean_over_the_pixels_even_where_they_are_fine() -> None:
    """Stripes of two colours of the palette, a pixel wide: averaged first, they would be a third colour."""
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert delta_e(Image.fromarray(stripes), ["#000000", "#ffffff"]) == 0.0
    half = Image.new("RGB", (400, 400), "#000000")
    half.paste("#ffffff", (0, 0, 200, 400))
    assert delta_e(half, ["#000000"]) == pytest.approx(50.0, abs=1.0)


def test_perceptual_hash_survives_what_eyes_do_not_see_and_tells_pictures_apart() -> None:
    def bits(one: str, other: str) -> int:
        return (int(one, 16) ^ int(other, 16)).bit_count()

    own = phash(COFFEE)
    assert len(own) == 16
    assert bits(own, phash(COFFEE.resize((300, 200)))) <= 4
    assert bits(own, phash(noisy(COFFEE, 8))) <= 4
    assert bits(own, phash(CAT)) > 16


def test_one_colour_is_blank_unless_the_source_was_one_colour_too() -> None:
    plain = Image.new("RGB", COFFEE.size, (40, 50, 60))
    assert blank(plain, COFFEE)
    assert blank(noisy(plain, 0.3), COFFEE)
    assert not blank(plain, plain)
    assert not blank(noisy(plain, 4), COFFEE)
    assert not blank(COFFEE, plain)


@pytest.mark.parametrize(
    ("checks", "missed"),
    [
        (None, ()),
        (Checks(), ()),
        (Checks(structure=0.9), ("structure",)),
        (Checks(structure=0.9, edges=0.9, identity=0.9), ("structure", "edges", "identity")),
        (Checks(structure=0.0, edges=0.0, identity=0.0), ()),
        (Checks(palette=("#ff00ff",), delta_e=1.0), ("delta_e",)),
        (Checks(palette=("#ff00ff",), delta_e=100.0), ()),
        (Checks(palette=("#ff00ff",)), ()),
    ],
)
def test_each_threshold_that_is_not_reached_is_named(checks: Checks | None, missed: tuple[str, ...]) -> None:
    assert of(CAT, checks).missed == missed


def test_blank_picture_misses_everything_that_was_asked() -> None:
    checks = Checks(edges=0.0, palette=("#000000",), delta_e=100)
    found = measured(COFFEE, COFFEE, seed=1, checks=checks, identity=None, blank=True)
    assert found.missed == ("blank", "edges", "delta_e")
    assert not_finite(4, checks) == TriedSeed(seed=4, missed=("not_finite", "edges", "delta_e"))


def test_identity_is_the_engines_figure_where_it_has_one_and_structure_otherwise() -> None:
    assert (of(CAT, identity=0.91234).identity, of(CAT, identity=0.91234).identity_by) == (0.9123, "embedding")
    without = of(CAT)
    assert (without.identity, without.identity_by) == (without.structure, "structure")
    assert of(CAT, Checks(identity=0.9), identity=0.95).missed == ()
    assert of(COFFEE, Checks(identity=0.9), identity=0.5).missed == ("identity",)


# what follows


def tried(*missed: str, structure: float | None = 0.5) -> TriedSeed:
    return TriedSeed(seed=0, structure=structure, missed=missed)


THREE = Checks(structure=0.9, rerolls=2)


@pytest.mark.parametrize(
    ("tries", "checks", "expected"),
    [
        ([tried()], None, Keep(0)),
        ([tried()], THREE, Keep(0)),
        ([tried("structure")], THREE, Again(1)),
        ([tried("structure"), tried("structure")], THREE, Again(2)),
        ([tried("structure"), tried()], THREE, Keep(1)),
        ([tried("structure"), tried("structure", structure=0.8), tried("structure")], THREE, Keep(1)),
        ([tried("structure", "edges"), tried("structure", structure=0.1), tried("blank", "structure")], THREE, Keep(1)),
        ([tried("structure")], Checks(structure=0.9, rerolls=0), Keep(0)),
        ([tried("blank")], Checks(rerolls=1), Again(1)),
        ([tried("blank"), tried("structure")], Checks(rerolls=1), Keep(1)),
    ],
)
def test_a_miss_is_tried_again_until_the_tries_are_used_up(
    tries: list[TriedSeed], checks: Checks | None, expected: Any
) -> None:
    assert verdict(tries, checks) == expected


@pytest.mark.parametrize(
    ("tries", "checks", "code"),
    [
        ([tried("blank")], None, "picture_blank"),
        ([tried("blank", "structure")] * 3, THREE, "picture_blank"),
        ([not_finite(1, None)], None, "picture_not_finite"),
        ([tried("blank", "structure"), tried("blank", "structure"), not_finite(1, THREE)], THREE, "picture_not_finite"),
    ],
)
def test_render_fails_when_every_try_shows_nothing(tries: list[TriedSeed], checks: Checks | None, code: str) -> None:
    found = verdict(tries, checks)
    assert isinstance(found, Fail)
    assert (found.failure.kind, found.failure.code) == (FailureKind.BAD_PICTURE, code)


tries_of_any_kind = st.lists(
    st.builds(
        TriedSeed,
        seed=st.just(0),
        structure=st.none() | st.floats(-1, 1),
        missed=st.lists(st.sampled_from(["structure", "edges", "delta_e"]), unique=True).map(tuple),
    ),
    min_size=1,
    max_size=9,
)


@given(tries_of_any_kind, st.integers(0, 8))
def test_no_try_is_better_than_the_best_and_none_comes_after_the_last(tries: list[TriedSeed], rerolls: int) -> None:
    chosen = tries[best(tries)]
    for other in tries:
        assert len(chosen.missed) <= len(other.missed)
        if len(chosen.missed) == len(other.missed):
            assert (chosen.structure or 0) >= (other.structure or 0)
    found = verdict(tries, Checks(structure=0.9, rerolls=rerolls))
    if isinstance(found, Again):
        assert found.number == len(tries) <= rerolls
        assert tries[-1].missed
    else:
        assert found == Keep(best(tries)) or not tries[-1].missed
