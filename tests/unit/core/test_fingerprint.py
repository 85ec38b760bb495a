"""What determines a picture, and what makes renders share weights."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.campaign import recipe_at
from farm.core.fingerprint import engine_digest, fingerprint, seed_of
from farm.core.matrix import cell_at, count
from schemas.campaign import ResolvedCampaign
from schemas.picture import PictureFormat
from schemas.recipe import Blended, Control, EngineKey, Mask, Output, Recipe, Upscale
from schemas.rendition import Rendition
from schemas.style import Checks, ControlKind, Fit, Focus, Prepare, Sampler, StrengthMode
from tests.unit.core.samples import campaigns, lora, recipe

CHANGES: dict[str, Any] = {
    "source": "1" * 64,
    "checkpoint": "d" * 64,
    "loras": (lora(0, scale=0.7),),
    "prompt": "a dog",
    "negative_prompt": "",
    "strength": 0.6,
    "guidance": 5.5,
    "steps": 31,
    "sampler": Sampler.DPMPP_2M,
    "size": "48x64",
    "fit": Fit.PAD,
    "background": "#000000",
    "seed": 8,
    "output": Output(format=PictureFormat.JPEG),
    "strength_mode": StrengthMode.NOISE,
    "prepare": Prepare(white_balance=True),
    "mask": Mask(picture="1" * 64, feather=8),
    "control": Control(kind=ControlKind.CANNY, picture=None, scale=0.8, start=0.0, end=1.0),
    "references": ("1" * 64,),
    "blend": (Blended(picture="1" * 64, weight=0.5),),
    "checks": Checks(structure=0.5),
}

SAY_NOTHING_ALONE: dict[str, Any] = {"reference_scale": 0.5}


def test_every_field_of_a_recipe_is_tried_here() -> None:
    assert CHANGES.keys() | SAY_NOTHING_ALONE.keys() == Recipe.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_another_recipe_has_another_fingerprint(field: str) -> None:
    assert fingerprint(recipe(**{field: CHANGES[field]})) != fingerprint(recipe())


def test_equal_recipes_have_equal_fingerprints_of_64_hex_digits() -> None:
    assert fingerprint(recipe()) == fingerprint(Recipe.model_validate_json(recipe().model_dump_json()))
    assert len(bytes.fromhex(fingerprint(recipe()))) == 32


def test_the_fingerprint_of_a_recipe_is_the_same_in_every_release() -> None:
    """When this fails and pixels did not change, every team renders everything again."""
    assert fingerprint(recipe()) == GOLDEN


GOLDEN = "1a7774987c7104d0bb22380a3203930391aecf5eb83a3ade237618832e05d62e"
GOLDEN_ENGINE = "2e7a079e7b78d42c89f870768b45d738841e197d71d50ea0f830101775066e7d"


shas = st.integers(0, 9).map(lambda n: f"{n:064x}")
colours = st.sampled_from(["#ffffff", "#FFFFFF", "#1a2B3c"])
shares = st.floats(0.01, 1)
files = {"format": st.sampled_from(PictureFormat), "quality": st.integers(1, 100)}
renditions = st.one_of(
    st.builds(
        Rendition, name=st.just("a"), aspect=st.sampled_from(["1:1", "4:5"]), focus=st.sampled_from(Focus), **files
    ),
    st.builds(Rendition, name=st.just("b"), size=st.sampled_from(["32x32", "100x90"]), **files),
)
outputs = st.builds(
    Output,
    renditions=st.lists(renditions, max_size=2, unique_by=lambda one: one.name).map(tuple),
    upscale=st.builds(Upscale, strength=st.sampled_from([0.25, 0.3]), steps=st.integers(1, 50)),
    **files,
)
checks = st.builds(
    Checks,
    structure=st.none() | shares,
    edges=st.none() | shares,
    identity=st.none() | shares,
    palette=st.lists(colours, max_size=3).map(tuple),
    delta_e=st.none() | shares,
    rerolls=st.integers(0, 8),
)
controls = st.builds(
    Control, kind=st.sampled_from(ControlKind), picture=st.none() | shas, scale=shares, start=shares, end=shares
)
recipes = st.builds(
    recipe,
    prompt=st.text(max_size=20),
    negative_prompt=st.text(max_size=20),
    strength=st.floats(0, 1),
    guidance=st.floats(0, 30),
    seed=st.integers(0, 2**63 - 1),
    sampler=st.sampled_from(Sampler),
    fit=st.sampled_from(Fit),
    background=colours,
    loras=st.lists(st.builds(lora, st.integers(0, 3), scale=st.floats(-4, 4)), max_size=3).map(tuple),
    output=outputs,
    strength_mode=st.sampled_from(StrengthMode),
    prepare=st.builds(Prepare, auto_levels=st.booleans(), white_balance=st.booleans(), focus=st.sampled_from(Focus)),
    mask=st.none() | st.builds(Mask, picture=shas, feather=st.integers(0, 256), invert=st.booleans()),
    control=st.none() | controls,
    references=st.lists(shas, max_size=3).map(tuple),
    reference_scale=shares,
    blend=st.lists(st.builds(Blended, picture=shas, weight=shares, mask=st.none() | shas), max_size=3).map(tuple),
    checks=st.none() | checks,
)


def file_of(kind: PictureFormat, quality: int) -> dict[str, Any]:
    return {"format": kind.value} | ({} if kind is PictureFormat.PNG else {"quality": quality})


def plain_output(one: Recipe) -> dict[str, Any]:
    value = file_of(one.output.format, one.output.quality)
    if one.output.renditions:
        value["renditions"] = [
            {"name": made.name, **file_of(made.format, made.quality)}
            | ({"size": made.size} if made.size else {"aspect": made.aspect})
            | ({"focus": "salience"} if made.focus is Focus.SALIENCE else {})
            for made in sorted(one.output.renditions, key=lambda made: made.name)
        ]
    if any(made.size == "100x90" for made in one.output.renditions):  # the only one that is larger than 64x48
        value["upscale"] = [one.output.upscale.strength, one.output.upscale.steps]
    return value


def plain(one: Recipe) -> dict[str, Any]:
    """What a recipe asks for, with nothing that does not matter."""
    value = one.model_dump(mode="json")
    value["background"] = one.background.lower()
    value["loras"] = [[part.digest, part.scale] for part in one.loras if part.scale != 0]
    value["output"] = plain_output(one)
    value["blend"] = [list(part.values()) for part in value["blend"]]
    for name in ("mask", "control"):
        value[name] = list(value[name].values()) if value[name] else None
    scale = value.pop("reference_scale")
    value["references"] = [scale, *one.references] if one.references else None
    prepare = {"auto_levels": one.prepare.auto_levels, "white_balance": one.prepare.white_balance}
    prepare["salience"] = one.prepare.focus is Focus.SALIENCE and one.fit is Fit.CROP
    value["prepare"] = sorted(name for name, on in prepare.items() if on)
    if one.checks is not None:
        held = {name: number for name, number in value["checks"].items() if number and name != "palette"}
        if one.checks.delta_e is not None:
            held["palette"] = sorted({colour.lower() for colour in one.checks.palette})
        value["checks"] = held
    return {name: part for name, part in value.items() if part or name not in LEFT_OUT}


LEFT_OUT = ("prepare", "mask", "control", "references", "blend", "checks")
"""When they say nothing."""


@given(recipes)
def test_the_text_that_is_hashed_is_the_recipe_as_json(one: Recipe) -> None:
    text = json.dumps(plain(one), sort_keys=True, separators=(",", ":"))
    assert fingerprint(one) == hashlib.sha256(f"recipe 2\n{text}".encode()).hexdigest()


SQUARE, THUMB = Rendition(name="a", aspect="1:1"), Rendition(name="b", size="32x32")
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a focus where nothing is cut off": ({"fit": Fit.PAD}, {"fit": Fit.PAD, "prepare": Prepare(focus=Focus.SALIENCE)}),
    "how strongly to take after no reference": ({}, {"reference_scale": 0.5}),
    "how to upscale what is not enlarged": ({}, {"output": Output(upscale=Upscale(steps=20))}),
    "the order of renditions": (
        {"output": Output(renditions=(SQUARE, THUMB))},
        {"output": Output(renditions=(THUMB, SQUARE))},
    ),
    "how a colour is spelt": ({"background": "#ABCDEF"}, {"background": "#abcdef"}),
    "checks that check nothing": ({}, {"checks": Checks(rerolls=0)}),
}


@pytest.mark.parametrize("what", SAME)
def test_what_changes_no_pixel_changes_no_fingerprint(what: str) -> None:
    one, other = SAME[what]
    assert fingerprint(recipe(**one)) == fingerprint(recipe(**other))


LARGE = Rendition(name="poster", size="256x192")
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a focus where something is": ({}, {"prepare": Prepare(focus=Focus.SALIENCE)}),
    "another scale of references": (
        {"references": ("1" * 64,), "reference_scale": 0.5},
        {"references": ("1" * 64,), "reference_scale": 0.6},
    ),
    "how what is enlarged is upscaled": (
        {"output": Output(renditions=(LARGE,))},
        {"output": Output(renditions=(LARGE,), upscale=Upscale(steps=20))},
    ),
    "a rendition": ({}, {"output": Output(renditions=(Rendition(name="a", aspect="1:1"),))}),
    "further tries after a blank picture": ({}, {"checks": Checks()}),
    "a colour of a palette": (
        {"checks": Checks(palette=("#000000",), delta_e=5)},
        {"checks": Checks(palette=("#ffffff",), delta_e=5)},
    ),
    "the order of references": ({"references": ("1" * 64, "2" * 64)}, {"references": ("2" * 64, "1" * 64)}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_may_change_a_pixel_changes_the_fingerprint(what: str) -> None:
    one, other = OTHERS[what]
    assert fingerprint(recipe(**one)) != fingerprint(recipe(**other))


def test_what_a_lora_is_called_does_not_matter() -> None:
    named = recipe(loras=(lora(0, name="other", scale=0.8),))
    assert fingerprint(named) == fingerprint(recipe())
    assert engine_digest(named.engine_key) == engine_digest(recipe().engine_key)


def test_a_lora_at_scale_zero_is_not_there() -> None:
    off = recipe(loras=(lora(0, scale=0.8), lora(1, scale=0.0)))
    assert fingerprint(off) == fingerprint(recipe())
    assert engine_digest(off.engine_key) == engine_digest(recipe().engine_key)


def test_quality_matters_where_something_is_lost() -> None:
    def of(kind: PictureFormat, quality: int) -> str:
        return fingerprint(recipe(output=Output(format=kind, quality=quality)))

    assert of(PictureFormat.PNG, 10) == of(PictureFormat.PNG, 90)
    assert of(PictureFormat.JPEG, 10) != of(PictureFormat.JPEG, 90)
    assert of(PictureFormat.WEBP, 10) != of(PictureFormat.WEBP, 90)


@given(st.text(max_size=20), st.text(max_size=20))
def test_prompts_are_told_apart_whatever_they_hold(one: str, other: str) -> None:
    assert (fingerprint(recipe(prompt=one)) == fingerprint(recipe(prompt=other))) == (one == other)
    moved = recipe(prompt=one + other, negative_prompt="")
    assert (fingerprint(recipe(prompt=one, negative_prompt=other)) == fingerprint(moved)) == (other == "")


def test_engine_keys_differ_in_checkpoint_loras_scale_size_and_parts() -> None:
    keys = [
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x64"),
        EngineKey(checkpoint="d", loras=(lora(0),), size="64x64"),
        EngineKey(checkpoint="c", loras=(), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(1),), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0, scale=0.5),), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0), lora(1)), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x72"),
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x64", parts=("reference",)),
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x64", parts=("control.canny", "reference")),
    ]
    assert len({engine_digest(key) for key in keys}) == len(keys)


def test_what_was_learned_of_weights_without_parts_stays_known() -> None:
    """Costs are kept by this digest, and queued shards carry it."""
    digest = engine_digest(EngineKey(checkpoint="c", loras=(lora(0),), size="64x64"))
    assert digest == GOLDEN_ENGINE


@given(campaigns)
def test_seeds_depend_on_source_and_variant_and_on_nothing_else(of: ResolvedCampaign) -> None:
    seeds: dict[tuple[str, int], set[int]] = {}
    for ordinal in range(count(of)):
        cell = cell_at(of, ordinal)
        sha256 = of.blocks[cell.block].sources[cell.source].sha256
        seeds.setdefault((sha256, cell.variant), set()).add(recipe_at(of, ordinal).seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_a_seed_fits_torch_and_changes_with_the_campaign(seed: int, variant: int) -> None:
    found = seed_of(seed, "0" * 64, variant)
    assert 0 <= found < 2**63
    assert found != seed_of(seed ^ 1, "0" * 64, variant)
