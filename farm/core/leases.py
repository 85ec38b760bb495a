"""Leases and renderers as the leader sees them."""

from dataclasses import dataclass

from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from schemas.order import Lane


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as the database has it."""

    shard: ShardId
    session: Session
    fence: Fence
    age: float  # seconds
    expired: bool  # its renderer session has not been heard of for the lease time
    ended: bool  # the process behind the session is known to be gone
    cancelled: bool  # its campaign is being cancelled
    engine_key: str
    checkpoint: str
    gpu_seconds: float  # expected of what is still to do
    team: TeamId
    campaign: CampaignId
    lane: Lane
    renders: int  # still to do
    alone: bool = False  # nothing else goes to its renderer, see `Head.alone`
    gpu: str | None = None  # only on this type of GPU
    avoid: tuple[str, ...] = ()  # renderers on which it failed
    step_seconds: float = 0.0  # GPU seconds of a UNet step that `gpu_seconds` rests on; 0: not known


@dataclass(frozen=True, slots=True)
class Seen:
    """A renderer as the fleet has it. ``session`` is None until it has introduced itself."""

    name: RendererName
    session: Session | None
    holds: frozenset[tuple[ShardId, Fence]]
    engine_key: str
    checkpoint: str
    draining: bool = False
    silent: bool = False  # it does not answer: what it has may yet end, but it gets no more
    heard_age: float = 0.0  # seconds since it said what it holds
    gpu: str = ""
    idle: float = 0.0  # seconds since it last had a shard; or, without a session, since it was asked for
    full: bool = False  # it has just said so: it sees what it holds otherwise than we do


@dataclass(frozen=True, slots=True)
class Revoke:
    """The renderer shall hand these back; if not *running*, only what it has not begun."""

    name: RendererName
    shards: tuple[ShardId, ...]
    running: bool = True
