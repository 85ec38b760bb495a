"""A team's campaigns in the store's twin: submitting, moving, and what has become of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from farm.core.campaign import ENDED
from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Ordinal, ShardId, TeamId, show
from farm.core.records import (
    Amend,
    CampaignCounts,
    CampaignRow,
    NewCampaign,
    NewShard,
    OpenRange,
    OutcomeRow,
)
from farm.core.shard import size_of
from farm.store.memory_rows import GONE, Campaign, Outcome, S, Shard
from farm.store.memory_state import State
from schemas.campaign import CampaignSpec, CampaignState, PausedBy, ResolvedCampaign
from schemas.event import EventKind


class Campaigning:
    """The part of `farm.ports.TeamTx` that is about campaigns."""

    def __init__(self, state: State, team: TeamId) -> None:
        self._state = state
        self._team = team

    def campaign_by_submit_key(self, submit_key: str) -> CampaignRow | None:
        campaign = self._state.campaigns.by_key.get((self._team, submit_key))
        return None if campaign is None else self._state.campaigns.rows[campaign].row

    def insert_campaign(self, new: NewCampaign, shards: Sequence[NewShard]) -> CampaignRow | None:
        if (self._team, new.submit_key) in self._state.campaigns.by_key:
            return None
        row = _row(new, self._team, self._state)
        self._state.campaigns.put(new.id, Campaign(row, new.submit_key, new.spec, new.resolved))
        for cut in shards:
            self._add_shard(new, cut)
        self.add_event(EventKind.CAMPAIGN_SUBMITTED, new.id, {"name": new.name, "renders": new.renders})
        if new.parent is not None:
            self.move(new.parent, frm=[S.PROOFING, S.AWAITING_APPROVAL], to=S.CANCELLING)
        return row

    def _add_shard(self, new: NewCampaign, cut: NewShard) -> None:
        shard = ShardId(next(self._state.shard_ids))
        row = Shard(
            id=shard,
            team=self._team,
            campaign=new.id,
            engine_key=cut.engine_key,
            checkpoint=cut.checkpoint,
            state=cut.state,
            place=cut.todo[0][0],
            todo=cut.todo,
            renders=size_of(cut.todo),
            seconds=cut.seconds,
            ready_at=self._state.began,
            step_seconds=cut.step_seconds,
        )
        self._state.shards.put(shard, row)

    def _own(self, campaign: CampaignId) -> Campaign:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.team != self._team:
            raise NotFound(f"There is no campaign {show('cmp', campaign)}.")
        return found

    def _mine(self, campaigns: Iterable[CampaignId]) -> list[CampaignId]:
        mine = self._state.campaigns.by_team.get(self._team, set())
        return sorted({campaign for campaign in campaigns if campaign in mine})

    def campaign(self, campaign: CampaignId) -> CampaignRow:
        return self._own(campaign).row

    def campaigns(self, *, before: CampaignId | None, limit: int) -> list[CampaignRow]:
        mine = sorted(self._state.campaigns.by_team.get(self._team, ()), reverse=True)
        return [self._state.campaigns.rows[c].row for c in mine if before is None or c < before][:limit]

    def spec(self, campaign: CampaignId) -> CampaignSpec:
        return self._own(campaign).spec

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        return self._own(campaign).resolved

    def move(
        self,
        campaign: CampaignId,
        *,
        frm: Sequence[CampaignState],
        to: CampaignState,
        paused_by: PausedBy | None = None,
    ) -> bool:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.team != self._team or found.row.state not in frm:
            return False
        finished_at = self._state.clock() if to in ENDED else None
        by = (paused_by or PausedBy.USER) if to is S.PAUSED else None
        self._put(found, replace(found.row, state=to, paused_by=by, finished_at=finished_at))
        if to is S.CANCELLING:
            self._become("cancelled", campaign, "ready", "held")
        elif to is S.ACTIVE and found.row.state in (S.PROOFING, S.AWAITING_APPROVAL):
            self._become("ready", campaign, "held", ready_at=self._state.clock())
        self.add_event(EventKind.CAMPAIGN_STATE, campaign, {"state": to.value})
        return True

    def _put(self, found: Campaign, row: CampaignRow) -> None:
        self._state.campaigns.put(row.id, found._replace(row=row))

    def _become(self, state: str, campaign: CampaignId, *frm: str, ready_at: datetime | None = None) -> None:
        for shard in self._state.shards.of(campaign, *frm):
            self._state.shards.put(shard.id, shard._replace(state=state, ready_at=ready_at or shard.ready_at))

    def has_held(self, campaign: CampaignId) -> bool:
        return bool(self._mine([campaign]) and self._state.shards.tally(campaign).piles["held"].ids)

    def amend(self, campaign: CampaignId, changes: Amend) -> bool:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.team != self._team or found.row.state in ENDED:
            return False
        old = found.row
        new = replace(
            old,
            priority=old.priority if changes.priority is None else changes.priority,
            deadline=changes.deadline or old.deadline,
            budget=changes.budget or old.budget,
        )
        self._put(found, new)
        given = {
            "priority": changes.priority,
            "deadline": changes.deadline and changes.deadline.isoformat(),
            "budget": changes.budget and changes.budget.model_dump(mode="json"),
        }
        data: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if data:
            self.add_event(EventKind.CAMPAIGN_CHANGED, campaign, data)
        return True

    def reposition(self, campaign: CampaignId, position: float) -> bool:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.team != self._team or found.row.state in ENDED:
            return False
        self._put(found, replace(found.row, position=position))
        self.add_event(EventKind.CAMPAIGN_CHANGED, campaign, {"position": position})
        return True

    # what has become of them
    def counts(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, CampaignCounts]:
        return {campaign: self._counts(campaign) for campaign in self._mine(campaigns)}

    def _counts(self, campaign: CampaignId) -> CampaignCounts:
        tally = self._state.shards.tally(campaign)
        return CampaignCounts(
            running=tally.piles["leased"].renders,
            succeeded=tally.succeeded,
            failed=tally.failed,
            cancelled=tally.piles["cancelled"].renders,
            reused=tally.reused,
            queued=tally.piles["ready"].renders + tally.piles["held"].renders,
        )

    def unfinished(self) -> int:
        found = [self._state.campaigns.rows[c].row for c in self._state.campaigns.by_team.get(self._team, ())]
        open_ = [self._counts(row.id) for row in found if row.state not in (*ENDED, *GONE)]
        return sum(counts.queued + counts.running for counts in open_)

    def outcomes(self, campaign: CampaignId, lo: int, hi: int) -> list[OutcomeRow]:
        rows = self._outcomes(campaign)
        wanted = range(lo, hi) if hi - lo < len(rows) else sorted(o for o in rows if lo <= o < hi)
        return [self._show(rows[ordinal]) for ordinal in wanted if ordinal in rows]

    def outcomes_after(self, campaign: CampaignId, *, outcome: str, after: int, limit: int) -> list[OutcomeRow]:
        rows, wanted = self._outcomes(campaign), outcome == "succeeded"
        found = sorted(o for o, row in rows.items() if o > after and (row.picture is not None) == wanted)
        return [self._show(rows[ordinal]) for ordinal in found[:limit]]

    def _outcomes(self, campaign: CampaignId) -> dict[int, Outcome]:
        return self._state.outcomes.by_campaign.get(campaign, {}) if self._mine([campaign]) else {}

    def _show(self, row: Outcome) -> OutcomeRow:
        p = None if row.picture is None else self._state.pictures.rows[row.picture].published
        return OutcomeRow(
            campaign=row.campaign,
            ordinal=row.ordinal,
            outcome="failed" if p is None else "succeeded",
            key=None if p is None else p.key,
            sha256=None if p is None else p.sha256,
            bytes=None if p is None else p.bytes,
            width=None if p is None else p.width,
            height=None if p is None else p.height,
            format=None if p is None else p.format,
            reused=row.reused,
            code=row.code,
            detail=row.detail,
            finished_at=row.finished_at,
            numerics=row.numerics,
            renditions=() if p is None else p.renditions,
            measured=None if p is None else p.measured,
        )

    def open_ranges(self, campaign: CampaignId, *, lo: int, hi: int) -> list[OpenRange]:
        if not self._mine([campaign]):
            return []
        shards = self._state.shards.of(campaign, "ready", "held", "leased", "cancelled")
        parts = [(max(a, lo), min(b, hi), shard.state) for shard in shards for a, b in shard.todo]
        return [OpenRange(Ordinal(a), Ordinal(b), state) for a, b, state in sorted(parts) if a < b]

    def add_event(self, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None:
        self._state.add_event(self._team, kind, campaign, data)


def _row(new: NewCampaign, team: TeamId, state: State) -> CampaignRow:
    now = state.began
    return CampaignRow(
        id=new.id,
        team=team,
        name=new.name,
        submit_hash=new.submit_hash,
        state=new.state,
        renders=new.renders,
        priority=new.priority,
        parent=new.parent,
        created_at=now,
        finished_at=None,
        deadline=new.deadline,
        budget=new.budget,
        lane=new.lane,
        gpu=new.gpu,
        off_peak=new.off_peak,
        position=now.timestamp(),
        quote=new.quote,
    )
