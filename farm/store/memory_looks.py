"""What a team is told of the farm, the queue and its money, in the store's twin."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from math import sqrt

from farm.core.ids import CampaignId, Session, TeamId
from farm.core.records import (
    CostRow,
    FarmView,
    LoadCost,
    QueuedCampaign,
    RendererRow,
    SpentRow,
    TeamRow,
    WhyFacts,
)
from farm.store.memory_campaigns import Campaigning
from farm.store.memory_rows import OPEN, RUNNABLE, Campaign, Cost, S, SessionRow, lane_of
from farm.store.memory_state import State
from schemas.order import Lane

LEADER = "scheduler"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def month_of(moment: datetime) -> date:
    """The first of its month, in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def cost_row(engine_key: str, gpu: str, cost: Cost) -> CostRow:
    spread = sqrt(max(0.0, cost.squares - cost.step_seconds**2))
    return CostRow(engine_key, gpu, cost.step_seconds, spread, cost.renders)


def load_costs(state: State) -> list[LoadCost]:
    return [state.load_costs.rows[key] for key in sorted(state.load_costs.rows)]


def queue_key(campaign: QueuedCampaign) -> tuple[bool, int, float, int]:
    return (campaign.lane is Lane.BULK, -campaign.priority, campaign.position, campaign.id)


class Looks(Campaigning):
    """The part of `farm.ports.TeamTx` that only looks."""

    def team(self) -> TeamRow:
        return self._state.team(self._team).row

    def _open(self) -> list[Campaign]:
        mine = self._state.campaigns.by_team.get(self._team, ())
        found = (self._state.campaigns.rows[campaign] for campaign in sorted(mine))
        return [campaign for campaign in found if campaign.row.state in OPEN]

    def queue(self) -> list[QueuedCampaign]:
        return sorted((self._queued(campaign) for campaign in self._open()), key=queue_key)

    def _queued(self, campaign: Campaign) -> QueuedCampaign:
        row, piles = campaign.row, self._state.shards.tally(campaign.row.id).piles
        return QueuedCampaign(
            id=row.id,
            state=row.state,
            lane=lane_of(row),
            priority=row.priority,
            position=row.position,
            deadline=row.deadline,
            off_peak=row.off_peak,
            renders=piles["ready"].renders,
            seconds=piles["ready"].seconds,
            leased=len(piles["leased"].ids),
        )

    # costs and money
    def costs(self) -> list[CostRow]:
        mine = sorted((key, gpu) for team, key, gpu in self._state.costs.rows if team == self._team)
        return [cost_row(key, gpu, self._state.costs.rows[self._team, key, gpu]) for key, gpu in mine]

    def load_costs(self) -> list[LoadCost]:
        return load_costs(self._state)

    def prices(self) -> dict[str, float]:
        return dict(self._state.prices.rows)

    def spent(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, SpentRow]:
        found = {campaign: self._state.spend.by_campaign(self._team, campaign) for campaign in self._mine(campaigns)}
        return {campaign: spent for campaign, spent in found.items() if spent is not None}

    def team_spent(self) -> SpentRow:
        return self._state.spend.by_team(self._team, month_of(self._state.clock()))

    def known(self, fingerprints: Sequence[str]) -> int:
        known = self._state.pictures.by_fingerprint
        return sum((self._team, fingerprint) in known for fingerprint in set(fingerprints))

    # the farm
    def standing(self) -> list[tuple[float, float, float, int]]:
        seconds = {self._team: 0.0}
        for campaign in self._state.campaigns.in_states(*OPEN, S.CANCELLING):
            piles = self._state.shards.tally(campaign.row.id).piles
            working = [piles["leased"], *([piles["ready"]] if campaign.row.state in RUNNABLE else [])]
            if any(pile.ids for pile in working):
                work = sum(pile.seconds for pile in working)
                seconds[campaign.row.team] = seconds.get(campaign.row.team, 0.0) + work
        teams = ((self._state.team(team), work) for team, work in seconds.items())
        found = [(team.row.weight, team.vtime, work, int(team.row.id == self._team)) for team, work in teams]
        return sorted(found, key=lambda row: (-row[3], row[1], row[0], row[2]))

    def why_facts(self, campaign: CampaignId, weights: dict[str, str]) -> WhyFacts:
        row, now = self.campaign(campaign), self._state.clock()
        ready = self._state.shards.of(campaign, "ready")
        backing_off = [shard.ready_at for shard in ready if shard.ready_at > now]
        had = {row.digest for row in self._state.checkpoints.of(self._team)}
        had |= {row.digest for row in self._state.loras.of(self._team)}
        return WhyFacts(
            campaign=row,
            counts=self._counts(campaign),
            team=self.team(),
            spent=self._state.spend.by_campaign(self._team, campaign) or SpentRow(),
            team_spent=self.team_spent(),
            queue=tuple(self.queue()),
            next_ready_at=min(backing_off, default=None),
            backing_off=len(backing_off),
            renderers_used=self._renderers_of(campaign.row.id for campaign in self._team_campaigns()),
            campaign_renderers=self._renderers_of([campaign]),
            others_waiting=len(self._teams_waiting() - {self._team}),
            missing=tuple(sorted(name for digest, name in weights.items() if digest not in had)),
            farm=self.farm_view(),
        )

    def _team_campaigns(self) -> list[Campaign]:
        return [self._state.campaigns.rows[c] for c in sorted(self._state.campaigns.by_team.get(self._team, ()))]

    def _renderers_of(self, campaigns: Iterable[CampaignId]) -> int:
        shards, sessions = self._state.shards, set[Session | None]()
        for campaign in campaigns:
            sessions.update(shards.rows[shard].session for shard in shards.tally(campaign).piles["leased"].ids)
        return len(sessions - {None})

    def _teams_waiting(self) -> set[TeamId]:
        tallies = self._state.shards
        runnable = self._state.campaigns.in_states(*RUNNABLE)
        return {c.row.team for c in runnable if tallies.tally(c.row.id).lines}

    def farm_view(self) -> FarmView:
        leader, now = self._state.leaders.rows.get(LEADER), self._state.clock()
        view = self._state.views.rows.get("farm", FarmView(at=_LONG_AGO, leading=False))
        return replace(view, leading=leader is not None and leader.expires_at > now)

    def renderers(self) -> list[RendererRow]:
        alive = [row for row in self._state.sessions.rows.values() if row.ended_at is None]
        return [self._renderer(row) for row in sorted(alive, key=lambda row: (row.name, row.seen_at))]

    def _renderer(self, row: SessionRow) -> RendererRow:
        health = self._state.health.rows.get(row.name)
        why = health.why if health is not None and health.quarantined_at is not None else ""
        quarantined = health is not None and health.quarantined_at is not None
        state = "lost" if row.expires_at < self._state.clock() else "quarantined" if quarantined else row.state
        return RendererRow(
            name=row.name,
            session=row.session,
            state=state,
            doing=row.doing,
            gpu=row.gpu,
            node=row.node,
            numerics=row.numerics,
            shards=len(self._state.shards.by_session.get(row.session, ())),
            waiting=row.waiting,
            checkpoint=row.checkpoint,
            seen_at=row.seen_at,
            quarantine=why,
        )
