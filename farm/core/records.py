"""Rows as the code sees them: what a store hands out and takes in."""

from dataclasses import dataclass
from datetime import datetime

from farm.core.ids import CampaignId, CheckpointId, KeyId, LoraId, Ordinal, RendererName, StyleId, TeamId
from schemas.campaign import Budget, CampaignSpec, CampaignState, PausedBy, ResolvedCampaign
from schemas.checkpoint import CheckpointFile
from schemas.order import Lane
from schemas.quote import Quote
from schemas.report import Measured, PublishedRendition
from schemas.style import StyleSpec


@dataclass(frozen=True, slots=True)
class TeamRow:
    id: TeamId
    name: str
    max_renders: int  # unfinished renders the team may have at once
    weight: float = 1.0
    quota: int | None = None  # renderers at once while others wait
    burst: int | None = None  # renderers at once in any case
    budget: Budget | None = None  # for each calendar month (UTC)
    retention_days: int | None = None  # None: for ever


@dataclass(frozen=True, slots=True)
class SpentRow:
    gpu_seconds: float = 0.0
    money: float = 0.0

    def __add__(self, other: "SpentRow") -> "SpentRow":
        return SpentRow(self.gpu_seconds + other.gpu_seconds, self.money + other.money)


@dataclass(frozen=True, slots=True)
class CostRow:
    """What a UNet step costs with these weights on this type of GPU, in GPU seconds, as learned from renders."""

    engine_key: str
    gpu: str
    step_seconds: float
    spread: float  # standard deviation between renders
    renders: int


@dataclass(frozen=True, slots=True)
class LoadCost:
    """Seconds to load weights on a type of GPU, as learned. *kind* is checkpoint or lora."""

    gpu: str
    kind: str
    seconds: float
    loads: int


@dataclass(frozen=True, slots=True)
class Amend:
    """Changes to a campaign under way; None leaves as it is."""

    priority: int | None = None
    deadline: datetime | None = None
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class QueuedCampaign:
    """An open campaign in its team's queue."""

    id: CampaignId
    state: CampaignState
    lane: Lane
    priority: int
    position: float
    deadline: datetime | None
    off_peak: bool
    renders: int  # ready ones
    seconds: float  # expected GPU seconds of those
    leased: int  # shards


@dataclass(frozen=True, slots=True)
class FarmView:
    """How the farm looked to its leader at its last tick; None of the API's processes sees the renderers itself."""

    at: datetime
    leading: bool  # the leader's time is not over
    depot_up: bool = True
    off_peak: bool = True  # the hours of off-peak campaigns have begun
    renderers: tuple[tuple[str, str, int], ...] = ()  # (GPU type, state, how many)
    wanted: int = 0
    most: int = 0  # renderers that the fleets may have
    gpus: tuple[str, ...] = ()  # types that the fleets can have, as far as they are known


@dataclass(frozen=True, slots=True)
class WhyFacts:
    """All that is needed to say why a campaign waits."""

    campaign: "CampaignRow"
    counts: "CampaignCounts"
    team: TeamRow
    spent: SpentRow  # by the campaign
    team_spent: SpentRow  # by the team, this month
    queue: tuple[QueuedCampaign, ...]  # of the team, this campaign too
    next_ready_at: datetime | None  # when the first of its shards that back off may go
    backing_off: int  # its ready shards whose time has not come
    renderers_used: int  # by the team now
    campaign_renderers: int  # by this campaign now
    others_waiting: int  # other teams that have something ready
    missing: tuple[str, ...]  # names of weights it needs that are gone
    farm: FarmView


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
    """A shard as it is cut: ordinals that share an engine key, as sorted, disjoint [lo, hi) ranges."""

    todo: tuple[tuple[int, int], ...]
    engine_key: str  # digest of the EngineKey
    checkpoint: str  # digest
    seconds: float  # expected GPU seconds of one of its renders
    state: str = "ready"  # or held: until the campaign's proof is approved
    step_seconds: float = 0.0  # GPU seconds of a UNet step that this rests on; 0: not known


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
    deadline: datetime | None = None
    budget: Budget | None = None
    lane: Lane = Lane.BULK
    gpu: str | None = None
    off_peak: bool = False
    state: CampaignState = CampaignState.ACTIVE  # or proofing
    quote: Quote | None = None


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
    deadline: datetime | None = None
    budget: Budget | None = None
    lane: Lane = Lane.BULK
    gpu: str | None = None
    off_peak: bool = False
    position: float = 0.0  # in its team's queue: the least goes first; the time of submission unless it was moved
    paused_by: PausedBy | None = None
    warnings: tuple[str, ...] = ()  # codes of what people were warned of and still holds
    quote: Quote | None = None


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
    numerics: str | None = None  # None: it was taken over from an earlier campaign
    renditions: tuple[PublishedRendition, ...] = ()
    measured: Measured | None = None


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
    state: str  # starting, idle, busy, draining, quarantined, lost
    doing: str
    gpu: str
    node: str
    numerics: str
    shards: int
    waiting: int
    checkpoint: str
    seen_at: datetime
    quarantine: str = ""  # why


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a renderer session is doing, as it last said."""

    session: str
    state: str
    doing: str
    waiting: int
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Accusation:
    """What stands against a renderer: tries that failed there since its last success, and how the same fared elsewhere.

    Each try counts once, however often it failed there.
    """

    name: RendererName
    failed: int  # different renders, or shards that were lost with it
    cleared: int  # of them: succeeded on another renderer since, so they are not to blame
    shared: int  # of them: failed on another renderer too, so this one may not be to blame
    campaigns: int  # different campaigns among them
    last_code: str
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A renderer that gets no work; after *until* it gets one shard as a probe."""

    name: RendererName
    why: str
    since: datetime
    until: datetime
    probes: int  # that failed
    by_hand: bool = False  # an operator did it: only an operator undoes it


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An object that nothing refers to, and since when that is known."""

    key: str
    reason: str  # orphan, retention, unwanted
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Ledger:
    """A campaign's books, for the audit. Ranges are ordinals as sorted, disjoint [lo, hi)."""

    campaign: CampaignId
    team: TeamId
    state: CampaignState
    renders: int
    succeeded: tuple[tuple[int, int], ...] = ()  # what its outcomes say
    failed: tuple[tuple[int, int], ...] = ()
    outcomes: int = 0  # rows
    strays: int = 0  # of them: another team's
    counted: int = 0  # outcomes, as its shards count them
    open: tuple[tuple[int, int], ...] = ()  # to do in shards that are ready, leased or held
    open_renders: int = 0  # the same, shard by shard: more when two shards share an ordinal
    cancelled: tuple[tuple[int, int], ...] = ()  # left over in cancelled shards
    cancelled_renders: int = 0
    told_succeeded: tuple[tuple[int, int], ...] = ()  # what its events say
    told_failed: tuple[tuple[int, int], ...] = ()
    told: int = 0  # the same, event by event


@dataclass(frozen=True, slots=True)
class TriesRow:
    """An outcome whose tries are not simply those on record, for the audit."""

    campaign: CampaignId
    ordinal: Ordinal
    succeeded: bool
    tries: int
    counted: int  # failed tries on record that count
    forgiven: int  # that would, had a quarantine not taken the blame


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture as it should lie in the depot with its renditions, for the audit."""

    id: int
    key: str
    sha256: str
    bytes: int
    renditions: tuple[PublishedRendition, ...] = ()
