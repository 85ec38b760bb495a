"""Digests of what determines a picture, and of what makes renders share weights."""

import hashlib
import json
from json.encoder import encode_basestring_ascii as quoted

from schemas.recipe import EngineKey, Recipe

_RECIPE_VERSION = 1
"""Raised when the same recipe begins to mean other pixels: then nothing old is taken for it."""


def _digest(kind: str, value: object) -> str:
    return _hashed(kind, json.dumps(value, separators=(",", ":"), ensure_ascii=True))


def _hashed(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()


def fingerprint(recipe: Recipe) -> str:
    """64 hex digits: equal for two recipes exactly when they ask for the same picture.

    What a LoRA is called does not matter, only what it is; a LoRA at scale 0 is not there.
    """
    return _hashed(f"recipe {_RECIPE_VERSION}", _text_of(recipe))


def _text_of(recipe: Recipe) -> str:
    """Its fields as JSON, keys in order. By hand: this is done for every render, and `json.dumps` takes six times as
    long; a test compares the two."""
    output = f'"format":"{recipe.output.format.value}"'
    if recipe.output.format != "png":  # which is lossless: quality says nothing
        output += f',"quality":{recipe.output.quality}'
    loras = ",".join(f"[{quoted(lora.digest)},{lora.scale!r}]" for lora in recipe.loras if lora.scale != 0)
    return (
        f'{{"background":{quoted(recipe.background)},"checkpoint":{quoted(recipe.checkpoint)},'
        f'"fit":"{recipe.fit.value}","guidance":{recipe.guidance!r},"loras":[{loras}],'
        f'"negative_prompt":{quoted(recipe.negative_prompt)},"output":{{{output}}},'
        f'"prompt":{quoted(recipe.prompt)},"sampler":"{recipe.sampler.value}","seed":{recipe.seed},'
        f'"size":{quoted(recipe.size)},"source":{quoted(recipe.source)},"steps":{recipe.steps},'
        f'"strength":{recipe.strength!r}}}'
    )


def engine_digest(key: EngineKey) -> str:
    """64 hex digits for an `EngineKey`."""
    loras = [[lora.digest, lora.scale] for lora in key.loras if lora.scale != 0]
    return _digest("engine", [key.checkpoint, loras, key.size])


def seed_of(campaign_seed: int, source: str, variant: int) -> int:
    """The seed of a render, below 2**63: the same across styles and strengths, so that rows compare like with like."""
    return int(_hashed("seed", f"[{campaign_seed},{quoted(source)},{variant}]")[:16], 16) >> 1
