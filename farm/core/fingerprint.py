"""Digests of what determines a picture, and of what makes renders share weights."""

import hashlib
import json

from schemas.recipe import EngineKey, Recipe

_RECIPE_VERSION = 1
"""Raised when the same recipe begins to mean other pixels: then nothing old is taken for it."""


def _digest(kind: str, value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()


def fingerprint(recipe: Recipe) -> str:
    """64 hex digits: equal for two recipes exactly when they ask for the same picture.

    What a LoRA is called does not matter, only what it is; a LoRA at scale 0 is not there.
    """
    value = recipe.model_dump(mode="json")
    value["loras"] = [[lora.digest, lora.scale] for lora in recipe.loras if lora.scale != 0]
    if recipe.output.format == "png":
        value["output"] = {"format": "png"}  # lossless: quality says nothing
    return _digest(f"recipe {_RECIPE_VERSION}", value)


def engine_digest(key: EngineKey) -> str:
    """64 hex digits for an `EngineKey`."""
    loras = [[lora.digest, lora.scale] for lora in key.loras if lora.scale != 0]
    return _digest("engine", [key.checkpoint, loras, key.size])


def seed_of(campaign_seed: int, source: str, variant: int) -> int:
    """The seed of a render, below 2**63: the same across styles and strengths, so that rows compare like with like."""
    return int(_digest("seed", [campaign_seed, source, variant])[:16], 16) >> 1
