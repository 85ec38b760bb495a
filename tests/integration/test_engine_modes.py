"""The engine's modes, through its port, beside diffusers' own pipelines on the tiny checkpoint.

Both get the same pictures, prompts and generator. Kernels change with the batch size, so that what is compared is equal
to rounding: a few pixels in a thousand may differ by one level of 255, none by more.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.engine.denoise import SdxlEngine
from actors.engine.port import ControlInput, Engine, Refused, Weights
from actors.settings import RendererSettings
from schemas.report import Failure, FailureKind
from schemas.style import ControlKind, Sampler, StrengthMode
from tests.support import tiny, tiny_parts
from tests.support.modes import (
    HEIGHT,
    WIDTH,
    a_mask,
    a_reference,
    a_row,
    assert_others,
    assert_same,
    bits,
    controlled,
    img2img,
    inpainted,
    pixels,
    rendered,
    soft,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CANNY, DEPTH = ControlKind.CANNY, ControlKind.DEPTH
PARTS = ("control.canny", "control.depth", "reference")


@pytest.fixture(scope="module")
def farmyard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with its parts, and its variants."""
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    tiny_parts.inpainting(at / "checkpoint", at / "inpainting")
    tiny_parts.few_steps(at / "checkpoint", at / "few_steps")
    tiny_parts.add_control(at / "checkpoint", CANNY, DEPTH)
    tiny_parts.add_reference(at / "checkpoint")
    return at


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    cache = tmp_path_factory.mktemp("cache")
    return SdxlEngine(RendererSettings(name="farm/test/1/0", device="cpu", batch=3, threads=1, cache=cache))


def load(engine: Engine, farmyard: Path, name: str = "checkpoint") -> None:
    engine.load(Weights(name, farmyard / name, parts=PARTS if name == "checkpoint" else ()))


# each mode alone


@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize("strength", [0.4, 0.75, 0.99])
def test_mask_on_a_plain_unet_is_diffusers_inpainting(
    farmyard: Path, engine: Engine, sampler: Sampler, strength: float
) -> None:
    load(engine, farmyard)
    row = a_row(sampler=sampler, strength=strength, mask=a_mask())
    ours, plain = rendered(engine, row, replace(row, mask=None))
    assert_same(ours, inpainted(farmyard / "checkpoint", row))
    assert_others(ours, plain)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("sampler", list(Sampler))
def test_mask_on_an_inpainting_unet_is_diffusers_inpainting(
    farmyard: Path, engine: Engine, sampler: Sampler, guidance: float
) -> None:
    load(engine, farmyard, "inpainting")
    row = a_row(sampler=sampler, mask=a_mask(), guidance=guidance)
    ours, plain = rendered(engine, row, replace(row, mask=None))
    assert_same(ours, inpainted(farmyard / "inpainting", row))
    assert_others(ours, plain)


def test_inpainting_unet_without_a_mask_paints_over_everything(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard, "inpainting")
    row = a_row(2)
    ours = rendered(engine, row)[0]
    assert_same(ours, inpainted(farmyard / "inpainting", replace(row, mask=Image.new("L", (WIDTH, HEIGHT), 255))))


@pytest.mark.parametrize(
    "control",
    [
        ControlInput(CANNY, None, 0.8),
        ControlInput(CANNY, None, 1.5, 0.0, 0.5),
        ControlInput(DEPTH, soft(50), 0.7),
        ControlInput(DEPTH, soft(50), 0.7, 0.3, 0.9),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_controlnet_is_that_of_diffusers(
    farmyard: Path, engine: Engine, control: ControlInput, guidance: float
) -> None:
    load(engine, farmyard)
    row = a_row(3, control=control, guidance=guidance)
    ours, plain = rendered(engine, row, replace(row, control=None))
    assert_same(ours, controlled(farmyard / "checkpoint", row))
    assert_others(ours, plain)


def test_each_row_is_held_to_the_edges_of_its_own_source(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    rows = [a_row(number, control=ControlInput(CANNY, None, 1.0)) for number in (10, 11)]
    for row, ours in zip(rows, rendered(engine, *rows), strict=True):
        assert_same(ours, controlled(farmyard / "checkpoint", row))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("scale", [0.6, 1.2])
def test_reference_is_the_ip_adapter_of_diffusers(
    farmyard: Path, engine: Engine, guidance: float, scale: float
) -> None:
    load(engine, farmyard)
    row = a_row(4, references=(a_reference(1),), reference_scale=scale, guidance=guidance)
    plain_row = replace(row, references=())
    before = rendered(engine, plain_row)[0]
    ours, plain = rendered(engine, row, plain_row)
    assert_same(ours, img2img(farmyard / "checkpoint", row))
    assert_others(ours, plain)
    assert np.array_equal(before, plain)  # passes with references leave nothing behind


def test_every_one_of_several_references_counts(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    sets = [(a_reference(1),), (a_reference(2),), (a_reference(1), a_reference(2))]
    first, second, both = rendered(
        engine, *(a_row(4, references=references, reference_scale=1.0) for references in sets)
    )
    assert_others(both, first)
    assert_others(both, second)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_few_step_checkpoint_is_told_its_guidance_as_in_diffusers(
    farmyard: Path, engine: Engine, guidance: float
) -> None:
    load(engine, farmyard, "few_steps")
    row = a_row(5, sampler=Sampler.LCM, steps=4, guidance=guidance)
    ours, other = rendered(engine, row, replace(row, guidance=9.0))
    assert_same(ours, img2img(farmyard / "few_steps", row))
    assert_others(ours, other)


def test_few_step_checkpoint_inpaints_as_in_diffusers(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard, "few_steps")
    row = a_row(5, sampler=Sampler.LCM, steps=6, mask=a_mask())
    assert_same(rendered(engine, row)[0], inpainted(farmyard / "few_steps", row))


@pytest.mark.parametrize("sampler", list(Sampler))
def test_nothing_is_painted_where_the_mask_is_black(farmyard: Path, engine: Engine, sampler: Sampler) -> None:
    """Whatever strength and sampler do, the source comes out as the VAE sees it, to the bit."""
    load(engine, farmyard)
    row = a_row(9, sampler=sampler, mode=StrengthMode.NOISE, mask=Image.new("L", (WIDTH, HEIGHT)))
    untouched = replace(row, mask=None, mode=StrengthMode.DIFFUSERS, strength=0.05)
    ours, source = bits(rendered(engine, row)), bits(rendered(engine, untouched))
    assert ours == source


# together


def test_control_reference_and_mask_go_together_and_each_counts(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    row = a_row(
        6,
        mask=a_mask(),
        control=ControlInput(DEPTH, soft(50), 1.0),
        references=(a_reference(3),),
        reference_scale=0.8,
    )
    every = rendered(engine, row)[0]
    for less in ({"mask": None}, {"control": None}, {"references": ()}):
        assert_others(rendered(engine, replace(row, **less))[0], every)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_control_with_a_reference_is_that_of_diffusers(farmyard: Path, engine: Engine, guidance: float) -> None:
    load(engine, farmyard)
    row = a_row(
        7,
        control=ControlInput(CANNY, None, 0.9, 0.0, 0.8),
        references=(a_reference(3),),
        reference_scale=0.8,
        guidance=guidance,
    )
    assert_same(rendered(engine, row)[0], controlled(farmyard / "checkpoint", row))


def test_control_on_an_inpainting_unet_changes_the_picture(farmyard: Path, engine: Engine, tmp_path: Path) -> None:
    at = tmp_path / "checkpoint"
    tiny_parts.inpainting(farmyard / "checkpoint", at)  # with the parts of the plain one, made for 4 channels
    engine.load(Weights("wide", at, parts=PARTS))
    row = a_row(8, mask=a_mask(), control=ControlInput(DEPTH, soft(50), 1.0))
    assert_others(*rendered(engine, row, replace(row, control=None)))


# side by side: the same bits whatever the neighbours


@pytest.mark.parametrize("name", ["checkpoint", "inpainting"])
def test_rows_with_and_without_a_mask_share_a_pass(farmyard: Path, engine: Engine, name: str) -> None:
    load(engine, farmyard, name)
    rows = [a_row(1, mask=a_mask()), a_row(2), a_row(3, mask=a_mask(), strength=0.4, sampler=Sampler.LCM)]
    assert len({row.group for row in rows}) == 1
    together = bits(rendered(engine, *rows))
    assert together == [bits(rendered(engine, row))[0] for row in rows]
    assert together == bits(rendered(engine, *rows[::-1]))[::-1]


def test_rows_of_one_controlnet_share_a_pass_whatever_their_scales(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    controls = [
        ControlInput(DEPTH, soft(50), 0.4),
        ControlInput(DEPTH, soft(51), 1.3, 0.3, 1.0),
        ControlInput(DEPTH, soft(50), 0.4, 0.0, 0.5),
    ]
    rows = [a_row(number, control=control, strength=0.5 + 0.2 * number) for number, control in enumerate(controls)]
    assert len({row.group for row in rows}) == 1
    together = bits(rendered(engine, *rows))
    assert len(set(together)) == 3
    assert together == [bits(rendered(engine, row))[0] for row in rows]


def test_rows_with_references_share_a_pass_whatever_their_number(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    rows = [
        a_row(1, references=(a_reference(1),), reference_scale=0.7),
        a_row(2, references=(a_reference(2), a_reference(1)), reference_scale=0.7, mask=a_mask()),
    ]
    assert len({row.group for row in rows}) == 1
    assert bits(rendered(engine, *rows)) == [bits(rendered(engine, row))[0] for row in rows]


def test_row_that_joins_late_has_the_same_bits(farmyard: Path, engine: Engine) -> None:
    load(engine, farmyard)
    late = a_row(1, mask=a_mask(), control=ControlInput(CANNY, None, 0.9, 0.2, 0.8))
    early = a_row(2, control=ControlInput(CANNY, None, 1.4), strength=0.99)
    alone = bits(rendered(engine, late) + rendered(engine, early))
    assert engine.begin("early", early) is None
    assert not engine.step(early.group)
    assert not engine.step(early.group)
    assert engine.begin("late", late) is None
    found: dict[object, bytes] = {}
    while len(found) < 2:
        found |= {end.id: pixels(end.result).tobytes() for end in engine.step(early.group)}
    assert [found["late"], found["early"]] == alone


# what cannot be done


@pytest.mark.parametrize("part", ["control.pose", "reference"])
def test_part_that_the_checkpoint_lacks_is_refused(farmyard: Path, engine: Engine, part: str) -> None:
    with pytest.raises(Refused) as refused:
        engine.load(Weights("few_steps", farmyard / "few_steps", parts=(part,)))
    assert (refused.value.failure.kind, refused.value.failure.code) == (
        FailureKind.BAD_WEIGHTS,
        "checkpoint_lacks_part",
    )
    load(engine, farmyard, "few_steps")
    assert len(rendered(engine, a_row(1, sampler=Sampler.LCM))) == 1


@pytest.mark.parametrize(
    "wants",
    [
        {"control": ControlInput(CANNY, None, 1.0)},
        {"references": (a_reference(1),), "reference_scale": 1.0},
    ],
)
def test_row_whose_part_was_not_loaded_fails_alone(farmyard: Path, engine: Engine, wants: dict[str, Any]) -> None:
    engine.load(Weights("few_steps", farmyard / "few_steps"))
    ended = engine.begin("odd", a_row(1, **wants))
    assert ended is not None
    assert isinstance(ended.result, Failure)
    assert (ended.result.kind, ended.result.code) == (FailureKind.BAD_WEIGHTS, "checkpoint_lacks_part")
    assert len(rendered(engine, a_row(2))) == 1
