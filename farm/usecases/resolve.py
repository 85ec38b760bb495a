"""Replace every name in a spec by what it means now, and collect everything that is wrong on the way."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, read_render
from farm.core.records import StyleRow
from farm.core.template import names
from farm.ports import TeamTx
from farm.usecases.entries import Pictures, pictures_in, resolve_sources
from farm.usecases.styles import (
    Weights,
    expiry_faults,
    reference_pictures,
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
    SourceEntry,
)
from schemas.problem import Fault
from schemas.rendition import MAX_ENLARGEMENT
from schemas.style import ResolvedStyle, dimensions

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

    pictures: Pictures
    styles: dict[str, StyleRow]  # by reference, such as anime or anime@3
    weights: Weights


def load_known(tx: TeamTx, spec: CampaignSpec) -> Known:
    styles = _load_styles(tx, {reference for block in spec.blocks for reference in block.styles})
    entries = [entry for block in spec.blocks for entry in block.sources]
    digests = {source.removeprefix("src_") for entry in entries for source in pictures_in(entry)}
    digests.update(picture for row in styles.values() for picture in reference_pictures(row.spec.reference))
    made_from = {entry.made_from for entry in entries if entry.made_from is not None}
    pictures = Pictures(tx.sources_by_sha(sorted(digests)), frozenset(_existing(tx, made_from)))
    return Known(pictures, styles, weights_of(tx))


def _existing(tx: TeamTx, renders: Iterable[str]) -> Iterator[str]:
    """Those of the ids that are renders of the team."""
    sizes: dict[CampaignId, int] = {}
    for render in renders:
        try:
            campaign, ordinal = read_render(render)
            if campaign not in sizes:
                sizes[campaign] = tx.campaign(campaign).renders
        except NotFound:
            continue
        if ordinal < sizes[campaign]:
            yield render


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
    _check_renditions(spec, blocks, faults)
    return ResolvedCampaign(blocks=blocks, seed=spec.seed, output=spec.output)


def _check_renditions(spec: CampaignSpec, blocks: Sequence[ResolvedBlock], faults: Faults) -> None:
    sizes = {size or style.size for block in blocks for style in block.styles for size in block.sizes}
    for index, rendition in enumerate(spec.output.renditions):
        factors = {size: rendition.enlargement(*dimensions(size)) for size in sizes}
        size, factor = max(factors.items(), key=lambda item: item[1], default=("", 1.0))
        if factor > MAX_ENLARGEMENT:
            detail = (
                f"Rendition {rendition.name} would enlarge renders of {size} {factor:.1f} times, and "
                f"{MAX_ENLARGEMENT:g} times is the most. Render larger, or ask for less than {rendition.size}."
            )
            faults.add(f"/output/renditions/{index}/size", "rendition_too_large", detail)


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
        sources=tuple(resolve_sources(block, styles, known.pictures, faults.add, at)),
        prompts=block.prompts,
        strengths=block.strengths or (None,),
        variants=block.variants,
        first_variant=block.first_variant,
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
        wrong = [fault.model_copy(update={"pointer": pointer}) for fault in _of_style(row, known)]
        faults.extend(wrong)
        faults.extend(expiry_faults(row.spec, known.weights, now, pointer))
        if not wrong:
            styles.append(resolve_style(row.spec, row.version, known.weights))
    return styles


def _of_style(row: StyleRow, known: Known) -> list[Fault]:
    return style_faults(row.spec, known.weights, known.pictures.sources)


def _check_strengths(block: Block, styles: list[ResolvedStyle], faults: Faults, at: str) -> None:
    for index, strength in enumerate(block.strengths or ()):
        for style in styles:
            found = strength_faults(strength, style.steps, style.strength_mode, style.name, f"{at}/strengths/{index}")
            faults.extend(found)


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
