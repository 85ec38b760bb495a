"""What the scheduler looks at: queues, leases, teams, costs, weights."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from farm.core.errors import NotFound
from farm.core.evidence import OUTAGE
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from farm.core.placement import Backlog, Head, Queue
from farm.core.plan import Held
from farm.core.queues import PER_CAMPAIGN
from farm.core.records import Accusation, CheckpointRow, CostRow, LoadCost, LoraRow, Quarantined
from farm.core.shard import travels_alone
from farm.store import queue_sql, renderer_sql, rows, sql
from farm.store.statements import LeaderStatements
from schemas.campaign import CampaignState, ResolvedCampaign
from schemas.order import Lane

_MOST_TRIES = 2000
"""Failed tries that are looked at as evidence: some milliseconds. When everything fails, the newest tell enough."""


class Looking(LeaderStatements):
    def queues(self, per_queue: int) -> list[Queue]:
        found = self._all(queue_sql.QUEUES, per_queue=per_queue, per_campaign=PER_CAMPAIGN)
        return [_queue(list(heads)) for _, heads in groupby(found, key=lambda row: (row[1], row[2]))]

    def backlog(self) -> dict[tuple[CampaignId, str], Backlog]:
        return {(CampaignId(row[0]), row[1]): Backlog(*row[2:]) for row in self._all(queue_sql.BACKLOG)}

    def held_back(self) -> dict[tuple[CampaignId, str], Backlog]:
        return {(CampaignId(row[0]), row[1]): Backlog(*row[2:]) for row in self._all(queue_sql.HELD_BACK)}

    def held(self) -> list[Held]:
        return [_held(row) for row in self._all(sql.HELD)]

    def teams(self) -> list[TeamShare]:
        return [TeamShare(TeamId(row[0]), *row[1:]) for row in self._all(queue_sql.TEAMS)]

    def costs(self) -> list[tuple[TeamId, CostRow]]:
        self._write_learned()
        return [(TeamId(row[0]), rows.cost(row)) for row in self._all(queue_sql.ALL_COSTS)]

    def load_costs(self) -> list[LoadCost]:
        return [LoadCost(*row) for row in self._all(queue_sql.LOAD_COSTS)]

    def prices(self) -> dict[str, float]:
        return {row[0]: row[1] for row in self._all(queue_sql.PRICES)}

    def team_names(self, teams: Collection[TeamId]) -> dict[TeamId, str]:
        return {TeamId(row[0]): row[1] for row in self._all(queue_sql.TEAM_NAMES, teams=sorted(teams))}

    def campaign_states(self) -> dict[CampaignState, int]:
        return {CampaignState(row[0]): row[1] for row in self._all(queue_sql.CAMPAIGN_STATES)}

    def database_bytes(self) -> int:
        return int(self._all(queue_sql.DATABASE_BYTES)[0][0])

    def quarantined(self) -> list[Quarantined]:
        return [Quarantined(RendererName(row[0]), *row[1:]) for row in self._all(renderer_sql.QUARANTINED)]

    def accusations(self, window: timedelta) -> list[Accusation]:
        found = self._all(renderer_sql.ACCUSATIONS, window=window, most=_MOST_TRIES, outage=OUTAGE)
        return [Accusation(RendererName(row[0]), *row[1:]) for row in found]

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        found = self._first(sql.RESOLVED, campaign=campaign)
        if found is None:
            raise NotFound("There is no such campaign.")
        return ResolvedCampaign.model_validate(found[0])

    def checkpoint(self, team: TeamId, digest: str) -> CheckpointRow:
        found = self._first(sql.CHECKPOINT, team=team, digest=digest)
        if found is None:
            raise NotFound(f"The team has no checkpoint {digest[:12]}.")
        return rows.checkpoint(found)

    def loras(self, team: TeamId, digests: Sequence[str]) -> dict[str, LoraRow]:
        found = self._all(sql.LORAS, team=team, digests=list(digests))
        return {row.digest: rows.lora(row) for row in found}

    def pictures(self, team: TeamId, fingerprints: Sequence[str]) -> dict[str, int]:
        found = self._all(sql.PICTURES, team=team, fingerprints=[bytes.fromhex(f) for f in fingerprints])
        return {row[0]: row[1] for row in found}

    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(row[0] for row in self._all(sql.KEYS_IN_USE, keys=list(keys)))


def _queue(heads: Sequence[Any]) -> Queue:
    first = heads[0]
    return Queue(
        team=TeamId(first.team_id),
        campaign=CampaignId(first.campaign_id),
        engine_key=first.engine_key,
        checkpoint=first.checkpoint,
        lane=Lane(first.lane),
        priority=first.priority,
        position=first.position,
        heads=tuple(
            Head(ShardId(row[10]), row[11], row[12], tuple(row[13]), travels_alone(lost=row[14], width=row[15]))
            for row in heads
        ),
        deadline=first.deadline,
        gpu=first.gpu,
        off_peak=first.off_peak,
        step_seconds=first.step_seconds,
    )


def _held(row: Any) -> Held:
    return Held(
        shard=ShardId(row.shard_id),
        session=Session(row.session),
        fence=Fence(row.fence),
        age=row.age,
        expired=row.expired,
        ended=row.ended,
        cancelled=row.cancelled,
        engine_key=row.engine_key,
        checkpoint=row.checkpoint,
        gpu_seconds=row.gpu_seconds,
        team=TeamId(row.team_id),
        campaign=CampaignId(row.campaign_id),
        lane=Lane(row.lane),
        renders=row.renders,
        alone=travels_alone(lost=row.lost, width=row.renders),
        gpu=row.gpu,
        avoid=tuple(row.avoid),
        step_seconds=row.step_seconds,
    )
