"""What a style means at this moment: its names replaced by digests. Shared by saving styles and submitting."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from farm.core.records import CheckpointRow, LoraRow
from farm.core.template import stray
from farm.ports import TeamTx
from schemas.problem import Fault
from schemas.style import Digested, ResolvedStyle, StyleSpec, dimensions

DEFAULT_CHECKPOINT = "default"


@dataclass(frozen=True, slots=True)
class Weights:
    """The checkpoints and LoRAs of a team, by name."""

    checkpoints: Mapping[str, CheckpointRow]
    loras: Mapping[str, LoraRow]

    def checkpoint(self, name: str | None) -> CheckpointRow | None:
        """Without a name: the one called ``default``, else the one that was added first."""
        if name is not None:
            return self.checkpoints.get(name)
        oldest = min(self.checkpoints.values(), key=lambda row: (row.created_at, row.id), default=None)
        return self.checkpoints.get(DEFAULT_CHECKPOINT, oldest)


def weights_of(tx: TeamTx) -> Weights:
    return Weights({row.name: row for row in tx.checkpoints()}, {row.name: row for row in tx.loras()})


def resolve_style(spec: StyleSpec, version: int, weights: Weights) -> ResolvedStyle:
    """Raises `KeyError` when `style_faults` was not asked first."""
    checkpoint = weights.checkpoint(spec.checkpoint)
    if checkpoint is None:
        raise KeyError(spec.checkpoint)
    loras = tuple(Digested(name=x.lora, digest=weights.loras[x.lora].digest, scale=x.scale) for x in spec.loras)
    plain = spec.model_dump(exclude={"checkpoint", "loras"})
    return ResolvedStyle(**plain, version=version, checkpoint=checkpoint.digest, loras=loras)


def style_faults(spec: StyleSpec, weights: Weights, pointer: str = "") -> list[Fault]:
    """Everything in a style that would keep its renders from being made."""
    return [
        *_weight_faults(spec, weights, pointer),
        *strength_faults(spec.strength, spec.steps, spec.name, f"{pointer}/strength"),
        *size_faults(spec.size, f"{pointer}/size"),
        *template_faults(spec.prompt, f"{pointer}/prompt"),
        *template_faults(spec.negative_prompt, f"{pointer}/negative_prompt"),
    ]


def _weight_faults(spec: StyleSpec, weights: Weights, pointer: str) -> list[Fault]:
    faults = []
    if weights.checkpoint(spec.checkpoint) is None:
        what = f"There is no checkpoint {spec.checkpoint}." if spec.checkpoint else "There is no checkpoint yet."
        known = ", ".join(sorted(weights.checkpoints)) or "none: add one first"
        faults.append(
            Fault(pointer=f"{pointer}/checkpoint", code="unknown_checkpoint", detail=f"{what} Known: {known}.")
        )
    for index, entry in enumerate(spec.loras):
        if entry.lora not in weights.loras:
            detail = f"There is no LoRA {entry.lora}. Known: {', '.join(sorted(weights.loras)[:20]) or 'none'}."
            faults.append(Fault(pointer=f"{pointer}/loras/{index}/lora", code="unknown_lora", detail=detail))
    return faults


def strength_faults(strength: float, steps: int, style: str, pointer: str) -> list[Fault]:
    """diffusers runs floor(steps x strength) steps: with none the picture would come back as it went in."""
    if int(steps * strength) >= 1:
        return []
    thousandths = ceil(1000 / steps)
    least = next(n / 1000 for n in range(thousandths, thousandths + 3) if int(steps * (n / 1000)) >= 1)
    detail = (
        f"At strength {strength:g} style {style} with {steps} steps would run none of them. {least:g} is the least."
    )
    return [Fault(pointer=pointer, code="strength_too_low", detail=detail)]


def size_faults(size: str, pointer: str) -> list[Fault]:
    width, height = dimensions(size)
    if width % 8 == 0 and height % 8 == 0:
        return []
    nearest = f"{max(width // 8, 1) * 8}x{max(height // 8, 1) * 8}"
    detail = f"{size} does not go: width and height are multiples of 8, such as {nearest}."
    return [Fault(pointer=pointer, code="size_not_multiple_of_8", detail=detail)]


def template_faults(template: str, pointer: str) -> list[Fault]:
    """Only what is certainly a slip: a brace that belongs to no ``{name}``."""
    rest = stray(template)
    if rest is None:
        return []
    detail = f"The brace at {rest!r} belongs to no variable: {{sku}} is one, in lower case letters, digits and _."
    return [Fault(pointer=pointer, code="bad_template", detail=detail)]


def expiry_faults(spec: StyleSpec, weights: Weights, now: datetime, pointer: str) -> list[Fault]:
    expired = [
        (x.lora, at)
        for x in spec.loras
        if x.lora in weights.loras and (at := weights.loras[x.lora].expires_at) is not None and at <= now
    ]
    return [
        Fault(
            pointer=pointer,
            code="lora_expired",
            detail=f"Style {spec.name} uses LoRA {lora}, whose licence ended on {at:%d %B %Y}.",
        )
        for lora, at in expired
    ]
