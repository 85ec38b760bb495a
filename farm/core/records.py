"""Rows as the code sees them: what a store hands out and takes in."""

from dataclasses import dataclass
from datetime import datetime

from farm.core.ids import CampaignId, CheckpointId, KeyId, LoraId, Ordinal, StyleId, TeamId
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.checkpoint import CheckpointFile
from schemas.style import StyleSpec


@dataclass(frozen=True, slots=True)
class TeamRow:
    id: TeamId
    name: str
    max_renders: int  # unfinished renders the team may have at once


@dataclass(frozen=True, slots=True)
class KeyRow:
    id: KeyId
    team: TeamId
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SourceRow:
    sha256: str
    name: str
    bytes: int
    width: int
    height: int
    format: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    id: CheckpointId
    name: str
    digest: str
    layout: str
    prefix: str  # depot key of its folder, ending in "/"
    files: tuple[CheckpointFile, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LoraRow:
    id: LoraId
    name: str
    digest: str
    key: str  # in the depot
    bytes: int
    base: str  # digest of the checkpoint it was checked against
    base_name: str
    targets: int
    rank: int
    trigger_words: tuple[str, ...]
    licence: str
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StyleRow:
    id: StyleId
    name: str
    version: int
    spec: StyleSpec
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewShard:
    """A shard as it is cut: a contiguous range of ordinals [lo, hi) that share an engine key."""

    lo: Ordinal
    hi: Ordinal
    engine_key: str  # digest of the EngineKey
    checkpoint: str  # digest
    seconds: float  # expected GPU seconds of one of its renders


@dataclass(frozen=True, slots=True)
class NewCampaign:
    id: CampaignId
    name: str
    submit_key: str
    submit_hash: str  # sha256 of the body: the same key with another body is refused
    spec: CampaignSpec
    resolved: ResolvedCampaign
    renders: int
    priority: int
    parent: CampaignId | None


@dataclass(frozen=True, slots=True)
class CampaignRow:
    id: CampaignId
    team: TeamId
    name: str
    submit_hash: str
    state: CampaignState
    renders: int
    priority: int
    parent: CampaignId | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class CampaignCounts:
    """In renders. ``queued`` is what is left over."""

    running: int
    succeeded: int
    failed: int
    cancelled: int
    reused: int
    queued: int


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A render that has ended. Picture fields are None unless it succeeded."""

    campaign: CampaignId
    ordinal: Ordinal
    outcome: str  # succeeded, failed
    key: str | None
    sha256: str | None
    bytes: int | None
    width: int | None
    height: int | None
    format: str | None
    reused: bool
    code: str | None
    detail: str | None
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class OpenRange:
    """Ordinals [lo, hi) without an outcome, and what their shard is doing: ready, leased or cancelled."""

    lo: Ordinal
    hi: Ordinal
    state: str


@dataclass(frozen=True, slots=True)
class EventRow:
    id: int
    kind: str
    campaign: CampaignId
    data: dict[str, object]
    at: datetime


@dataclass(frozen=True, slots=True)
class RendererRow:
    name: str
    session: str
    state: str  # starting, idle, busy, draining, lost
    doing: str
    gpu: str
    node: str
    numerics: str
    shards: int
    waiting: int
    checkpoint: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a renderer session is doing, as it last said."""

    session: str
    state: str
    doing: str
    waiting: int
    checkpoint: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What is not yet settled, for metrics."""

    state: str  # ready, leased
    shards: int
    renders: int
    gpu_seconds: float
