"""Which shard goes to which renderer: warm first, but age beats warmth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    queues = [_Queue(waiting, priority) for priority in sorted({shard.priority for shard in waiting})]
    after: dict[Session, Free] = {}  # renderers as they will be once they have done what was just placed there
    placed: list[Placed] = []
    for already in range(SLOTS):
        for renderer in sorted((r for r in free if r.held <= already), key=lambda r: r.name):
            while queues and not queues[-1].left:
                queues.pop()
            if not queues:
                return placed
            best = queues[-1].take(after.get(renderer.session, renderer))
            after[renderer.session] = replace(renderer, engine_key=best.engine_key, checkpoint=best.checkpoint)
            placed.append(Placed(best.shard, renderer.name, renderer.session))
    return placed


class _Queue:
    """Waiting shards of one priority. What loading costs depends on three cases only, so three of them are compared."""

    def __init__(self, waiting: Sequence[Waiting], priority: int) -> None:
        mine = [shard for shard in waiting if shard.priority == priority]
        self._all = sorted(mine, key=lambda shard: (shard.waited, -shard.shard))  # the oldest last
        self._by_key: dict[str, list[Waiting]] = {}
        self._by_checkpoint: dict[str, list[Waiting]] = {}
        for shard in self._all:
            self._by_key.setdefault(shard.engine_key, []).append(shard)
            self._by_checkpoint.setdefault(shard.checkpoint, []).append(shard)
        self._taken: set[ShardId] = set()
        self.left = len(mine)

    def take(self, renderer: Free) -> Waiting:
        """The best for *renderer*; there must be one left."""
        stacks = (
            self._by_key.get(renderer.engine_key, []),
            self._by_checkpoint.get(renderer.checkpoint, []),
            self._all,
        )
        heads = [stack[-1] for stack in stacks if self._settle(stack)]
        best = min(heads, key=lambda shard: (load_seconds(renderer, shard) - shard.waited, shard.shard))
        self._taken.add(best.shard)
        self.left -= 1
        return best

    def _settle(self, stack: list[Waiting]) -> bool:
        """Drops what was taken from the top; whether anything is left."""
        while stack and stack[-1].shard in self._taken:
            stack.pop()
        return bool(stack)
