"""What a style means at this moment: its names replaced by digests. Shared by saving styles and submitting."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from farm.core.records import CheckpointRow, LoraRow
from farm.core.sdxl import parts_of
from farm.core.template import stray
from farm.ports import TeamTx
from schemas.problem import Fault
from schemas.recipe import unet_steps
from schemas.style import (
    Checks,
    Digested,
    ResolvedReference,
    ResolvedStyle,
    Sampler,
    StrengthMode,
    StyleReference,
    StyleSpec,
    dimensions,
)

DEFAULT_CHECKPOINT = "default"

LCM_GUIDANCE = 2.0
"""At most, with the LCM sampler: diffusers' pages on LCM recommend 1 to 2, and above it colours burn."""


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
    plain = spec.model_dump(exclude={"checkpoint", "loras", "reference"})
    reference = None if spec.reference is None else _resolved_reference(spec.reference)
    return ResolvedStyle(**plain, version=version, checkpoint=checkpoint.digest, loras=loras, reference=reference)


def _resolved_reference(reference: StyleReference) -> ResolvedReference:
    return ResolvedReference(scale=reference.scale, pictures=reference_pictures(reference))


def reference_pictures(reference: StyleReference | None) -> tuple[str, ...]:
    """Their sha256."""
    return () if reference is None else tuple(picture.removeprefix("src_") for picture in reference.pictures)


def style_faults(spec: StyleSpec, weights: Weights, pictures: Container[str], pointer: str = "") -> list[Fault]:
    """Everything in a style that would keep its renders from being made. *pictures*: sha256 of uploads that are there,
    of those that it names at least."""
    return [
        *_weight_faults(spec, weights, pointer),
        *_part_faults(spec, weights, pictures, pointer),
        *_range_faults(spec, pointer),
        *_check_faults(spec.checks, f"{pointer}/checks"),
        *strength_faults(spec.strength, spec.steps, spec.strength_mode, spec.name, f"{pointer}/strength"),
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


def _part_faults(spec: StyleSpec, weights: Weights, pictures: Container[str], pointer: str) -> Iterator[Fault]:
    """What control and reference ask of the checkpoint, and of the team's uploads."""
    checkpoint = weights.checkpoint(spec.checkpoint)
    wanted = {} if spec.control is None else {f"control.{spec.control.kind}": f"{pointer}/control/kind"}
    if spec.reference is not None:
        wanted["reference"] = f"{pointer}/reference"
    if wanted and checkpoint is not None:
        there = parts_of(file.path for file in checkpoint.files)
        for part, where in wanted.items():
            if part not in there:
                brings = f"It brings {', '.join(sorted(there))}." if there else "It brings no parts at all."
                detail = f"Checkpoint {checkpoint.name} lacks the part {part} that style {spec.name} needs. {brings}"
                yield Fault(pointer=where, code="checkpoint_lacks_part", detail=detail)
    for index, picture in enumerate(reference_pictures(spec.reference)):
        if picture not in pictures:
            detail = f"There is no reference picture src_{picture[:12]}...: upload it first."
            yield Fault(pointer=f"{pointer}/reference/pictures/{index}", code="unknown_source", detail=detail)


def _range_faults(spec: StyleSpec, pointer: str) -> Iterator[Fault]:
    """Settings that are sound each by itself, and not together."""
    if spec.sampler is Sampler.LCM and spec.guidance > LCM_GUIDANCE:
        detail = (
            f"The sampler lcm takes a guidance of {LCM_GUIDANCE:g} at most, style {spec.name} has {spec.guidance:g}. "
            "1 is usual, and twice as fast."
        )
        yield Fault(pointer=f"{pointer}/guidance", code="guidance_too_high", detail=detail)
    if spec.control is not None and spec.control.start >= spec.control.end:
        detail = (
            f"The control of style {spec.name} would act on no step: it starts at {spec.control.start:g} of them and "
            f"ends at {spec.control.end:g}."
        )
        yield Fault(pointer=f"{pointer}/control/end", code="control_never_acts", detail=detail)


def _check_faults(checks: Checks | None, pointer: str) -> Iterator[Fault]:
    if checks is None:
        return
    if checks.delta_e is not None and not checks.palette:
        detail = "`delta_e` is the distance to the nearest colour of a `palette`, and there is none."
        yield Fault(pointer=f"{pointer}/palette", code="palette_missing", detail=detail)
    if checks.palette and checks.delta_e is None:
        detail = "A `palette` is checked by how far a picture may be from it: give a `delta_e`, such as 20."
        yield Fault(pointer=f"{pointer}/delta_e", code="delta_e_missing", detail=detail)


def strength_faults(strength: float, steps: int, mode: StrengthMode, style: str, pointer: str) -> list[Fault]:
    """Where the UNet would take no step, so that the picture would come back as it went in."""
    if unet_steps(steps, strength, mode) >= 1:
        return []
    if mode is StrengthMode.NOISE:
        detail = f"At strength 0 style {style} would change nothing. Any strength above it does."
        return [Fault(pointer=pointer, code="strength_too_low", detail=detail)]
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
