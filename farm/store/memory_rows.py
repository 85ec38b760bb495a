"""Rows of the store's twin that `farm.core.records` does not have. Named tuples: they are made by the million."""

from datetime import date, datetime
from typing import NamedTuple

from farm.core.ids import CampaignId, Fence, Ordinal, RendererName, Session, ShardId, TeamId
from farm.core.records import CampaignRow, SpentRow, TeamRow
from farm.core.shard import Ranges
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.order import Lane
from schemas.report import Published

S = CampaignState
RUNNABLE = (S.ACTIVE, S.PROOFING)
OPEN = (S.ACTIVE, S.PROOFING, S.PAUSED, S.AWAITING_APPROVAL)
GONE = (S.CANCELLING, S.CANCELLED)


class Team(NamedTuple):
    row: TeamRow
    vtime: float = 0.0
    backlogged: bool = False
    event_id: int = 0


class Campaign(NamedTuple):
    row: CampaignRow
    submit_key: str
    spec: CampaignSpec
    resolved: ResolvedCampaign
    pruned_at: datetime | None = None


class Shard(NamedTuple):
    id: ShardId
    team: TeamId
    campaign: CampaignId
    engine_key: str
    checkpoint: str
    state: str  # ready, held, leased, done, cancelled
    place: int
    todo: Ranges
    renders: int
    seconds: float
    ready_at: datetime
    tries: int = 0
    lost: int = 0
    depot_tries: int = 0
    avoid: tuple[str, ...] = ()
    fence: Fence | None = None
    session: Session | None = None
    leased_at: datetime | None = None
    succeeded: int = 0
    failed: int = 0
    reused: int = 0
    step_seconds: float = 0.0


class Picture(NamedTuple):
    id: int
    team: TeamId
    fingerprint: str
    published: Published


class Outcome(NamedTuple):
    team: TeamId
    campaign: CampaignId
    ordinal: Ordinal
    picture: int | None  # none: it failed
    reused: bool
    tries: int
    gpu_seconds: float
    money: float
    renderer: str | None
    numerics: str | None
    code: str | None
    detail: str | None
    finished_at: datetime


class Attempt(NamedTuple):
    """A try that failed. Without an ordinal: the whole shard lost its renderer."""

    id: int
    team: TeamId
    campaign: CampaignId
    shard: ShardId
    ordinal: Ordinal | None
    fence: Fence | None
    renderer: RendererName | None
    kind: str
    code: str
    detail: str
    at: datetime
    forgiven: bool = False


class SessionRow(NamedTuple):
    session: Session
    name: RendererName
    state: str
    doing: str
    gpu: str
    node: str
    numerics: str
    waiting: int
    checkpoint: str
    expires_at: datetime
    seen_at: datetime
    ended_at: datetime | None = None


class Health(NamedTuple):
    name: RendererName
    last_success: datetime | None = None
    quarantined_at: datetime | None = None
    until: datetime | None = None
    why: str = ""
    probes: int = 0
    by_hand: bool = False


class Spending(NamedTuple):
    team: TeamId
    month: date  # its first day, in UTC
    campaign: CampaignId
    spent: SpentRow


class Cost(NamedTuple):
    step_seconds: float
    squares: float
    renders: int


class Leader(NamedTuple):
    holder: str
    epoch: int
    expires_at: datetime


def lane_of(campaign: CampaignRow) -> Lane:
    """A proof goes ahead of bulk, whatever its campaign's lane."""
    return Lane.INTERACTIVE if campaign.state is S.PROOFING else campaign.lane
