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
from schemas.recipe import EngineKey, Output, PictureFormat, Recipe
from schemas.style import Fit, Sampler
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
}


def test_every_field_of_a_recipe_is_tried_here() -> None:
    assert CHANGES.keys() == Recipe.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_another_recipe_has_another_fingerprint(field: str) -> None:
    assert fingerprint(recipe(**{field: CHANGES[field]})) != fingerprint(recipe())


def test_equal_recipes_have_equal_fingerprints_of_64_hex_digits() -> None:
    assert fingerprint(recipe()) == fingerprint(Recipe.model_validate_json(recipe().model_dump_json()))
    assert len(bytes.fromhex(fingerprint(recipe()))) == 32


def test_the_fingerprint_of_a_recipe_is_the_same_in_every_release() -> None:
    """When this fails and pixels did not change, every team renders everything again."""
    assert fingerprint(recipe()) == GOLDEN


GOLDEN = "80b8c11740bd8c526fb26b5583473bf61c82e0b4149621e04135a07659aa0d66"


recipes = st.builds(
    recipe,
    prompt=st.text(max_size=20),
    negative_prompt=st.text(max_size=20),
    strength=st.floats(0, 1),
    guidance=st.floats(0, 30),
    seed=st.integers(0, 2**63 - 1),
    sampler=st.sampled_from(Sampler),
    fit=st.sampled_from(Fit),
    loras=st.lists(st.builds(lora, st.integers(0, 3), scale=st.floats(-4, 4)), max_size=3).map(tuple),
    output=st.builds(Output, format=st.sampled_from(PictureFormat), quality=st.integers(1, 100)),
)


@given(recipes)
def test_the_text_that_is_hashed_is_the_recipe_as_json(one: Recipe) -> None:
    value = one.model_dump(mode="json")
    value["loras"] = [[part.digest, part.scale] for part in one.loras if part.scale != 0]
    if one.output.format == "png":
        value["output"] = {"format": "png"}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert fingerprint(one) == hashlib.sha256(f"recipe 1\n{text}".encode()).hexdigest()


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


def test_engine_keys_differ_in_checkpoint_loras_scale_and_size() -> None:
    keys = [
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x64"),
        EngineKey(checkpoint="d", loras=(lora(0),), size="64x64"),
        EngineKey(checkpoint="c", loras=(), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(1),), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0, scale=0.5),), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0), lora(1)), size="64x64"),
        EngineKey(checkpoint="c", loras=(lora(0),), size="64x72"),
    ]
    assert len({engine_digest(key) for key in keys}) == len(keys)


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
