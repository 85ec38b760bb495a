"""Digests of what determines a picture, and of what makes renders share weights."""

import hashlib
import json
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted

from schemas.picture import PictureFormat
from schemas.recipe import Blended, Control, EngineKey, Mask, Output, Recipe
from schemas.rendition import Rendition, enlarged
from schemas.style import Checks, Fit, Focus, Prepare

_RECIPE_VERSION = 2
"""Raised when the same recipe begins to mean other pixels: then nothing old is taken for it."""


THRESHOLDS = {"structure", "edges", "identity", "delta_e"}


def _digest(kind: str, value: object) -> str:
    return _hashed(kind, json.dumps(value, separators=(",", ":"), ensure_ascii=True))


def _hashed(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()


def fingerprint(recipe: Recipe) -> str:
    """64 hex digits: equal for two recipes exactly when they ask for the same picture and the same renditions of it.

    What a LoRA is called does not matter, only what it is; a LoRA at scale 0 is not there.
    """
    return _hashed(f"recipe {_RECIPE_VERSION}", _text_of(recipe))


def _text_of(recipe: Recipe) -> str:
    """Its fields as JSON, keys in order, without those that say nothing. By hand: this is done for every render, and
    `json.dumps` takes six times as long; a test compares the two."""
    loras = ",".join(f"[{quoted(lora.digest)},{lora.scale!r}]" for lora in recipe.loras if lora.scale != 0)
    blend = f'"blend":[{",".join(map(_blended, recipe.blend))}],' if recipe.blend else ""
    checks = "" if recipe.checks is None else _checks(recipe.checks)
    control = "" if recipe.control is None else _control(recipe.control)
    mask = "" if recipe.mask is None else _mask(recipe.mask)
    return (
        f'{{"background":{quoted(recipe.background.lower())},{blend}"checkpoint":{quoted(recipe.checkpoint)},'
        f'{checks}{control}"fit":"{recipe.fit.value}","guidance":{recipe.guidance!r},"loras":[{loras}],{mask}'
        f'"negative_prompt":{quoted(recipe.negative_prompt)},"output":{_output(recipe.output, recipe.size)},'
        f'{_prepare(recipe.prepare, recipe.fit)}"prompt":{quoted(recipe.prompt)},'
        f'{_references(recipe)}"sampler":"{recipe.sampler.value}","seed":{recipe.seed},'
        f'"size":{quoted(recipe.size)},"source":{quoted(recipe.source)},"steps":{recipe.steps},'
        f'"strength":{recipe.strength!r},"strength_mode":"{recipe.strength_mode.value}"}}'
    )


def _blended(one: Blended) -> str:
    over = "null" if one.mask is None else quoted(one.mask)
    return f"[{quoted(one.picture)},{one.weight!r},{over}]"


def _mask(mask: Mask) -> str:
    return f'"mask":[{quoted(mask.picture)},{mask.feather},{"true" if mask.invert else "false"}],'


def _control(control: Control) -> str:
    picture = "null" if control.picture is None else quoted(control.picture)
    return f'"control":["{control.kind.value}",{picture},{control.scale!r},{control.start!r},{control.end!r}],'


def _references(recipe: Recipe) -> str:
    if not recipe.references:
        return ""
    return f'"references":[{recipe.reference_scale!r},{",".join(map(quoted, recipe.references))}],'


def _prepare(prepare: Prepare, fit: Fit) -> str:
    """What is cut off matters only where something is."""
    chosen = '"auto_levels",' if prepare.auto_levels else ""
    if prepare.focus is not Focus.CENTRE and fit is Fit.CROP:
        chosen += f'"{prepare.focus.value}",'
    if prepare.white_balance:
        chosen += '"white_balance",'
    return f'"prepare":[{chosen[:-1]}],' if chosen else ""


@lru_cache(maxsize=256)
def _checks(checks: Checks) -> str:
    """They decide which try is kept, and what is noted of it. Without thresholds a further try is made of a blank
    picture all the same."""
    held = checks.model_dump(include=THRESHOLDS, exclude_none=True)
    if checks.delta_e is not None:
        held["palette"] = sorted({colour.lower() for colour in checks.palette})
    if checks.rerolls:
        held["rerolls"] = checks.rerolls
    return f'"checks":{_json(held)},' if held else ""


def _output(output: Output, size: str) -> str:
    if output.renditions:
        return _with_renditions(output, size)
    if output.format is PictureFormat.PNG:
        return '{"format":"png"}'
    return f'{{"format":"{output.format.value}","quality":{output.quality}}}'


@lru_cache(maxsize=256)
def _with_renditions(output: Output, size: str) -> str:
    value = _file(output.format, output.quality)
    value["renditions"] = [_rendition(one) for one in sorted(output.renditions, key=lambda one: one.name)]
    if enlarged(size, output.renditions) is not None:
        value["upscale"] = [output.upscale.strength, output.upscale.steps]
    return _json(value)


def _rendition(one: Rendition) -> dict[str, object]:
    focus = {} if one.focus is Focus.CENTRE else {"focus": one.focus.value}
    cut = {"aspect": one.aspect} if one.size is None else {"size": one.size}
    return {"name": one.name, **cut, **focus, **_file(one.format, one.quality)}


def _file(kind: PictureFormat, quality: int) -> dict[str, object]:
    """PNG is lossless: quality says nothing."""
    return {"format": kind.value} if kind is PictureFormat.PNG else {"format": kind.value, "quality": quality}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def engine_digest(key: EngineKey) -> str:
    """64 hex digits for an `EngineKey`."""
    loras = [[lora.digest, lora.scale] for lora in key.loras if lora.scale != 0]
    parts = [list(key.parts)] if key.parts else []  # without any, what was learned of the weights before stays theirs
    return _digest("engine", [key.checkpoint, loras, key.size, *parts])


def seed_of(campaign_seed: int, source: str, variant: int) -> int:
    """The seed of a render, below 2**63: the same across styles and strengths, so that rows compare like with like."""
    return int(_hashed("seed", f"[{campaign_seed},{quoted(source)},{variant}]")[:16], 16) >> 1
