"""What the scheduler does for the sake of budgets, deadlines and fair shares."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from farm.core.budget import Purse, TeamPurse
from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import CampaignId, TeamId
from farm.core.records import FarmView, SpentRow
from farm.store import queue_sql, rows
from farm.store.statements import LeaderStatements
from schemas.campaign import CampaignState, PausedBy
from schemas.event import EventKind
from schemas.order import Lane


class Purses(LeaderStatements):
    def purses(self) -> tuple[list[Purse], list[TeamPurse]]:
        teams = [
            TeamPurse(TeamId(row[0]), budget, SpentRow(row[2], row[3]))
            for row in self._all(queue_sql.TEAM_PURSES)
            if (budget := rows.budget(row[1])) is not None
        ]
        return [_purse(row) for row in self._all(queue_sql.PURSES)], teams

    def pause(self, campaign: CampaignId, by: PausedBy, detail: str) -> bool:
        found = self._first(queue_sql.PAUSE, campaign=campaign, by=str(by))
        return self._told(found, campaign, {"paused_by": str(by), "detail": detail})

    def resume(self, campaign: CampaignId) -> bool:
        return self._told(self._first(queue_sql.RESUME, campaign=campaign), campaign, {})

    def _told(self, found: Any | None, campaign: CampaignId, data: dict[str, object]) -> bool:
        if found is not None:
            self._tell(TeamId(found.team_id), campaign, EventKind.CAMPAIGN_STATE, {"state": found.state, **data})
        return found is not None

    def warn(self, campaign: CampaignId, code: str, detail: str, data: dict[str, object]) -> None:
        found = self._first(queue_sql.WARN, campaign=campaign, code=code)
        if found is not None:
            said = {**data, "code": code, "detail": detail}
            self._tell(TeamId(found.team_id), campaign, EventKind.CAMPAIGN_WARNING, said)

    def unwarn(self, campaign: CampaignId, code: str) -> None:
        self._run(queue_sql.UNWARN, campaign=campaign, code=code)

    def turn(self, turns: Sequence[Rejoin | Rest]) -> None:
        rejoin = [turn for turn in turns if isinstance(turn, Rejoin)]
        rest = [turn.team for turn in turns if isinstance(turn, Rest)]
        if rejoin:
            teams, vtimes = [turn.team for turn in rejoin], [turn.vtime for turn in rejoin]
            self._run(queue_sql.REJOIN, teams=teams, vtimes=vtimes)
        if rest:
            self._run(queue_sql.REST, teams=rest)

    def show_farm(self, view: FarmView) -> None:
        value = {name: kept for name, kept in asdict(view).items() if name not in {"at", "leading"}}
        self._run(queue_sql.SHOW_FARM, value=json.dumps(value))


def _purse(row: Any) -> Purse:
    return Purse(
        campaign=CampaignId(row.campaign_id),
        team=TeamId(row.team_id),
        state=CampaignState(row.state),
        paused_by=None if row.paused_by is None else PausedBy(row.paused_by),
        lane=Lane(row.lane),
        priority=row.priority,
        position=row.position,
        spent=SpentRow(row.gpu_seconds, row.money),
        budget=rows.budget(row.budget),
        deadline=row.deadline,
        off_peak=row.off_peak,
        warnings=tuple(row.warnings),
        gpu=row.gpu,
    )
