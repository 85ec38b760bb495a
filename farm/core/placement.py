"""Which shard goes to which renderer: warm first, but age beats warmth."""

from collections.abc import Sequence
from dataclasses import dataclass

from farm.core.ids import RendererName, Session, ShardId

CHECKPOINT_SECONDS = 10.0
"""Loading SDXL from a local disk; a guess until it is measured here."""

LORA_SECONDS = 1.0
"""Fetching and merging a LoRA."""

SLOTS = 2
"""Shards in a renderer at once: one being rendered, one being prefetched."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A ready shard near the head of its queue."""

    shard: ShardId
    engine_key: str
    checkpoint: str
    priority: int
    waited: float  # seconds
    seconds: float  # expected GPU seconds of all its renders


@dataclass(frozen=True, slots=True)
class Free:
    """A renderer that can take another shard."""

    name: RendererName
    session: Session
    held: int  # shards that it has
    engine_key: str  # what it is warm for, "" when cold; of a held shard when it is about to change
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Placed:
    shard: ShardId
    name: RendererName
    session: Session


def load_seconds(renderer: Free, shard: Waiting) -> float:
    """What the renderer must load before it can begin."""
    if renderer.engine_key == shard.engine_key:
        return 0.0
    return LORA_SECONDS if renderer.checkpoint == shard.checkpoint else CHECKPOINT_SECONDS


def place(waiting: Sequence[Waiting], free: Sequence[Free]) -> list[Placed]:
    """Fills the free slots: idle renderers before those that would only prefetch.

    Of the waiting shards of the highest priority, a renderer gets the one with the least (seconds to load - seconds
    waited): a warm shard goes first until a cold one has waited as long as loading it takes. Ties go to the older.
    """
    left = {shard.shard: shard for shard in waiting}
    placed: list[Placed] = []
    for already in range(SLOTS):
        for renderer in sorted((r for r in free if r.held <= already), key=lambda r: r.name):
            if not left:
                return placed
            top = max(shard.priority for shard in left.values())
            best = min(
                (shard for shard in left.values() if shard.priority == top),
                key=lambda shard: (load_seconds(_after(renderer, placed, waiting), shard) - shard.waited, shard.shard),
            )
            del left[best.shard]
            placed.append(Placed(best.shard, renderer.name, renderer.session))
    return placed


def _after(renderer: Free, placed: Sequence[Placed], waiting: Sequence[Waiting]) -> Free:
    """The renderer as it will be once it has done what was just placed there."""
    mine = [p.shard for p in placed if p.session == renderer.session]
    if not mine:
        return renderer
    last = next(shard for shard in waiting if shard.shard == mine[-1])
    return Free(renderer.name, renderer.session, renderer.held, last.engine_key, last.checkpoint)
