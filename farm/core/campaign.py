"""A campaign's states, and its renders written out."""

from farm.core.fingerprint import seed_of
from farm.core.matrix import Cell, cell_at
from farm.core.template import fill
from schemas.campaign import CampaignState, ResolvedCampaign
from schemas.recipe import Recipe

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
        seed=seed_of(campaign.seed, source.sha256, cell.variant),
        output=campaign.output,
    )
