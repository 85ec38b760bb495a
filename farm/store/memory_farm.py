"""What the leader sees of the farm, in the store's twin."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from farm.core.budget import Purse, TeamPurse
from farm.core.errors import NotFound
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, TeamId
from farm.core.plan import Held
from farm.core.queues import PER_CAMPAIGN, Backlog, Head, Queue
from farm.core.records import Accusation, CheckpointRow, CostRow, LoadCost, LoraRow, Quarantined, SpentRow
from farm.core.shard import travels_alone
from farm.store import memory_health
from farm.store.memory_looks import cost_row, load_costs, month_of
from farm.store.memory_rows import RUNNABLE, Campaign, S, Shard, lane_of
from farm.store.memory_shards import Line
from farm.store.memory_state import State
from schemas.campaign import CampaignState, PausedBy, ResolvedCampaign

_BUDGETS = (PausedBy.BUDGET, PausedBy.TEAM_BUDGET)
_NOTHING = SpentRow()


class Seeing:
    """The part of `farm.ports.SchedulerTx` that only looks."""

    def __init__(self, state: State) -> None:
        self._state = state

    def now(self) -> datetime:
        return self._state.clock()

    # shards
    def queues(self, per_queue: int) -> list[Queue]:
        now, found = self._state.clock(), []
        for campaign in self._state.campaigns.in_states(*RUNNABLE):
            lines = self._state.shards.tally(campaign.row.id).lines
            for engine_key in sorted(lines)[:PER_CAMPAIGN]:
                heads = self._heads(lines[engine_key], now, per_queue)
                if heads:
                    found.append(_queue(campaign, self._state.shards.rows[heads[0].shard], tuple(heads)))
        return found

    def _heads(self, line: Line, now: datetime, wanted: int) -> list[Head]:
        heads: list[Head] = []
        for _, number in line.order:
            if len(heads) == wanted:
                break
            shard = self._state.shards.rows[number]
            if shard.ready_at <= now:
                waited = (now - shard.ready_at).total_seconds()
                alone = travels_alone(lost=shard.lost, width=shard.renders)
                heads.append(Head(number, shard.seconds * shard.renders, waited, shard.avoid, alone))
        return heads

    def backlog(self) -> dict[tuple[CampaignId, str], Backlog]:
        return {
            (campaign.row.id, engine_key): _backlog(line)
            for campaign in self._state.campaigns.in_states(*RUNNABLE)
            for engine_key, line in sorted(self._state.shards.tally(campaign.row.id).lines.items())
        }

    def held_back(self) -> dict[tuple[CampaignId, str], Backlog]:
        lines: dict[tuple[CampaignId, str], Line] = {}
        for campaign in self._state.campaigns.in_states(S.PROOFING, S.AWAITING_APPROVAL):
            for shard in self._state.shards.of(campaign.row.id, "held"):
                lines.setdefault((shard.campaign, shard.engine_key), Line()).add(shard)
        return {key: _backlog(line) for key, line in sorted(lines.items())}

    def held(self) -> list[Held]:
        now, rows = self._state.clock(), self._state.shards.rows
        return [self._held(rows[shard], now) for shard in sorted(self._state.shards.leased)]

    def _held(self, shard: Shard, now: datetime) -> Held:
        campaign = self._state.campaigns.rows[shard.campaign].row
        session = None if shard.session is None else self._state.sessions.rows.get(shard.session)
        return Held(
            shard=shard.id,
            session=shard.session,  # type: ignore[arg-type]  # a leased shard has one, but for the API's tests
            fence=shard.fence,  # type: ignore[arg-type]  # the same
            age=(now - (shard.leased_at or now)).total_seconds(),
            expired=session is None or session.expires_at < now,
            ended=session is not None and session.ended_at is not None,
            cancelled=campaign.state is S.CANCELLING,
            engine_key=shard.engine_key,
            checkpoint=shard.checkpoint,
            gpu_seconds=shard.seconds * shard.renders,
            team=shard.team,
            campaign=shard.campaign,
            lane=lane_of(campaign),
            renders=shard.renders,
            alone=travels_alone(lost=shard.lost, width=shard.renders),
            gpu=campaign.gpu,
            avoid=shard.avoid,
            step_seconds=shard.step_seconds,
        )

    # teams and money
    def teams(self) -> list[TeamShare]:
        state = self._state
        found = {team for team, row in state.teams.rows.items() if row.backlogged}
        found |= {state.shards.rows[shard].team for shard in state.shards.leased}
        runnable = state.campaigns.in_states(*RUNNABLE)
        found |= {c.row.team for c in runnable if state.shards.tally(c.row.id).lines}
        return [self._share(team) for team in sorted(found)]

    def _share(self, team: TeamId) -> TeamShare:
        found = self._state.team(team)
        row = found.row
        return TeamShare(team, row.weight, found.vtime, found.backlogged, row.quota, row.burst)

    def purses(self) -> tuple[list[Purse], list[TeamPurse]]:
        found = self._state.campaigns.in_states(*RUNNABLE, S.AWAITING_APPROVAL, S.PAUSED)
        open_ = [c for c in found if c.row.state is not S.PAUSED or c.row.paused_by in _BUDGETS]
        month, purses = month_of(self._state.clock()), []
        for team in sorted({campaign.row.team for campaign in open_}):
            budget = self._state.team(team).row.budget
            if budget is not None:
                purses.append(TeamPurse(team, budget, self._state.spend.by_team(team, month)))
        return [self._purse(campaign) for campaign in open_], purses

    def _purse(self, campaign: Campaign) -> Purse:
        row = campaign.row
        return Purse(
            campaign=row.id,
            team=row.team,
            state=row.state,
            paused_by=row.paused_by,
            lane=lane_of(row),
            priority=row.priority,
            position=row.position,
            spent=self._state.spend.by_campaign(row.team, row.id) or _NOTHING,
            budget=row.budget,
            deadline=row.deadline,
            off_peak=row.off_peak,
            warnings=row.warnings,
            gpu=row.gpu,
        )

    def costs(self) -> list[tuple[TeamId, CostRow]]:
        rows = self._state.costs.rows
        return [(team, cost_row(key, gpu, rows[team, key, gpu])) for team, key, gpu in sorted(rows)]

    def load_costs(self) -> list[LoadCost]:
        return load_costs(self._state)

    def prices(self) -> dict[str, float]:
        return dict(self._state.prices.rows)

    # for those who watch
    def team_names(self, teams: Collection[TeamId]) -> dict[TeamId, str]:
        return {team: self._state.teams.rows[team].row.name for team in sorted(teams) if team in self._state.teams.rows}

    def campaign_states(self) -> dict[CampaignState, int]:
        found = self._state.campaigns.in_states(*RUNNABLE, S.AWAITING_APPROVAL, S.PAUSED)
        return dict(Counter(campaign.row.state for campaign in found))

    def database_bytes(self) -> int:
        """Something that grows with what there is: a twin has no disk."""
        state = self._state
        tables = (state.teams, state.campaigns, state.shards, state.outcomes, state.pictures, state.events)
        return 1024 * sum(len(table.rows) for table in tables)

    # health
    def quarantined(self) -> list[Quarantined]:
        return memory_health.quarantined(self._state)

    def accusations(self, window: timedelta) -> list[Accusation]:
        return memory_health.accusations(self._state, window)

    # what orders are made of
    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        found = self._state.campaigns.rows.get(campaign)
        if found is None:
            raise NotFound("There is no such campaign.")
        return found.resolved

    def checkpoint(self, team: TeamId, digest: str) -> CheckpointRow:
        found = [row for row in self._state.checkpoints.of(team) if row.digest == digest]
        if not found:
            raise NotFound(f"The team has no checkpoint {digest[:12]}.")
        return min(found, key=lambda row: row.id)

    def loras(self, team: TeamId, digests: Sequence[str]) -> dict[str, LoraRow]:
        found = sorted(self._state.loras.of(team), key=lambda row: row.id, reverse=True)
        return {row.digest: row for row in found if row.digest in digests}

    def pictures(self, team: TeamId, fingerprints: Sequence[str]) -> dict[str, int]:
        known = self._state.pictures.by_fingerprint
        return {f: known[team, f] for f in fingerprints if (team, f) in known}

    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(key for key in keys if key in self._state.pictures.by_key)

    def picture_count(self) -> int:
        return len(self._state.pictures.rows)


def _backlog(line: Line) -> Backlog:
    return Backlog(len(line.ids), line.renders, line.seconds, line.step_seconds)


def _queue(campaign: Campaign, first: Shard, heads: tuple[Head, ...]) -> Queue:
    row = campaign.row
    return Queue(
        team=row.team,
        campaign=row.id,
        engine_key=first.engine_key,
        checkpoint=first.checkpoint,
        lane=lane_of(row),
        priority=row.priority,
        position=row.position,
        heads=heads,
        deadline=row.deadline,
        gpu=row.gpu,
        off_peak=row.off_peak,
        step_seconds=first.step_seconds,
    )
