"""What the use cases need of the world. Each Protocol has a real side and a twin in memory."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from farm.core.ids import CampaignId, TeamId
from farm.core.records import (
    CampaignCounts,
    CampaignRow,
    CheckpointRow,
    EventRow,
    KeyRow,
    LoraRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
    RendererRow,
    SourceRow,
    StyleRow,
    TeamRow,
)
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.event import EventKind
from schemas.style import StyleSpec


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
        """None when the submit key is taken (another request was first)."""
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

    def unfinished(self) -> int:
        """Renders of the team without an outcome, in campaigns that are not cancelled."""
        ...

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        """Of the ordinals [lo, hi), in order."""
        ...

    def outcomes_after(
        self, campaign: CampaignId, *, outcome: str, after: int, limit: int
    ) -> list[OutcomeRow]:
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
