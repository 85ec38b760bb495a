"""Queues of ready shards, and renderers that could take from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId
from schemas.order import Lane

PER_CAMPAIGN = 64
"""Queues of one campaign that are looked at. The first by engine key; the others come as these are through."""

PATIENCE = 10.0
"""Warmth may let a campaign overtake another by this many times the seconds of loading that it saves."""


@dataclass(frozen=True, slots=True)
class Head:
    """A ready shard near the head of its queue."""

    shard: ShardId
    seconds: float  # expected GPU seconds of all its renders, on a GPU of speed 1
    waited: float  # seconds
    avoid: tuple[str, ...] = ()  # names of renderers on which it failed
    alone: bool = False  # it has lost so many renderers that it travels alone: then the next loss proves it


@dataclass(frozen=True, slots=True)
class Queue:
    """Ready shards of one campaign that share an engine key, as many as may be needed, in order."""

    team: TeamId
    campaign: CampaignId
    engine_key: str
    checkpoint: str
    lane: Lane
    priority: int
    position: float  # of the campaign in its team's queue
    heads: tuple[Head, ...]
    deadline: datetime | None = None
    gpu: str | None = None  # only on this type of GPU
    off_peak: bool = False
    step_seconds: float = 0.0  # GPU seconds of a UNet step that those of the heads rest on; 0: not known


@dataclass(frozen=True, slots=True)
class Backlog:
    """All ready shards of a queue, in numbers."""

    shards: int
    renders: int
    seconds: float
    step_seconds: float = 0.0  # as of the queue


@dataclass(frozen=True, slots=True)
class Free:
    """A renderer that can take another shard."""

    name: RendererName
    session: Session
    held: int  # bulk shards that it has
    engine_key: str  # what it is warm for, "" when cold; of a held shard when it is about to change
    checkpoint: str
    gpu: str = ""
    speed: float = 1.0  # measured, against the farm's mean
    interactive: int = 0  # interactive shards that it has
    left: float = 0.0  # expected seconds until it has done what it has
    reserved: bool = False  # nothing for it now: a shard that travels alone is there, or it has just refused one
    probe: bool = False  # it comes out of quarantine: one small shard, and no more until that is through

    @property
    def empty(self) -> bool:
        return not (self.held or self.interactive)

    @property
    def shut(self) -> bool:
        """It has what it may have at once."""
        return self.reserved or (self.probe and not self.empty)


@dataclass(frozen=True, slots=True)
class Loading:
    """Seconds to load weights, by type of GPU."""

    checkpoint: Mapping[str, float]
    lora: Mapping[str, float]
    checkpoint_default: float = 10.0
    lora_default: float = 1.0

    def seconds(self, renderer: Free, engine_key: str, checkpoint: str) -> float:
        """What the renderer must load before it can begin."""
        if renderer.engine_key == engine_key:
            return 0.0
        if renderer.checkpoint == checkpoint:
            return self.lora.get(renderer.gpu, self.lora_default)
        return self.checkpoint.get(renderer.gpu, self.checkpoint_default)


class Line:
    """A queue while it is handed out."""

    __slots__ = ("_next", "backlog", "key", "queue", "taken", "warm")

    def __init__(self, queue: Queue, backlog: Backlog | None, warm: int) -> None:
        self.queue, self.warm = queue, warm
        self.key = (queue.campaign, queue.engine_key)
        self.backlog = max(backlog.seconds if backlog else 0.0, sum(head.seconds for head in queue.heads))
        self.taken: set[ShardId] = set()
        self._next = 0

    def head_for(self, renderer: Free, everybody: frozenset[RendererName]) -> Head | None:
        """The first that *renderer* may take: one that failed there goes elsewhere as long as there is an elsewhere."""
        heads = self.queue.heads
        while self._next < len(heads) and heads[self._next].shard in self.taken:
            self._next += 1
        for head in heads[self._next :]:
            if head.shard in self.taken or (head.alone and not renderer.empty):
                continue
            if renderer.name not in head.avoid or everybody <= set(head.avoid):
                return head
        return None

    def loner(self) -> Head | None:
        """The first that travels alone and is not taken."""
        return next((head for head in self.queue.heads if head.alone and head.shard not in self.taken), None)

    def take(self, head: Head) -> None:
        self.taken.add(head.shard)
        self.backlog -= head.seconds
        self.warm += 1

    def drain(self) -> float:
        """Seconds that it would last if one more renderer worked on it."""
        return self.backlog / (self.warm + 1)


class Band:
    """Lines of one team that stand alike in urgency and priority, in order of position."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: (line.queue.position, line.key))

    @property
    def left(self) -> bool:
        return any(len(line.taken) < len(line.queue.heads) for line in self.lines)

    def pick(self, renderer: Free, fits: Callable[[Line], Head | None], loading: Loading) -> tuple[Line, Head] | None:
        """The best for *renderer*, or None when it may take none of them."""
        self.lines = [line for line in self.lines if len(line.taken) < len(line.queue.heads)]
        first: float | None = None
        until, best, score = 0.0, None, 0.0
        for line in self.lines:
            queue = line.queue
            if first is not None and queue.position > max(first, until):
                break
            warm = queue.engine_key == renderer.engine_key
            if first is not None and queue.position > first and not warm:
                continue
            head = fits(line)
            if head is None:
                continue
            if warm:
                return line, head
            load = loading.seconds(renderer, queue.engine_key, queue.checkpoint)
            if first is None:
                first, until = queue.position, queue.position + PATIENCE * load
            if best is None or line.drain() - load > score:
                best, score = (line, head), line.drain() - load
        return best
