"""The life of a row: which rendering comes next, and which one becomes the picture."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors.engine.port import ReferenceInput, Row
from actors.making import (
    NOT_FINITE,
    TILES,
    Enlarge,
    Finish,
    GiveUp,
    Making,
    TryAgain,
    after_failure,
    after_tile,
    after_try,
    begun,
    group_of,
    row_of,
    seed_of_try,
    with_tiles,
)
from actors.prepare import Prepared
from schemas.recipe import Control, Mask, Output, Upscale
from schemas.rendition import Rendition, tiles
from schemas.report import Failure, FailureKind, TriedSeed
from schemas.style import Checks, ControlKind, StrengthMode
from tests.unit.actors.support import SIZE, recipe, row

LARGE = Output(renditions=(Rendition(name="poster", size="128x96"),), upscale=Upscale(strength=0.3, steps=5))


def a_picture(mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (64, 48))


def making(*, lone: bool = False, **changes: Any) -> Making:
    prepared = Prepared(
        picture=a_picture(),
        mask=a_picture("L"),
        control=a_picture(),
        references=(ReferenceInput("r" * 64, a_picture()),),
    )
    return Making(row(0, recipe(**changes)), prepared, lone=lone)


def tried(made: Making, structure: float, *missed: str) -> TriedSeed:
    return TriedSeed(seed=made.seed, structure=structure, missed=missed)


def test_the_first_try_has_the_seed_of_the_recipe_and_later_ones_follow_from_it() -> None:
    assert seed_of_try(7, 0) == 7
    assert seed_of_try(7, 2) == int.from_bytes(hashlib.sha256(b"try\n7\n2").digest()[:8], "big") >> 1


@given(st.integers(0, 2**63 - 1), st.integers(0, 2000), st.integers(0, 2000))
def test_seeds_of_tries_are_seeds_and_differ(seed: int, one: int, other: int) -> None:
    assert 0 <= seed_of_try(seed, one) < 2**63
    assert (seed_of_try(seed, one) == seed_of_try(seed, other)) == (one == other)


def test_a_try_that_passes_becomes_the_picture() -> None:
    made, picture = making(), a_picture()
    after = after_try(made, tried(made, 0.9), picture, "n")
    assert isinstance(after, Finish)
    assert after.picture is picture
    assert (after.making.numerics, after.making.measured.kept, after.making.measured.passed) == ("n", 0, True)


def test_what_misses_is_tried_again_with_the_next_seed_until_the_cap_and_the_best_is_kept() -> None:
    made, pictures = making(checks=Checks(structure=0.95, rerolls=2)), [a_picture() for _ in range(3)]
    after: Any = after_try(made, tried(made, 0.5, "structure"), pictures[0], "first")
    assert isinstance(after, TryAgain)
    assert after.making.todo == (1,)
    assert row_of(after.making, 1).seed == seed_of_try(7, 1)
    after = after_try(after.making, tried(after.making, 0.8, "structure"), pictures[1], "second")
    after = after_try(after.making, tried(after.making, 0.6, "structure"), pictures[2], "third")
    assert isinstance(after, Finish)
    assert after.picture is pictures[1]
    assert after.making.numerics == "second"
    assert [each.seed for each in after.making.tries] == [seed_of_try(7, number) for number in range(3)]
    assert (after.making.measured.kept, after.making.measured.passed) == (1, False)


def test_pixels_that_are_no_numbers_are_a_miss_and_fail_the_row_when_all_tries_were() -> None:
    failure = Failure(kind=FailureKind.BAD_PICTURE, code=NOT_FINITE, detail="No.")
    after: Any = after_failure(making(checks=Checks(rerolls=1)), failure, "n")
    assert isinstance(after, TryAgain)
    last = after_failure(after.making, failure, "n")
    assert isinstance(last, GiveUp)
    assert (last.failure.kind, last.failure.code) == (FailureKind.BAD_PICTURE, NOT_FINITE)
    kept = after_try(after.making, tried(after.making, 0.1), a_picture(), "n")
    assert isinstance(kept, Finish)
    assert kept.making.measured.kept == 1


def test_other_failures_are_not_tried_again() -> None:
    failure = Failure(kind=FailureKind.OUT_OF_VRAM, code="out_of_vram", detail="No.")
    assert after_failure(making(checks=Checks(rerolls=5)), failure, "n") == GiveUp(failure)


def test_a_rendition_larger_than_the_render_is_made_of_tiles() -> None:
    made = making(output=LARGE, mask=Mask(picture="m", feather=2), references=("r" * 64,), reference_scale=0.5)
    after = after_try(made, tried(made, 0.9), a_picture(), "n")
    assert isinstance(after, Enlarge)
    assert after.large == (128, 96)
    cut = [a_picture() for _ in tiles(SIZE, after.large)]
    tiled = with_tiles(after.making, cut)
    assert tiled.todo == tuple(range(TILES, TILES + len(cut)))
    second = row_of(tiled, TILES + 1)
    assert second.picture is cut[1]
    assert (second.strength, second.steps, second.mode) == (0.3, 5, StrengthMode.NOISE)
    assert second.seed == seed_of_try(7, TILES + 1)
    assert (second.mask, second.control) == (None, None)
    assert [each.name for each in second.references] == ["r" * 64]
    assert len({row_of(tiled, part).source for part in tiled.todo}) == len(cut)


def test_a_row_is_tiled_when_the_last_tile_has_come_in_whatever_order() -> None:
    made = with_tiles(making(output=LARGE), [a_picture(), a_picture()])
    made = begun(begun(made, TILES + 1), TILES)
    assert made.todo == ()
    half = after_tile(made, TILES + 1, a_picture())
    assert not half.tiled
    assert after_tile(half, TILES, a_picture()).tiled


@pytest.mark.parametrize("part", [0, 1, TILES])
@pytest.mark.parametrize("lone", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": 1.0},
        {"control": Control(kind=ControlKind.DEPTH, picture="d", scale=0.5, start=0.0, end=1.0)},
        {"references": ("r" * 64,), "reference_scale": 0.4},
    ],
)
def test_the_group_of_a_part_is_known_before_its_pictures_are(part: int, lone: bool, changes: dict[str, Any]) -> None:
    made = making(lone=lone, **changes)
    if not changes.get("references"):  # as prepared from a recipe without them
        bare = Prepared(made.prepared.picture, None, made.prepared.control, ())
        made = Making(made.order, bare, lone=lone)
    made = with_tiles(Making(made.order, made.prepared, lone=lone, tries=(tried(made, 0.9),)), [a_picture()])
    rendered: Row = row_of(made, part)
    assert group_of(made.order.recipe, part, lone=lone) == rendered.group


def test_a_row_takes_everything_from_its_recipe() -> None:
    control = Control(kind=ControlKind.POSE, picture="p", scale=0.7, start=0.1, end=0.8)
    made = making(control=control, strength_mode=StrengthMode.DIFFUSERS, steps=11, strength=0.4, negative_prompt="dull")
    rendered = row_of(made, 0)
    assert rendered.control is not None
    assert (rendered.control.kind, rendered.control.scale, rendered.control.start, rendered.control.end) == (
        ControlKind.POSE,
        0.7,
        0.1,
        0.8,
    )
    assert rendered.control.picture is made.prepared.control
    assert (rendered.picture, rendered.mask) == (made.prepared.picture, made.prepared.mask)
    assert (rendered.mode, rendered.steps, rendered.strength, rendered.negative) == (
        StrengthMode.DIFFUSERS,
        11,
        0.4,
        "dull",
    )
