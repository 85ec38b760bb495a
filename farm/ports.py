"""What the use cases need of the world. Each Protocol has a real side and a twin in memory."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from farm.core.ids import CampaignId, Epoch, RendererName, Session, ShardId, TeamId
from farm.core.lease import Leadership
from farm.core.placement import Placed, Waiting
from farm.core.plan import Held
from farm.core.records import (
    CampaignCounts,
    CampaignRow,
    CheckpointRow,
    EventRow,
    Heartbeat,
    KeyRow,
    LoraRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
    QueueDepth,
    RendererRow,
    SourceRow,
    StyleRow,
    TeamRow,
)
from farm.core.settle import Settled, ShardRow
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.event import EventKind
from schemas.order import ShardOrder
from schemas.report import Collected, Hello, Offered


class Clock(Protocol):
    """Wall time, for ids and presigned links. Leases never use it: their time is the database's."""

    def now(self) -> datetime: ...

    def random_bits(self) -> int: ...


class Depot(Protocol):
    """The object store. Every method raises `DepotDown` when it does not answer."""

    def ready(self) -> None: ...

    def put(self, key: str, data: bytes, content_type: str) -> None: ...

    def put_file(self, key: str, path: Path, content_type: str) -> None: ...

    def get(self, key: str) -> bytes:
        """Raises `NotFound`."""
        ...

    def open(self, key: str, offset: int = 0, length: int = 0) -> AbstractContextManager[BinaryIO]:
        """Reads *length* bytes from *offset*, all of it when 0. Raises `NotFound`."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of an object, None when there is none."""
        ...

    def list(self, prefix: str) -> Iterable[tuple[str, int]]:
        """(key, bytes) of everything under *prefix*."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """What is not there is no error."""
        ...

    def link_get(self, key: str, ttl: timedelta, filename: str | None = None) -> str:
        """A presigned GET; with *filename*, a browser saves it under that name."""
        ...

    def link_put(self, key: str, ttl: timedelta) -> str: ...


class TeamTx(Protocol):
    """One transaction of one team: it sees and changes nothing of another."""

    def team(self) -> TeamRow: ...

    # sources
    def add_source(self, source: SourceRow) -> bool:
        """False when the team has it already; the older row stays."""
        ...

    def sources_by_sha(self, digests: Sequence[str]) -> dict[str, SourceRow]: ...

    def sources(self, *, after: str | None, limit: int) -> list[SourceRow]:
        """Ordered by sha256, from *after* (not included) on."""
        ...

    # weights
    def add_checkpoint(self, row: CheckpointRow) -> None:
        """Raises `Conflict` when the name is taken by other weights."""
        ...

    def checkpoints(self) -> list[CheckpointRow]: ...

    def add_lora(self, row: LoraRow) -> None:
        """Raises `Conflict` when the name is taken by other weights."""
        ...

    def loras(self) -> list[LoraRow]: ...

    # styles
    def add_style(self, row: StyleRow) -> StyleRow:
        """Stores the next version of its name and returns it; ``row.version`` is ignored.

        A spec equal to that of the newest version adds nothing: that version is returned.
        """
        ...

    def styles(self) -> list[StyleRow]:
        """The newest version of each."""
        ...

    def style_versions(self, name: str) -> list[StyleRow]:
        """Newest first; empty when there is none."""
        ...

    # campaigns
    def campaign_by_submit_key(self, submit_key: str) -> CampaignRow | None: ...

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        """With its event. None when the submit key is taken (another request was first)."""
        ...

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        """Raises `NotFound`."""
        ...

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        """Newest first."""
        ...

    def spec(self, campaign: CampaignId) -> CampaignSpec: ...

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign: ...

    def move(self, campaign: CampaignId, *, frm: Sequence[CampaignState], to: CampaignState) -> bool:
        """Changes the state if it is one of *frm*, with an event. Cancelling also cancels the shards that are ready."""
        ...

    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]: ...

    def step_seconds(self) -> dict[str, float]:
        """Measured GPU seconds per UNet step, by engine key."""
        ...

    def unfinished(self) -> int:
        """Renders of the team without an outcome, in campaigns that are not cancelled."""
        ...

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        """Of the ordinals [lo, hi), in order."""
        ...

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        """Keyset page: ordinals above *after* that ended in *outcome*, in order."""
        ...

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        """Ordinals of [lo, hi) without an outcome, in order."""
        ...

    # events
    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None: ...

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]: ...

    def last_event(self) -> int: ...

    def renderers(self) -> list[RendererRow]: ...


class ApiStore(Protocol):
    """The database as the API uses it. Every method raises `StoreDown` when it does not answer."""

    def ready(self) -> None: ...

    def as_team(self, team: TeamId) -> AbstractContextManager[TeamTx]: ...

    def key_owner(self, digest: bytes) -> KeyRow | None:
        """Whose API key has this sha256, unless it is revoked."""
        ...

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        """Blocks until teams have new events, or *timeout* has passed (empty). One waiter at a time."""
        ...

    def close(self) -> None: ...


class SchedulerTx(Protocol):
    """One transaction of the leader, across teams. It begins by checking that the leader still leads."""

    def now(self) -> datetime:
        """The database's clock; every time in a lease is read from it."""
        ...

    # looking
    def waiting(self, per_queue: int) -> tuple[list[Waiting], int]:
        """The first *per_queue* ready shards of each queue (team, engine key, priority); how many are ready in all."""
        ...

    def held(self) -> list[Held]: ...

    def depths(self) -> list[QueueDepth]: ...

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign: ...

    def checkpoint(self, team: TeamId, digest: str) -> CheckpointRow: ...

    def loras(self, team: TeamId, digests: Sequence[str]) -> dict[str, LoraRow]: ...

    def pictures(self, team: TeamId, fingerprints: Sequence[str]) -> dict[str, int]:
        """Picture ids by fingerprint, of those that the team has."""
        ...

    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these objects are some picture's."""
        ...

    # renderer sessions
    def greet(self, hello: Hello, ttl: timedelta) -> None:
        """Opens or prolongs the session, and ends any other session of the same name."""
        ...

    def heartbeat(self, beats: Sequence[Heartbeat], ttl: timedelta) -> None: ...

    def end_sessions(self, sessions: Sequence[Session]) -> None: ...

    def end_absent(self, prefix: str, names: Sequence[RendererName]) -> None:
        """Ends the sessions of renderers below *prefix* that are not among *names*."""
        ...

    # shards
    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        """Leases each shard that is still ready, under a new random fence."""
        ...

    def lock(self, shards: Sequence[ShardId]) -> dict[ShardId, ShardRow]: ...

    def write(self, settled: Sequence[Settled]) -> list[str]:
        """Outcomes, pictures, children, failed tries and events of locked shards; campaigns that are through end.

        Returns the keys of pictures that another render of the same fingerprint had made before.
        """
        ...

    def put_back(self, shard: ShardRow, *, lost: int) -> None:
        """Ends the lease; the fence stays, so that a late report still counts until somebody takes the shard."""
        ...

    def learn(self, team: TeamId, engine_key: str, *, step_seconds: float, renders: int) -> None:
        """What *renders* renders of an engine key cost, in GPU seconds per UNet step."""
        ...

    def finish_cancelled(self) -> int:
        """Campaigns being cancelled of which no renderer holds anything any more are cancelled."""
        ...


class SchedulerStore(Protocol):
    """The database as the scheduler uses it. Every method raises `StoreDown` when it does not answer."""

    def ready(self) -> None: ...

    def elect(self, holder: str, ttl: timedelta) -> Leadership | None:
        """Takes the lead with the next epoch when nobody holds it, or the holder's time is over."""
        ...

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool: ...

    def resign(self, leadership: Leadership) -> None: ...

    def as_scheduler(self, leadership: Leadership) -> AbstractContextManager[SchedulerTx]:
        """Raises `LeadershipLost` when another epoch has begun."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Introduced:
    """A renderer answered `adopt`."""

    name: RendererName
    hello: Hello


@dataclass(frozen=True, slots=True)
class Heard:
    """A renderer answered `collect`."""

    name: RendererName
    collected: Collected


@dataclass(frozen=True, slots=True)
class Answered:
    """A renderer answered `offer`."""

    name: RendererName
    shard: ShardId
    fence: str
    offered: Offered


@dataclass(frozen=True, slots=True)
class Silent:
    """A call failed. It may have run all the same: the lease or the fence decides, not the error."""

    name: RendererName
    call: str
    why: str


@dataclass(frozen=True, slots=True)
class Died:
    """The renderer's process has ended for certain. Ray may start another under the same name."""

    name: RendererName
    why: str


News = Introduced | Heard | Answered | Silent | Died


class Fleet(Protocol):
    """The renderers. Calls return at once; what comes of them is `news`. Raises `FleetDown`."""

    def names(self) -> list[RendererName]:
        """Every renderer that exists, running or pending, whoever made it."""
        ...

    def draining(self) -> frozenset[str]:
        """Nodes that were told to go."""
        ...

    def wake(self, name: RendererName) -> None: ...

    def retire(self, name: RendererName) -> None:
        """Politely: what runs is finished."""
        ...

    def end(self, name: RendererName) -> None:
        """At once: for a process that hangs."""
        ...

    def adopt(self, name: RendererName, epoch: Epoch) -> None: ...

    def offer(self, name: RendererName, order: ShardOrder) -> None: ...

    def collect(self, name: RendererName, epoch: Epoch, after: int, wait: timedelta) -> None: ...

    def revoke(self, name: RendererName, epoch: Epoch, shards: Sequence[ShardId]) -> None: ...

    def drain(self, name: RendererName, epoch: Epoch) -> None: ...

    def news(self, timeout: timedelta) -> list[News]:
        """What has come in; waits for the first up to *timeout*."""
        ...

    def close(self) -> None:
        """Lets go of the fleet; the renderers live on."""
        ...
