"""Replace every name in a spec by what it means now, and collect everything that is wrong on the way."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from farm.core.records import SourceRow, StyleRow
from farm.core.template import names
from farm.ports import TeamTx
from farm.usecases.styles import (
    Weights,
    expiry_faults,
    resolve_style,
    size_faults,
    strength_faults,
    style_faults,
    template_faults,
    weights_of,
)
from schemas.campaign import (
    Block,
    CampaignSpec,
    ResolvedBlock,
    ResolvedCampaign,
    ResolvedSource,
    SourceEntry,
)
from schemas.problem import Fault
from schemas.style import ResolvedStyle

MAX_FAULTS = 200
"""A folder that was never uploaded is one mistake, not a hundred thousand."""


@dataclass(slots=True)
class Faults:
    """What was found. Beyond `MAX_FAULTS` they are only counted."""

    kept: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, pointer: str, code: str, detail: str) -> None:
        self.extend([Fault(pointer=pointer, code=code, detail=detail)])

    def extend(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.count += 1
            if len(self.kept) < MAX_FAULTS:
                self.kept.append(fault)


@dataclass(frozen=True, slots=True)
class Known:
    """All that a spec may name, loaded before anything is decided."""

    sources: dict[str, SourceRow]
    styles: dict[str, StyleRow]  # by reference, such as anime or anime@3
    weights: Weights


def load_known(tx: TeamTx, spec: CampaignSpec) -> Known:
    digests = {entry.source.removeprefix("src_") for block in spec.blocks for entry in block.sources}
    references = {reference for block in spec.blocks for reference in block.styles}
    return Known(tx.sources_by_sha(sorted(digests)), _load_styles(tx, references), weights_of(tx))


def _load_styles(tx: TeamTx, references: set[str]) -> dict[str, StyleRow]:
    found = {row.name: row for row in tx.styles() if row.name in references}
    pinned = [re.fullmatch(r"(.+)@(\d+)", reference) for reference in references]
    for name in {match[1] for match in pinned if match}:
        found |= {f"{name}@{row.version}": row for row in tx.style_versions(name)}
    return {reference: found[reference] for reference in references if reference in found}


def resolve(spec: CampaignSpec, known: Known, now: datetime, faults: Faults) -> ResolvedCampaign:
    """Only good for anything when *faults* stayed empty."""
    blocks = tuple(
        _resolve_block(block, known, now, faults, f"/blocks/{index}") for index, block in enumerate(spec.blocks)
    )
    return ResolvedCampaign(blocks=blocks, seed=spec.seed, output=spec.output)


def renders_in(spec: CampaignSpec) -> int:
    """Known from the spec alone, so that a campaign that is far too large is refused before it is written out."""
    return sum(
        len(b.styles) * len(b.sizes or "1") * len(b.sources) * len(b.prompts) * len(b.strengths or "1") * b.variants
        for b in spec.blocks
    )


def _resolve_block(block: Block, known: Known, now: datetime, faults: Faults, at: str) -> ResolvedBlock:
    styles = _resolve_styles(block, known, now, faults, at)
    for index, size in enumerate(block.sizes or ()):
        faults.extend(size_faults(size, f"{at}/sizes/{index}"))
    for index, prompt in enumerate(block.prompts):
        faults.extend(template_faults(prompt, f"{at}/prompts/{index}"))
    _check_strengths(block, styles, faults, at)
    _check_variables(block, styles, faults, at)
    return ResolvedBlock(
        styles=tuple(styles),
        sizes=block.sizes or (None,),
        sources=tuple(_resolve_sources(block, known, faults, at)),
        prompts=block.prompts,
        strengths=block.strengths or (None,),
        variants=block.variants,
    )


def _resolve_styles(block: Block, known: Known, now: datetime, faults: Faults, at: str) -> list[ResolvedStyle]:
    styles = []
    for index, reference in enumerate(block.styles):
        pointer = f"{at}/styles/{index}"
        row = known.styles.get(reference)
        if row is None:
            faults.add(
                pointer, "unknown_style", f"There is no style {reference}. `farm style list` shows those there are."
            )
            continue
        # A style was sound when it was saved; what it names may have gone since.
        wrong = [fault.model_copy(update={"pointer": pointer}) for fault in style_faults(row.spec, known.weights)]
        faults.extend(wrong)
        faults.extend(expiry_faults(row.spec, known.weights, now, pointer))
        if not wrong:
            styles.append(resolve_style(row.spec, row.version, known.weights))
    return styles


def _resolve_sources(block: Block, known: Known, faults: Faults, at: str) -> Iterable[ResolvedSource]:
    for index, entry in enumerate(block.sources):
        row = known.sources.get(entry.source.removeprefix("src_"))
        if row is None:
            detail = f"There is no source {entry.source[:16]}...: upload the picture first."
            faults.add(f"{at}/sources/{index}/source", "unknown_source", detail)
            continue
        # Every value was validated when it came in; doing it again would be half the time of a large submission.
        yield ResolvedSource.model_construct(
            sha256=row.sha256, name=row.name, prompt=entry.prompt, variables=entry.variables
        )


def _check_strengths(block: Block, styles: list[ResolvedStyle], faults: Faults, at: str) -> None:
    for index, strength in enumerate(block.strengths or ()):
        for style in styles:
            faults.extend(strength_faults(strength, style.steps, style.name, f"{at}/strengths/{index}"))


def _check_variables(block: Block, styles: list[ResolvedStyle], faults: Faults, at: str) -> None:
    asked_by_styles = {style.name: names(style.prompt) | names(style.negative_prompt) for style in styles}
    asked_by_prompts = {f"prompt {n + 1}": names(prompt) for n, prompt in enumerate(block.prompts)}
    common = set().union(*asked_by_styles.values()) - {"prompt"}
    for index, entry in enumerate(block.sources):
        asked = common.union(*([names(entry.prompt)] if entry.prompt is not None else asked_by_prompts.values()))
        if entry.prompt is not None:
            faults.extend(template_faults(entry.prompt, f"{at}/sources/{index}/prompt"))
        for name in sorted(asked - entry.variables.keys()):
            askers = asked_by_styles | asked_by_prompts
            who = next((who for who, wanted in askers.items() if name in wanted), "its own prompt")
            faults.add(f"{at}/sources/{index}/variables", "unknown_variable", _missing(name, who, entry))


def _missing(name: str, who: str, entry: SourceEntry) -> str:
    known = ", ".join(sorted(entry.variables)) or "none"
    return f"{{{name}}} (asked for by {who}) is not among the variables of this source: {known}."
