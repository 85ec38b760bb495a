"""What every team of a simulated farm has: sources, two checkpoints, LoRAs and styles. And campaigns made of them."""

import random
from datetime import timedelta

from farm.core.ids import CheckpointId, LoraId, StyleId, TeamId, show
from farm.core.keys import lora_key
from farm.core.records import CheckpointRow, LoraRow, SourceRow, StyleRow
from farm.store.memory import MemoryStore
from schemas.campaign import Block, Budget, CampaignSpec, ProofSpec, SourceEntry
from schemas.checkpoint import CheckpointFile
from schemas.order import Lane
from schemas.recipe import Output
from schemas.rendition import Rendition
from schemas.style import StrengthMode, StyleLora, StyleSpec
from tests.simulation.kernel import BEGIN, moment

SOURCES = [f"{n + 1:064x}" for n in range(48)]
CHECKPOINTS = ("base", "other")
LORAS = tuple(f"lora-{n}" for n in range(6))
STYLES = tuple(f"style-{n}" for n in range(8))


WITH_RENDITION = Output(renditions=(Rendition(name="feed", aspect="4:5"),))


def digest(name: str) -> str:
    return f"{sum(ord(c) << (8 * (i % 8)) for i, c in enumerate(name)):064x}"


def stock(store: MemoryStore, team: TeamId) -> None:
    with store.as_team(team) as tx:
        for n, sha256 in enumerate(SOURCES):
            tx.add_source(SourceRow(sha256, f"{n}.jpg", 1000, 64, 64, "jpeg", BEGIN))
        for n, name in enumerate(CHECKPOINTS):
            file = CheckpointFile(path=f"{name}.safetensors", sha256=digest(name), bytes=1000)
            prefix = f"checkpoints/{digest(name)}/"
            tx.add_checkpoint(CheckpointRow(CheckpointId(n + 1), name, digest(name), "single", prefix, (file,), BEGIN))
        for n, name in enumerate(LORAS):
            key, base = lora_key(digest(name)), CHECKPOINTS[n % 2]
            row = LoraRow(
                id=LoraId(n + 1),
                name=name,
                digest=digest(name),
                key=key,
                bytes=100,
                base=digest(base),
                base_name=base,
                targets=1,
                rank=4,
                trigger_words=(),
                licence="",
                expires_at=None,
                created_at=BEGIN,
            )
            tx.add_lora(row)
        for n, name in enumerate(STYLES):
            tx.add_style(StyleRow(StyleId(n + 1), name, 1, _style(n, name), BEGIN))


def _style(n: int, name: str) -> StyleSpec:
    loras = () if n < 2 else (StyleLora(lora=LORAS[n - 2], scale=0.8),)
    mode = StrengthMode.NOISE if n % 4 >= 2 else StrengthMode.DIFFUSERS  # which takes a part of its steps
    steps = (20 + 5 * (n % 3)) // (2 if mode is StrengthMode.NOISE else 1)
    return StyleSpec(
        name=name, checkpoint=CHECKPOINTS[n % 2], loras=loras, steps=steps, size="64x64", strength_mode=mode
    )


def draw_campaign(rng: random.Random, name: str, most: int, now: float, gpus: tuple[str, ...]) -> CampaignSpec:
    """At most *most* renders; now and then with a deadline, a budget, a proof, in the interactive lane."""
    interactive = rng.random() < 0.08
    most = min(most, 24) if interactive else most
    styles = rng.sample(STYLES, rng.choice((1, 1, 2, 3)))
    strengths = rng.choice((None, (0.5,), (0.4, 0.6), (0.3, 0.5, 0.7)))
    cells = len(styles) * len(strengths or (1,))
    sources = max(1, min(len(SOURCES), rng.randint(1, 48), most // cells))
    variants = max(1, min(rng.choice((1, 2, 100)), most // (cells * sources)))
    return CampaignSpec(
        name=name,
        blocks=(
            Block(
                sources=tuple(SourceEntry(source=f"src_{sha}") for sha in sorted(rng.sample(SOURCES, sources))),
                styles=tuple(styles),
                strengths=strengths,
                variants=variants,
                prompts=(rng.choice(("a cat", "a dog")),),
            ),
        ),
        seed=rng.randrange(3),
        output=WITH_RENDITION if sources % 3 == 0 else Output(),
        priority=rng.choice((50, 50, 50, 80, 20)),
        deadline=moment(now) + timedelta(seconds=rng.uniform(30, 400)) if rng.random() < 0.2 else None,
        budget=Budget(gpu_seconds=rng.uniform(5, 60)) if rng.random() < 0.15 else None,
        proof=ProofSpec(renders=rng.choice((None, 3, 8))) if not interactive and rng.random() < 0.2 else None,
        lane=Lane.INTERACTIVE if interactive else Lane.BULK,
        gpu=rng.choice(gpus) if rng.random() < 0.05 else None,
    )


def changed(rng: random.Random, spec: CampaignSpec, name: str, parent: int) -> CampaignSpec:
    """The same with one style exchanged: what stays the same need not be rendered again."""
    block = spec.blocks[0]
    others = [style for style in STYLES if style not in block.styles]
    styles = (*block.styles[1:], rng.choice(others))
    update = {"name": name, "blocks": (block.model_copy(update={"styles": styles}),), "parent": show("cmp", parent)}
    return spec.model_copy(update={**update, "deadline": None})
