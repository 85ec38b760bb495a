"""Campaigns and shards for tests of the core, by hand and by hypothesis."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from farm.core.ids import CampaignId, Fence, ShardId, TeamId
from farm.core.settle import ShardRow
from farm.core.shard import Ranges, ranges_of
from schemas.campaign import ResolvedBlock, ResolvedCampaign, ResolvedSource
from schemas.recipe import Output, Recipe
from schemas.style import Digested, Fit, ResolvedStyle, Sampler, StrengthMode

FENCE = Fence("4d6ed7a0-0000-4000-8000-000000000001")


def style(name: str = "anime", **changes: Any) -> ResolvedStyle:
    values: dict[str, Any] = {
        "name": name,
        "version": 1,
        "checkpoint": "c" * 64,
        "loras": (),
        "prompt": "{prompt}",
        "negative_prompt": "",
        "strength": 0.5,
        "guidance": 5.0,
        "steps": 30,
        "sampler": Sampler.EULER,
        "size": "64x48",
        "fit": Fit.CROP,
        "background": "#ffffff",
        "strength_mode": StrengthMode.DIFFUSERS,  # renders of different strengths then cost differently
    }
    return ResolvedStyle.model_validate(values | changes)


def source(number: int = 0) -> ResolvedSource:
    return ResolvedSource(sha256=f"{number:064x}", name=f"{number}.jpg", prompt=None, variables={})


def block(
    *, styles: int = 1, sizes: int = 1, sources: int = 1, prompts: int = 1, strengths: int = 1, variants: int = 1
) -> ResolvedBlock:
    """Axes of the given lengths, with different values on each."""
    return ResolvedBlock(
        styles=tuple(style(f"style-{n}", loras=(lora(n),)) for n in range(styles)),
        sizes=tuple(f"{64 + 8 * n}x64" for n in range(sizes)),
        sources=tuple(source(n) for n in range(sources)),
        prompts=tuple(f"prompt {n}" for n in range(prompts)),
        strengths=tuple((n + 1) / 100 for n in range(strengths)),
        variants=variants,
    )


def campaign(*blocks: ResolvedBlock) -> ResolvedCampaign:
    return ResolvedCampaign(blocks=blocks or (block(),), seed=7, output=Output())


def lora(number: int = 0, *, name: str | None = None, scale: float = 1.0) -> Digested:
    return Digested(name=name or f"lora-{number}", digest=f"{number + 1:064x}", scale=scale)


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "source": "0" * 64,
        "checkpoint": "c" * 64,
        "loras": (lora(0, scale=0.8),),
        "prompt": "a cat",
        "negative_prompt": "blurry",
        "strength": 0.5,
        "guidance": 5.0,
        "steps": 30,
        "sampler": Sampler.EULER,
        "size": "64x48",
        "fit": Fit.CROP,
        "background": "#ffffff",
        "seed": 7,
        "output": Output(),
        "strength_mode": StrengthMode.DIFFUSERS,  # so half its steps at half strength
    }
    return Recipe.model_validate(values | changes)


def shard_row(todo: Ranges = ((0, 10),), **changes: Any) -> ShardRow:
    row = ShardRow(
        id=ShardId(1),
        team=TeamId(1),
        campaign=CampaignId(5),
        engine_key="e" * 64,
        checkpoint="c" * 64,
        priority=50,
        state="leased",
        fence=FENCE,
        todo=todo,
        tries=0,
        lost=0,
        seconds=0.5,
        cancelling=False,
    )
    return replace(row, **changes)


_LENGTH = st.integers(1, 4)

blocks = st.builds(
    block,
    styles=_LENGTH,
    sizes=_LENGTH,
    sources=_LENGTH,
    prompts=_LENGTH,
    strengths=_LENGTH,
    variants=st.integers(1, 5),
)
campaigns = st.lists(blocks, min_size=1, max_size=3).map(lambda found: campaign(*found))
ordinals = st.sets(st.integers(0, 60), max_size=40)
ranges = ordinals.map(lambda found: ranges_of(sorted(found)))
