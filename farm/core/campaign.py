"""A campaign's states, and its renders written out."""

from farm.core.fingerprint import seed_of
from farm.core.matrix import Cell, cell_at
from farm.core.template import fill
from schemas.campaign import CampaignState, ResolvedCampaign, ResolvedSource
from schemas.recipe import Control, Recipe
from schemas.style import ControlKind, ResolvedStyle

S = CampaignState

EDGES: frozenset[tuple[CampaignState, CampaignState]] = frozenset(
    {
        (S.PROOFING, S.AWAITING_APPROVAL),  # the proof is through, and something is held
        (S.PROOFING, S.DONE),  # the proof was all of it
        (S.PROOFING, S.ACTIVE),  # approved before the last picture of the proof was there
        (S.PROOFING, S.PAUSED),
        (S.PROOFING, S.CANCELLING),
        (S.AWAITING_APPROVAL, S.ACTIVE),
        (S.AWAITING_APPROVAL, S.CANCELLING),
        (S.ACTIVE, S.PAUSED),
        (S.ACTIVE, S.CANCELLING),
        (S.ACTIVE, S.DONE),
        (S.PAUSED, S.ACTIVE),
        (S.PAUSED, S.PROOFING),  # it was paused before its proof was approved
        (S.PAUSED, S.CANCELLING),
        (S.PAUSED, S.DONE),  # the last shards were already in a renderer when it was paused
        (S.CANCELLING, S.CANCELLED),
    }
)

BEGINS = frozenset({S.ACTIVE, S.PROOFING})
ENDED = frozenset({S.DONE, S.CANCELLED})


def may_move(frm: CampaignState, to: CampaignState) -> bool:
    return (frm, to) in EDGES


def resumed(has_held: bool) -> CampaignState:
    """Where a paused campaign goes on. While shards are held its proof has not been approved."""
    return S.PROOFING if has_held else S.ACTIVE


def recipe_at(campaign: ResolvedCampaign, ordinal: int) -> Recipe:
    """One render, written out. Raises `IndexError` outside the campaign."""
    return recipe_of(campaign, cell_at(campaign, ordinal))


def recipe_of(campaign: ResolvedCampaign, cell: Cell) -> Recipe:
    block = campaign.blocks[cell.block]
    style, source = block.styles[cell.style], block.sources[cell.source]
    strength, size = block.strengths[cell.strength], block.sizes[cell.size]
    prompt = block.prompts[cell.prompt] if source.prompt is None else source.prompt
    values = {**source.variables, "prompt": fill(prompt, source.variables)}
    references = _references(style, source)
    return Recipe(
        source=source.sha256,
        checkpoint=style.checkpoint,
        loras=style.loras,
        prompt=fill(style.prompt, values),
        negative_prompt=fill(style.negative_prompt, values),
        strength=style.strength if strength is None else strength,
        guidance=style.guidance,
        steps=style.steps,
        sampler=style.sampler,
        size=style.size if size is None else size,
        fit=style.fit,
        background=style.background,
        seed=seed_of(campaign.seed, source.sha256, block.first_variant + cell.variant),
        output=campaign.output,
        strength_mode=style.strength_mode,
        prepare=style.prepare,
        mask=source.mask,
        control=None if style.control is None else _control(style, source),
        references=references,
        reference_scale=style.reference.scale if style.reference is not None and references else 0.0,
        blend=source.blend,
        checks=style.checks,
    )


def _references(style: ResolvedStyle, source: ResolvedSource) -> tuple[str, ...]:
    """A source's own take the place of those of the style."""
    if style.reference is None:
        return ()
    return source.references or style.reference.pictures


def _control(style: ResolvedStyle, source: ResolvedSource) -> Control | None:
    wanted = style.control
    if wanted is None:
        return None
    picture = None if wanted.kind is ControlKind.CANNY else source.control  # edges are found in the source itself
    return Control(kind=wanted.kind, picture=picture, scale=wanted.scale, start=wanted.start, end=wanted.end)
