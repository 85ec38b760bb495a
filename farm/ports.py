"""What the use cases need of the world. Each Protocol has a real side and a twin in memory."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from farm.core.budget import Purse, TeamPurse
from farm.core.fairshare import Rejoin, Rest, TeamShare
from farm.core.ids import CampaignId, Epoch, RendererName, Session, ShardId, TeamId
from farm.core.lease import Leadership
from farm.core.placement import Backlog, Placed, Queue
from farm.core.plan import Held
from farm.core.records import (
    Accusation,
    Amend,
    CampaignCounts,
    CampaignRow,
    CheckpointRow,
    CostRow,
    EventRow,
    FarmView,
    Heartbeat,
    KeyRow,
    LoadCost,
    LoraRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
    Quarantined,
    QueuedCampaign,
    RendererRow,
    SourceRow,
    SpentRow,
    StyleRow,
    TeamRow,
    Tombstone,
    WhyFacts,
)
from farm.core.settle import Settled, ShardRow
from schemas.campaign import CampaignSpec, CampaignState, PausedBy, ResolvedCampaign
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

    def written_at(self, key: str) -> datetime | None:
        """When an object was written, by the store's clock; None when there is none."""
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
        """With its event. None when the submit key is taken (another request was first).

        From here on other submissions of the team wait for the commit, and what they have inserted is seen.

        A parent of the team that is proofing or awaits approval is being cancelled from now on, with an event after
        that of the child. The campaign's place in the queue is the moment of its submission, in seconds.
        """
        ...

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        """Raises `NotFound`."""
        ...

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        """Newest first."""
        ...

    def spec(self, campaign: CampaignId) -> CampaignSpec: ...

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign: ...

    def move(
        self,
        campaign: CampaignId,
        *,
        frm: Sequence[CampaignState],
        to: CampaignState,
        paused_by: PausedBy | None = None,
    ) -> bool:
        """Changes the state if it is one of *frm*, with an event. False otherwise, and when the team has no such one.

        Cancelling also cancels the shards that are ready or held. From awaiting approval or proofing to active, held
        shards become ready: the proof is approved, and they wait from now on. Pausing notes who did it (without
        *paused_by* a user); any other move forgets that. The event holds the state and nothing else.
        """
        ...

    def has_held(self, campaign: CampaignId) -> bool:
        """Whether shards wait for its proof to be approved."""
        ...

    def amend(self, campaign: CampaignId, changes: Amend) -> bool:
        """Of a campaign that is neither done nor cancelled; False otherwise. Its shards have its priority, always.

        The event holds what was given: priority, deadline (ISO), budget. Nothing given: no event, and still True.
        """
        ...

    def queue(self) -> list[QueuedCampaign]:
        """Open campaigns (active, proofing, paused, awaiting approval) by lane, priority, position, id.

        A proof is in the interactive lane, whatever its campaign is.
        """
        ...

    def reposition(self, campaign: CampaignId, position: float) -> bool:
        """Of a campaign that is neither done nor cancelled; False otherwise. The event holds the position."""
        ...

    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]:
        """Queued are ready and held renders. A campaign that was pruned keeps its counts."""
        ...

    def costs(self) -> list[CostRow]: ...

    def load_costs(self) -> list[LoadCost]: ...

    def prices(self) -> dict[str, float]:
        """Money an hour by type of GPU; ``*`` is for every type that has none of its own."""
        ...

    def spent(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, SpentRow]:
        """By each of the campaigns; one that has spent nothing is left out."""
        ...

    def team_spent(self) -> SpentRow:
        """By the team in the current month (UTC), on all its campaigns."""
        ...

    def known(self, fingerprints: Sequence[str]) -> int:
        """How many of these the team has a picture of; one that is given twice counts once."""
        ...

    def standing(self) -> list[tuple[float, float, float, int]]:
        """Every team that has ready work (in active or proofing campaigns) or leased work, and this one in any case:
        weight, virtual time, its ready and leased GPU seconds, 1 when it is this team. This team comes first, the
        others by virtual time, weight, seconds."""
        ...

    def why_facts(self, campaign: CampaignId, weights: dict[str, str]) -> WhyFacts:
        """*weights*: digest to name of the checkpoints and LoRAs it needs, to say which are gone (sorted).

        Others wait when they have a ready shard in an active or proofing campaign, even one that backs off. Raises
        `NotFound`.
        """
        ...

    def farm_view(self) -> FarmView:
        """What `SchedulerTx.show_farm` said last; before the first time, that nothing is there, since 1970."""
        ...

    def warnings(self, campaign: CampaignId) -> dict[str, str]:
        """What the newest event of each warning that still stands says, by code, in the order of the warnings.

        A warning whose event was swept away is left out.
        """
        ...

    def unfinished(self) -> int:
        """Renders of the team without an outcome (ready, held, leased), in campaigns that are not cancelled."""
        ...

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        """Of the ordinals [lo, hi), in order."""
        ...

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        """Keyset page: ordinals above *after* that ended in *outcome*, in order."""
        ...

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        """Ordinals of [lo, hi) without an outcome, in order; their state is ready, held, leased or cancelled."""
        ...

    # events
    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None: ...

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]: ...

    def last_event(self) -> int: ...

    def renderers(self) -> list[RendererRow]:
        """Sessions that have not ended, by name. Lost goes before quarantined, and that before what it says itself."""
        ...


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
    """One transaction of the leader, across teams. It begins by checking that the leader still leads.

    Charges and events are written when it commits: within it, they do not show yet. Methods that change a campaign,
    team or shard that is not there change nothing.
    """

    def now(self) -> datetime:
        """The database's clock; every time in a lease is read from it."""
        ...

    # looking
    def queues(self, per_queue: int) -> list[Queue]:
        """The first *per_queue* ready shards, by place, of each campaign and engine key.

        Of each campaign the first 64 engine keys (`PER_CAMPAIGN`): the others come as these are through.
        Of campaigns that are active or proofing, and only shards whose time has come; a queue in which nothing's time
        has come is left out. In order of campaign, engine key; heads by place, then by id.
        """
        ...

    def backlog(self) -> dict[tuple[CampaignId, str], Backlog]:
        """All ready shards of the same campaigns by campaign and engine key; those that back off count too."""
        ...

    def held_back(self) -> dict[tuple[CampaignId, str], Backlog]:
        """All held shards of campaigns that are proofing or await approval, by campaign and engine key."""
        ...

    def held(self) -> list[Held]:
        """Every lease, by shard. A shard's lane is interactive if its campaign's is, or while that is proofing."""
        ...

    def teams(self) -> list[TeamShare]:
        """Teams that have a ready shard in an active or proofing campaign (even one that backs off) or a leased one, or
        that are marked backlogged. By id."""
        ...

    def purses(self) -> tuple[list[Purse], list[TeamPurse]]:
        """Campaigns that are active, proofing, awaiting approval, or paused by a budget; and the budgets of their
        teams. By id.

        The lane of one that is proofing is interactive.
        """
        ...

    def costs(self) -> list[tuple[TeamId, CostRow]]: ...

    def load_costs(self) -> list[LoadCost]: ...

    def prices(self) -> dict[str, float]:
        """Money an hour by type of GPU; ``*`` is for every type that has none of its own."""
        ...

    def team_names(self, teams: Collection[TeamId]) -> dict[TeamId, str]:
        """By id; one that is not there is left out."""
        ...

    def campaign_states(self) -> dict[CampaignState, int]:
        """How many campaigns are active, proofing, awaiting approval or paused; a state that none is in is left out."""
        ...

    def database_bytes(self) -> int:
        """What the whole database takes on its disk, by its own account: some milliseconds to find out."""
        ...

    def quarantined(self) -> list[Quarantined]: ...

    def accusations(self, window: timedelta) -> list[Accusation]:
        """Renderers with failed tries in the last *window*, and since their last success. Newest last, then by name.

        Tries of the kinds bad_source, bad_weights, bad_picture say nothing of a renderer and are left out; so are those
        of out_of_vram (a small GPU is not broken, and what it is too small for avoids it), and those that a quarantine
        has forgiven. Of the rest the newest 2,000 are looked at; of these a depot failure is left out when another
        renderer had one (that is not forgiven) within a minute of it: then the store was to blame.

        A render is cleared when it has succeeded under another renderer's name (one that was taken over from an earlier
        campaign has none); shared when another renderer has such a try of it on record, however old. Of a shard that
        was lost as a whole nobody knows which render it was: it is cleared when somebody took it after that, rendered
        something of it, and it is done; shared when another renderer lost the same shard.
        """
        ...

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign: ...

    def checkpoint(self, team: TeamId, digest: str) -> CheckpointRow: ...

    def loras(self, team: TeamId, digests: Sequence[str]) -> dict[str, LoraRow]: ...

    def pictures(self, team: TeamId, fingerprints: Sequence[str]) -> dict[str, int]:
        """Picture ids by fingerprint, of those that the team has. They stay until the end of the transaction."""
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

    # health
    def note_success(self, names: Sequence[RendererName]) -> None:
        """Something was rendered there just now: what stood against them before is forgotten.

        So is what failed there in this very transaction: a renderer that does something right is not broken.
        """
        ...

    def quarantine(self, name: RendererName, *, why: str, lasts: timedelta) -> None:
        """Begins it, or prolongs it after a probe that failed (which is counted). One that was set by hand stays.

        What failed there since its last success does not count against the renders: it is forgiven, and of the same
        campaigns each ready or leased shard that avoids the renderer does so no longer and has one try less behind it.
        """
        ...

    def release(self, name: RendererName) -> None:
        """The quarantine is over. One that was set by hand stays."""
        ...

    # shards
    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        """Leases each shard that is still ready, of an active or proofing campaign, under a new random fence.

        Only to a session that is alive. In the order of *placed*; of a shard that is named twice, the last one counts.
        """
        ...

    def lock(self, shards: Sequence[ShardId]) -> dict[ShardId, ShardRow]: ...

    def write(self, settled: Sequence[Settled]) -> list[str]:
        """Outcomes, pictures, children, failed tries and events of locked shards; campaigns that are through end.

        What was spent is charged: to the campaign, to the team's month (UTC) and to its virtual time. A campaign whose
        proof is through awaits approval, or is done when nothing is held back; one that is paused and has held shards
        stays paused. Returns the keys of pictures that another render of the same fingerprint had made before.
        """
        ...

    def put_back(self, shard: ShardRow, *, lost: int, delay: timedelta, avoid: RendererName | None = None) -> None:
        """Ends the lease; the fence stays, so that a late report still counts until somebody takes the shard.

        With *avoid* the lease was lost with that renderer: this is on record as a failed try of the whole shard, kind
        and code renderer_died. A shard of a campaign that is being cancelled, or is, is cancelled.
        """
        ...

    def learn(
        self, team: TeamId, engine_key: str, gpu: str, *, step_seconds: float, squares: float, renders: int
    ) -> None:
        """What *renders* renders cost, in GPU seconds per UNet step: their mean, and the mean of their squares.

        What was known before counts as much as 200 renders at most. None: nothing happens.
        """
        ...

    def learn_load(self, gpu: str, kind: str, *, seconds: float, loads: int) -> None:
        """*loads* loads of weights of a *kind* (checkpoint, lora) took *seconds* in all.

        What was known before counts as much as 50 loads at most. None: nothing happens.
        """
        ...

    # campaigns and teams
    def finish_campaigns(self) -> int:
        """Campaigns being cancelled of which no renderer holds anything are cancelled; what of them is ready or held
        always is. Proofs that were through while their campaign was paused await approval. How many it moved."""
        ...

    def pause(self, campaign: CampaignId, by: PausedBy, detail: str) -> bool:
        """An active or proofing campaign, or one that another budget has paused, with an event that holds state,
        paused_by and detail."""
        ...

    def resume(self, campaign: CampaignId) -> bool:
        """One that a budget paused, with an event: proofing when it has held shards, else active."""
        ...

    def warn(self, campaign: CampaignId, code: str, detail: str, data: dict[str, object]) -> None:
        """An event (data, code, detail), and the code last among the campaign's warnings; nothing when it stands there
        already, or the campaign is done or cancelled."""
        ...

    def unwarn(self, campaign: CampaignId, code: str) -> None: ...

    def turn(self, turns: Sequence[Rejoin | Rest]) -> None:
        """Teams begin or cease to wait. A virtual time is never lowered."""
        ...

    def show_farm(self, view: FarmView) -> None:
        """What the API says of the renderers; its ``at`` is the database's clock."""
        ...

    # lasting
    def doomed(self, keys: Sequence[str], reason: str) -> None:
        """A tombstone for each object; one that has a tombstone keeps it."""
        ...

    def tombstones(self, older: timedelta, limit: int) -> list[Tombstone]:
        """The oldest first, then by key, of objects that are not deleted yet: found at least *older* ago."""
        ...

    def spare(self, keys: Sequence[str]) -> None:
        """Takes tombstones away: the object is in use after all, or deleted."""
        ...

    def picture_count(self) -> int: ...

    def prunable(self, limit: int) -> list[tuple[TeamId, CampaignId]]:
        """Ended campaigns whose team's retention time has passed and that do not count as pruned. The oldest first."""
        ...

    def prune(self, campaign: CampaignId, limit: int) -> tuple[int, list[str]]:
        """Forgets at most *limit* outcomes of a campaign, and the pictures that no other campaign refers to.

        In the order of their ordinals. Returns how many outcomes, and the keys of those pictures and of what lies
        beside them, sorted. When nothing is left an ended campaign counts as pruned; its row and counts stay.
        """
        ...

    def sweep(self, *, events: timedelta, attempts: timedelta, sessions: timedelta, limit: int) -> dict[str, int]:
        """Deletes at most *limit* rows each of events, attempts and ended renderer sessions that are at least so old.

        The oldest first. A session that still has a lease stays. Returns how many of each.
        """
        ...


class SchedulerStore(Protocol):
    """The database as the scheduler uses it. Every method raises `StoreDown` when it does not answer."""

    def ready(self) -> None: ...

    def work_came(self) -> bool:
        """Whether somebody has submitted, approved, resumed or changed a campaign since the last call.

        Does not wait and does not raise: a notice that is lost costs a tick.
        """
        ...

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

    def revoke(self, name: RendererName, epoch: Epoch, shards: Sequence[ShardId], *, running: bool) -> None:
        """What has not begun is handed back; rows in the GPU stop at the next step if *running*."""
        ...

    def drain(self, name: RendererName, epoch: Epoch) -> None: ...

    def news(self, timeout: timedelta) -> list[News]:
        """What has come in; waits for the first up to *timeout*."""
        ...

    def close(self) -> None:
        """Lets go of the fleet; the renderers live on."""
        ...
