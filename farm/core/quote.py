"""What a render costs, before and after it was measured."""

from schemas.recipe import Recipe
from schemas.style import dimensions

_SECONDS_PER_STEP_AND_MEGAPIXEL = 0.02
"""Before anything was measured: an H100 needs about this for SDXL with guidance (research: 2 x 6.8 TFLOP a step)."""

_SECONDS_BESIDE_STEPS = 0.05


def guess_seconds(recipe: Recipe) -> float:
    """GPU seconds of a render of which nothing is known yet."""
    width, height = dimensions(recipe.size)
    return _SECONDS_BESIDE_STEPS + recipe.unet_steps * _SECONDS_PER_STEP_AND_MEGAPIXEL * width * height / 1e6


def expected_seconds(recipe: Recipe, step_seconds: float | None) -> float:
    """GPU seconds of a render, from the measured seconds per UNet step of its engine key where there are any."""
    return guess_seconds(recipe) if step_seconds is None else max(recipe.unet_steps, 1) * step_seconds
