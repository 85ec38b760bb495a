"""Campaigns of one team: submitting, moving, looking."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Ordinal, TeamId
from farm.core.records import (
    Amend,
    CampaignCounts,
    CampaignRow,
    EventRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
    QueuedCampaign,
)
from farm.core.shard import size_of
from farm.store import campaign_sql, rows, sql
from farm.store.statements import Statements
from schemas.campaign import CampaignSpec, CampaignState, PausedBy, ResolvedCampaign
from schemas.event import EventKind
from schemas.order import Lane

_NEWEST = 2**63 - 1
_PROOF = (CampaignState.PROOFING, CampaignState.AWAITING_APPROVAL)


class TeamStatements(Statements):
    """Every statement gets the team."""

    def __init__(self, connection: Connection, team: TeamId) -> None:
        super().__init__(connection)
        self._team = team

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        return super()._all(statement, **{"team": self._team, **values})

    def _first(self, statement: Any, **values: object) -> Any | None:
        return super()._first(statement, **{"team": self._team, **values})

    def _run(self, statement: Any, **values: object) -> int:
        return super()._run(statement, **{"team": self._team, **values})


class Campaigns(TeamStatements):
    def campaign_by_submit_key(self, submit_key: str) -> CampaignRow | None:
        row = self._first(campaign_sql.CAMPAIGN_BY_SUBMIT_KEY, submit_key=submit_key)
        return None if row is None else rows.campaign(row)

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        row = self._first(campaign_sql.ADD_CAMPAIGN, **_campaign_values(new))
        if row is None:
            return None
        self._run(
            campaign_sql.ADD_SHARDS, campaign=new.id, priority=new.priority, **rows.as_json(_shard_columns(shards))
        )
        submitted: dict[str, object] = {"name": new.name, "renders": new.renders}
        events: list[rows.NewEvent] = [(new.id, EventKind.CAMPAIGN_SUBMITTED, submitted)]
        if new.parent is not None and self._first(campaign_sql.SUPERSEDE, campaign=new.parent) is not None:
            self._run(campaign_sql.CANCEL_OPEN, campaign=new.parent)
            events.append((new.parent, EventKind.CAMPAIGN_STATE, {"state": str(CampaignState.CANCELLING)}))
        rows.add_events(self._connection, self._team, events)
        self._connection.execute(sql.NOTIFY_WORK)
        return rows.campaign(row)

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        row = self._first(campaign_sql.CAMPAIGN, campaign=campaign)
        if row is None:
            raise NotFound("There is no such campaign.")
        return rows.campaign(row)

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        found = self._all(campaign_sql.CAMPAIGNS, before=_NEWEST if before is None else before, limit=limit)
        return [rows.campaign(row) for row in found]

    def spec(self, campaign: CampaignId) -> CampaignSpec:
        return CampaignSpec.model_validate(self._document(campaign_sql.SPEC, campaign))

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        return ResolvedCampaign.model_validate(self._document(campaign_sql.RESOLVED, campaign))

    def _document(self, statement: Any, campaign: CampaignId) -> object:
        row = self._first(statement, campaign=campaign)
        if row is None:
            raise NotFound("There is no such campaign.")
        return row[0]

    def move(
        self,
        campaign: CampaignId,
        *,
        frm: Sequence[CampaignState],
        to: CampaignState,
        paused_by: PausedBy | None = None,
    ) -> bool:
        found = self._first(campaign_sql.LOCK_CAMPAIGN, campaign=campaign)
        if found is None or found.state not in frm:
            return False
        by = str(paused_by or PausedBy.USER) if to is CampaignState.PAUSED else None
        self._run(campaign_sql.MOVE, campaign=campaign, to=str(to), paused_by=by)
        if to is CampaignState.CANCELLING:
            self._run(campaign_sql.CANCEL_OPEN, campaign=campaign)
        elif to is CampaignState.ACTIVE and found.state in _PROOF:
            self._run(campaign_sql.APPROVE_HELD, campaign=campaign)
        self.add_event(EventKind.CAMPAIGN_STATE, campaign, {"state": str(to)})
        return True

    def has_held(self, campaign: CampaignId) -> bool:
        return self._first(campaign_sql.HAS_HELD, campaign=campaign) is not None

    def amend(self, campaign: CampaignId, changes: Amend) -> bool:
        budget = None if changes.budget is None else changes.budget.model_dump(mode="json")
        found = self._first(
            campaign_sql.AMEND,
            campaign=campaign,
            priority=changes.priority,
            deadline=changes.deadline,
            budget=None if changes.budget is None else changes.budget.model_dump_json(),
        )
        if found is None:
            return False
        deadline = None if changes.deadline is None else changes.deadline.isoformat()
        given: dict[str, object] = {"priority": changes.priority, "deadline": deadline, "budget": budget}
        data = {name: value for name, value in given.items() if value is not None}
        if data:
            self.add_event(EventKind.CAMPAIGN_CHANGED, campaign, data)
        return True

    def queue(self) -> list[QueuedCampaign]:
        return [
            QueuedCampaign(CampaignId(row[0]), CampaignState(row[1]), Lane(row[2]), *row[3:])
            for row in self._all(campaign_sql.QUEUE)
        ]

    def reposition(self, campaign: CampaignId, position: float) -> bool:
        if self._first(campaign_sql.REPOSITION, campaign=campaign, position=position) is None:
            return False
        self.add_event(EventKind.CAMPAIGN_CHANGED, campaign, {"position": position})
        return True

    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]:
        found = self._all(campaign_sql.COUNTS, campaigns=list(campaigns))
        return {CampaignId(row[0]): CampaignCounts(*(int(value) for value in row[1:])) for row in found}

    def warnings(self, campaign: CampaignId) -> dict[str, str]:
        return {row[0]: row[1] for row in self._all(campaign_sql.WARNINGS, campaign=campaign)}

    def unfinished(self) -> int:
        row = self._first(campaign_sql.UNFINISHED)
        return 0 if row is None else int(row[0])

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        return [_outcome(row) for row in self._all(campaign_sql.OUTCOMES, campaign=campaign, lo=lo, hi=hi)]

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        values = {"campaign": campaign, "outcome": outcome, "after": after, "limit": limit}
        return [_outcome(row) for row in self._all(campaign_sql.OUTCOMES_AFTER, **values)]

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        found = self._all(campaign_sql.OPEN_RANGES, campaign=campaign, lo=lo, hi=hi)
        return [OpenRange(Ordinal(row[0]), Ordinal(row[1]), row[2]) for row in found]

    # events

    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None:
        rows.add_events(self._connection, self._team, [(campaign, kind, data)])
        self._connection.execute(sql.NOTIFY_WORK)

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]:
        found = self._all(campaign_sql.EVENTS, after=after, limit=limit, campaign=campaign)
        return [EventRow(row[0], row[1], CampaignId(row[2]), row[3], row[4]) for row in found]

    def last_event(self) -> int:
        row = self._first(campaign_sql.LAST_EVENT)
        return 0 if row is None else int(row[0])


def _campaign_values(new: NewCampaign) -> dict[str, object]:
    same = ("id", "name", "submit_key", "submit_hash", "renders", "priority", "parent", "deadline", "gpu", "off_peak")
    return {
        **{name: getattr(new, name) for name in same},
        "spec": new.spec.model_dump_json(),
        "resolved": new.resolved.model_dump_json(),
        "budget": None if new.budget is None else new.budget.model_dump_json(),
        "quote": None if new.quote is None else new.quote.model_dump_json(),
        "lane": str(new.lane),
        "state": str(new.state),
    }


def _shard_columns(shards: Sequence[NewShard]) -> dict[str, object]:
    same = ("engine_key", "checkpoint", "seconds", "step_seconds", "state")
    return {
        "todo": [rows.multirange(shard.todo) for shard in shards],
        "renders": [size_of(shard.todo) for shard in shards],
        **{field: [getattr(shard, field) for shard in shards] for field in same},
    }


def _outcome(row: Any) -> OutcomeRow:
    made, measured = rows.renditions(row.renditions or ()), rows.measured(row.measured)
    values = [CampaignId(row[0]), Ordinal(row[1]), *row[2:-2], made, measured]
    return OutcomeRow(*values)
