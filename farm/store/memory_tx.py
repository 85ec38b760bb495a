"""A team's transaction in the store's twin: the same promises over dictionaries."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from farm.core.campaign import ENDED
from farm.core.errors import Conflict, NotFound
from farm.core.ids import CampaignId, Ordinal, show
from farm.core.records import (
    CampaignCounts,
    CampaignRow,
    CheckpointRow,
    EventRow,
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


@dataclass(frozen=True, slots=True)
class Shard:
    lo: int
    hi: int
    state: str = "ready"


@dataclass(frozen=True, slots=True)
class HeldCampaign:
    row: CampaignRow
    submit_key: str
    spec: CampaignSpec
    resolved: ResolvedCampaign
    shards: tuple[Shard, ...]
    outcomes: dict[int, OutcomeRow]

    def open(self, lo: int, hi: int) -> Iterator[OpenRange]:
        """What of [lo, hi) has no outcome, cut where shards and outcomes cut it."""
        for shard in self.shards:
            begin, end = max(lo, shard.lo), min(hi, shard.hi)
            for done in sorted(o for o in self.outcomes if begin <= o < end):
                if begin < done:
                    yield OpenRange(Ordinal(begin), Ordinal(done), shard.state)
                begin = done + 1
            if begin < end:
                yield OpenRange(Ordinal(begin), Ordinal(end), shard.state)


@dataclass(slots=True)
class Team:
    row: TeamRow
    sources: dict[str, SourceRow] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRow] = field(default_factory=dict)
    loras: dict[str, LoraRow] = field(default_factory=dict)
    styles: dict[str, tuple[StyleRow, ...]] = field(default_factory=dict)
    campaigns: dict[CampaignId, HeldCampaign] = field(default_factory=dict)
    events: tuple[EventRow, ...] = ()

    def copy(self) -> "Team":
        """Everything inside is frozen or replaced as a whole, so one level is deep enough."""
        return Team(
            self.row,
            dict(self.sources),
            dict(self.checkpoints),
            dict(self.loras),
            dict(self.styles),
            dict(self.campaigns),
            self.events,
        )


class MemoryTx:
    """`farm.ports.TeamTx` over a team's dictionaries."""

    def __init__(self, team: Team, renderers: Sequence[RendererRow]) -> None:
        self._team = team
        self._renderers = renderers

    def team(self) -> TeamRow:
        return self._team.row

    # sources
    def add_source(self, source: SourceRow) -> bool:
        return self._team.sources.setdefault(source.sha256, source) is source

    def sources_by_sha(self, digests: Sequence[str]) -> dict[str, SourceRow]:
        return {d: self._team.sources[d] for d in digests if d in self._team.sources}

    def sources(self, *, after: str | None, limit: int) -> list[SourceRow]:
        rows = sorted(self._team.sources.values(), key=lambda row: row.sha256)
        return [row for row in rows if after is None or row.sha256 > after][:limit]

    # weights
    def add_checkpoint(self, row: CheckpointRow) -> None:
        if self._team.checkpoints.setdefault(row.name, row).digest != row.digest:
            raise Conflict(f"There is a checkpoint {row.name} with other weights.", code="name_taken")

    def checkpoints(self) -> list[CheckpointRow]:
        return sorted(self._team.checkpoints.values(), key=lambda row: row.name)

    def add_lora(self, row: LoraRow) -> None:
        if self._team.loras.setdefault(row.name, row).digest != row.digest:
            raise Conflict(f"There is a LoRA {row.name} with other weights.", code="name_taken")

    def loras(self) -> list[LoraRow]:
        return sorted(self._team.loras.values(), key=lambda row: row.name)

    # styles
    def add_style(self, row: StyleRow) -> StyleRow:
        versions = self._team.styles.get(row.name, ())
        if versions and versions[0].spec == row.spec:
            return versions[0]
        new = replace(row, version=len(versions) + 1)
        self._team.styles[row.name] = (new, *versions)
        return new

    def styles(self) -> list[StyleRow]:
        return [versions[0] for _, versions in sorted(self._team.styles.items())]

    def style_versions(self, name: str) -> list[StyleRow]:
        return list(self._team.styles.get(name, ()))

    # campaigns
    def campaign_by_submit_key(self, submit_key: str) -> CampaignRow | None:
        return next((c.row for c in self._team.campaigns.values() if c.submit_key == submit_key), None)

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        if self.campaign_by_submit_key(new.submit_key) is not None:
            return None
        row = CampaignRow(
            id=new.id,
            team=self._team.row.id,
            name=new.name,
            submit_hash=new.submit_hash,
            state=CampaignState.ACTIVE,
            renders=new.renders,
            priority=new.priority,
            parent=new.parent,
            created_at=now(),
            finished_at=None,
        )
        cut = tuple(Shard(shard.lo, shard.hi) for shard in shards)
        self._team.campaigns[new.id] = HeldCampaign(row, new.submit_key, new.spec, new.resolved, cut, {})
        self.add_event(EventKind.CAMPAIGN_SUBMITTED, new.id, {"name": new.name, "renders": new.renders})
        return row

    def _campaign(self, campaign: CampaignId) -> HeldCampaign:
        try:
            return self._team.campaigns[campaign]
        except KeyError as gone:
            raise NotFound(f"There is no campaign {show('cmp', campaign)}.") from gone

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        return self._campaign(campaign).row

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        rows = sorted((c.row for c in self._team.campaigns.values()), key=lambda row: row.id, reverse=True)
        return [row for row in rows if before is None or row.id < before][:limit]

    def spec(self, campaign: CampaignId) -> CampaignSpec:
        return self._campaign(campaign).spec

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        return self._campaign(campaign).resolved

    def move(self, campaign: CampaignId, *, frm: Sequence[CampaignState], to: CampaignState) -> bool:
        old = self._campaign(campaign)
        if old.row.state not in frm:
            return False
        shards = old.shards
        if to is CampaignState.CANCELLING:
            shards = tuple(replace(s, state="cancelled") if s.state == "ready" else s for s in shards)
        finished_at = now() if to in ENDED else None
        row = replace(old.row, state=to, finished_at=finished_at)
        self._team.campaigns[campaign] = replace(old, row=row, shards=shards)
        self.add_event(EventKind.CAMPAIGN_STATE, campaign, {"state": to.value})
        return True

    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]:
        return {c: _counts(self._team.campaigns[c]) for c in campaigns if c in self._team.campaigns}

    def step_seconds(self) -> dict[str, float]:
        return {}  # nothing is ever measured here

    def unfinished(self) -> int:
        gone = (CampaignState.CANCELLING, CampaignState.CANCELLED)
        open_ = (c for c in self._team.campaigns.values() if c.row.state not in gone)
        return sum(c.row.renders - len(c.outcomes) for c in open_)

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        outcomes = self._campaign(campaign).outcomes
        return [outcomes[o] for o in sorted(outcomes) if lo <= o < hi]

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        outcomes = self._campaign(campaign).outcomes
        return [outcomes[o] for o in sorted(outcomes) if o > after and outcomes[o].outcome == outcome][:limit]

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        return list(self._campaign(campaign).open(lo, hi))

    # events
    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None:
        event = EventRow(self.last_event() + 1, kind.value, campaign, data, now())
        self._team.events = (*self._team.events, event)

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]:
        rows = (e for e in self._team.events if e.id > after and campaign in (None, e.campaign))
        return list(rows)[:limit]

    def last_event(self) -> int:
        return self._team.events[-1].id if self._team.events else 0

    def renderers(self) -> list[RendererRow]:
        return sorted(self._renderers, key=lambda row: row.name)


def _counts(campaign: HeldCampaign) -> CampaignCounts:
    ended = list(campaign.outcomes.values())
    waiting: dict[str, int] = defaultdict(int)
    for stretch in campaign.open(0, campaign.row.renders):
        waiting[stretch.state] += stretch.hi - stretch.lo
    return CampaignCounts(
        running=waiting["leased"],
        succeeded=sum(o.outcome == "succeeded" for o in ended),
        failed=sum(o.outcome == "failed" for o in ended),
        cancelled=waiting["cancelled"],
        reused=sum(o.reused for o in ended),
        queued=waiting["ready"],
    )


def now() -> datetime:
    return datetime.now(UTC)
