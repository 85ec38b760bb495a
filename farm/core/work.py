"""What a leased shard still asks for: its rows, written out."""

from dataclasses import dataclass

from farm.core.campaign import recipe_of
from farm.core.fingerprint import fingerprint
from farm.core.matrix import cell_at
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from schemas.campaign import ResolvedCampaign
from schemas.recipe import Recipe, unet_steps, upscale_steps


@dataclass(frozen=True, slots=True)
class Row:
    ordinal: int
    recipe: Recipe
    fingerprint: str
    made_from: str = ""  # id of the render whose picture its source is


def rows_of(shard: ShardRow, campaign: ResolvedCampaign) -> list[Row]:
    found = []
    for ordinal in ordinals_of(shard.todo):
        cell = cell_at(campaign, ordinal)
        recipe = recipe_of(campaign, cell)
        made_from = campaign.blocks[cell.block].sources[cell.source].made_from or ""
        found.append(Row(ordinal, recipe, fingerprint(recipe), made_from))
    return found


def unet_steps_at(campaign: ResolvedCampaign, ordinal: int) -> int:
    """UNet steps of one try at a render, for learning what a step costs: `Recipe.unet_steps` at a quarter of the cost.

    What was spent on further tries is not told apart, so a step of weights whose pictures often miss their checks costs
    more: as much as the next campaign will need on the mean.
    """
    cell = cell_at(campaign, ordinal)
    block = campaign.blocks[cell.block]
    style, strength, size = block.styles[cell.style], block.strengths[cell.strength], block.sizes[cell.size]
    own = unet_steps(style.steps, style.strength if strength is None else strength, style.strength_mode)
    return max(1, own + upscale_steps(style.size if size is None else size, campaign.output))
