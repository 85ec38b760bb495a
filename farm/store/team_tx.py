"""What the API may do in one transaction, always for one team."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from farm.core.errors import Conflict, NotFound
from farm.core.ids import CampaignId, Ordinal, StyleId, TeamId
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
from farm.store import rows, team_sql
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.event import EventKind
from schemas.style import StyleSpec

_NEWEST = 2**63 - 1


def _json(value: Any) -> str:
    return value.model_dump_json()  # type: ignore[no-any-return]  # a pydantic model


class PostgresTeamTx:
    def __init__(self, connection: Connection, team: TeamId) -> None:
        self._connection = connection
        self._team = team

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        return self._connection.execute(statement, {"team": self._team, **values}).all()

    def _first(self, statement: Any, **values: object) -> Any | None:
        return self._connection.execute(statement, {"team": self._team, **values}).first()

    def team(self) -> TeamRow:
        row = self._first(team_sql.TEAM)
        if row is None:
            raise NotFound("There is no such team any more.")
        return TeamRow(*row)

    # sources

    def add_source(self, source: SourceRow) -> bool:
        fields = ("sha256", "name", "bytes", "width", "height", "format", "created_at")
        return self._first(team_sql.ADD_SOURCE, **{f: getattr(source, f) for f in fields}) is not None

    def sources_by_sha(self, digests: Sequence[str]) -> dict[str, SourceRow]:
        return {row[0]: SourceRow(*row) for row in self._all(team_sql.SOURCES_BY_SHA, digests=list(digests))}

    def sources(self, *, after: str | None, limit: int) -> list[SourceRow]:
        return [SourceRow(*row) for row in self._all(team_sql.SOURCES, after=after or "", limit=limit)]

    # weights

    def add_checkpoint(self, row: CheckpointRow) -> None:
        files = "[" + ",".join(_json(file) for file in row.files) + "]"
        self._keep_name(
            team_sql.ADD_CHECKPOINT,
            row,
            id=row.id,
            name=row.name,
            digest=row.digest,
            layout=row.layout,
            prefix=row.prefix,
            files=files,
            created_at=row.created_at,
        )

    def checkpoints(self) -> list[CheckpointRow]:
        return [rows.checkpoint(row) for row in self._all(team_sql.CHECKPOINTS)]

    def add_lora(self, row: LoraRow) -> None:
        fields = ("id", "name", "digest", "key", "bytes", "base", "base_name", "targets", "rank")
        more = ("licence", "expires_at", "created_at")
        values = {field: getattr(row, field) for field in (*fields, *more)}
        self._keep_name(team_sql.ADD_LORA, row, trigger_words=list(row.trigger_words), **values)

    def _keep_name(self, statement: Any, row: CheckpointRow | LoraRow, **values: object) -> None:
        found = self._first(statement, **values)
        if found is None or found.digest != row.digest:
            raise Conflict(f"The name {row.name!r} is taken by other weights. Choose another name.", code="name_taken")

    def loras(self) -> list[LoraRow]:
        return [rows.lora(row) for row in self._all(team_sql.LORAS)]

    # styles

    def add_style(self, row: StyleRow) -> StyleRow:
        self._all(team_sql.LOCK_STYLE, team=self._team & 0x7FFFFFFF, name=row.name)
        versions = self.style_versions(row.name)
        if versions and versions[0].spec == row.spec:
            return versions[0]
        new = replace(row, version=versions[0].version + 1 if versions else 1)
        values = {"id": new.id, "name": new.name, "version": new.version, "created_at": new.created_at}
        self._connection.execute(team_sql.ADD_STYLE, {"team": self._team, "spec": _json(new.spec), **values})
        return new

    def styles(self) -> list[StyleRow]:
        return [_style(row) for row in self._all(team_sql.STYLES)]

    def style_versions(self, name: str) -> list[StyleRow]:
        return [_style(row) for row in self._all(team_sql.STYLE_VERSIONS, name=name)]

    # campaigns

    def campaign_by_submit_key(self, submit_key: str) -> CampaignRow | None:
        row = self._first(team_sql.CAMPAIGN_BY_SUBMIT_KEY, submit_key=submit_key)
        return None if row is None else _campaign(row)

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        row = self._first(
            team_sql.ADD_CAMPAIGN,
            id=new.id,
            name=new.name,
            submit_key=new.submit_key,
            submit_hash=new.submit_hash,
            spec=_json(new.spec),
            resolved=_json(new.resolved),
            renders=new.renders,
            priority=new.priority,
            parent=new.parent,
        )
        if row is None:
            return None
        fields = ("lo", "hi", "engine_key", "checkpoint", "seconds")
        columns = {field: [getattr(shard, field) for shard in shards] for field in fields}
        values = {"team": self._team, "campaign": new.id, "priority": new.priority, **columns}
        self._connection.execute(team_sql.ADD_SHARDS, values)
        self.add_event(EventKind.CAMPAIGN_SUBMITTED, new.id, {"name": new.name, "renders": new.renders})
        return _campaign(row)

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        row = self._first(team_sql.CAMPAIGN, campaign=campaign)
        if row is None:
            raise NotFound("There is no such campaign.")
        return _campaign(row)

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        found = self._all(team_sql.CAMPAIGNS, before=_NEWEST if before is None else before, limit=limit)
        return [_campaign(row) for row in found]

    def spec(self, campaign: CampaignId) -> CampaignSpec:
        return CampaignSpec.model_validate(self._document(team_sql.SPEC, campaign))

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        return ResolvedCampaign.model_validate(self._document(team_sql.RESOLVED, campaign))

    def _document(self, statement: Any, campaign: CampaignId) -> object:
        row = self._first(statement, campaign=campaign)
        if row is None:
            raise NotFound("There is no such campaign.")
        return row[0]

    def move(self, campaign: CampaignId, *, frm: Sequence[CampaignState], to: CampaignState) -> bool:
        states = [str(state) for state in frm]
        if self._first(team_sql.MOVE, campaign=campaign, frm=states, to=str(to)) is None:
            return False
        if to is CampaignState.CANCELLING:
            self._connection.execute(team_sql.CANCEL_READY, {"campaign": campaign})
        self.add_event(EventKind.CAMPAIGN_STATE, campaign, {"state": str(to)})
        return True

    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]:
        found = self._all(team_sql.COUNTS, campaigns=list(campaigns))
        return {CampaignId(row[0]): CampaignCounts(*(int(value) for value in row[1:])) for row in found}

    def step_seconds(self) -> dict[str, float]:
        return {row[0]: row[1] for row in self._all(team_sql.STEP_SECONDS)}

    def unfinished(self) -> int:
        row = self._first(team_sql.UNFINISHED)
        return 0 if row is None else int(row[0])

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        return [_outcome(row) for row in self._all(team_sql.OUTCOMES, campaign=campaign, lo=lo, hi=hi)]

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        values = {"campaign": campaign, "outcome": outcome, "after": after, "limit": limit}
        return [_outcome(row) for row in self._all(team_sql.OUTCOMES_AFTER, **values)]

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        found = self._all(team_sql.OPEN_RANGES, campaign=campaign, lo=lo, hi=hi)
        return [OpenRange(Ordinal(row[0]), Ordinal(row[1]), row[2]) for row in found]

    # events

    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None:
        rows.add_events(self._connection, self._team, [(campaign, kind, data)])

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]:
        found = self._all(team_sql.EVENTS, after=after, limit=limit, campaign=campaign)
        return [EventRow(row[0], row[1], CampaignId(row[2]), row[3], row[4]) for row in found]

    def last_event(self) -> int:
        row = self._first(team_sql.LAST_EVENT)
        return 0 if row is None else int(row[0])

    def renderers(self) -> list[RendererRow]:
        return [RendererRow(*row) for row in self._connection.execute(team_sql.RENDERERS).all()]


def _style(row: Any) -> StyleRow:
    return StyleRow(StyleId(row[0]), row[1], row[2], StyleSpec.model_validate(row[3]), row[4])


def _campaign(row: Any) -> CampaignRow:
    return CampaignRow(
        id=CampaignId(row.campaign_id),
        team=TeamId(row.team_id),
        name=row.name,
        submit_hash=row.submit_hash,
        state=CampaignState(row.state),
        renders=row.renders,
        priority=row.priority,
        parent=None if row.parent is None else CampaignId(row.parent),
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _outcome(row: Any) -> OutcomeRow:
    return OutcomeRow(CampaignId(row[0]), Ordinal(row[1]), *row[2:])
