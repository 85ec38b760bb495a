"""What a leased shard still asks for: its rows, written out."""

from dataclasses import dataclass

from farm.core.campaign import recipe_at
from farm.core.fingerprint import fingerprint
from farm.core.matrix import cell_at
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from schemas.campaign import ResolvedCampaign
from schemas.recipe import Recipe, unet_steps


@dataclass(frozen=True, slots=True)
class Row:
    ordinal: int
    recipe: Recipe
    fingerprint: str


def rows_of(shard: ShardRow, campaign: ResolvedCampaign) -> list[Row]:
    found = []
    for ordinal in ordinals_of(shard.todo):
        recipe = recipe_at(campaign, ordinal)
        found.append(Row(ordinal, recipe, fingerprint(recipe)))
    return found


def unet_steps_at(campaign: ResolvedCampaign, ordinal: int) -> int:
    """UNet steps of one render, for learning what a step costs. The whole recipe would cost four times as much."""
    cell = cell_at(campaign, ordinal)
    block = campaign.blocks[cell.block]
    style, strength = block.styles[cell.style], block.strengths[cell.strength]
    return max(1, unet_steps(style.steps, style.strength if strength is None else strength))
