"""Rows of PostgreSQL to and from ours."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.multirange import Multirange
from sqlalchemy import Connection, Row

from farm.core.ids import CampaignId, CheckpointId, Fence, LoraId, ShardId, TeamId
from farm.core.records import CampaignRow, CheckpointRow, CostRow, FarmView, LoraRow, TeamRow
from farm.core.settle import ShardRow
from farm.core.shard import Ranges
from farm.store import sql
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.checkpoint import CheckpointFile
from schemas.event import EventKind
from schemas.order import Lane
from schemas.quote import Quote
from schemas.report import Measured, PublishedRendition

NewEvent = tuple[CampaignId, EventKind, dict[str, object]]


def ranges(value: Multirange[int]) -> Ranges:
    return tuple((part.lower, part.upper) for part in value if part.lower is not None and part.upper is not None)


def multirange(value: Ranges) -> str:
    return "{" + ",".join(f"[{lo},{hi})" for lo, hi in value) + "}"


def shard(row: Row[Any]) -> ShardRow:
    return ShardRow(
        id=ShardId(row.shard_id),
        team=TeamId(row.team_id),
        campaign=CampaignId(row.campaign_id),
        engine_key=row.engine_key,
        checkpoint=row.checkpoint,
        priority=row.priority,
        state=row.state,
        fence=None if row.fence is None else Fence(row.fence),
        todo=ranges(row.todo),
        tries=row.tries,
        lost=row.lost,
        seconds=row.seconds,
        cancelling=row.cancelling,
        depot_tries=row.depot_tries,
        avoid=tuple(row.avoid),
        lane=Lane(row.lane),
    )


def renditions(value: Sequence[object]) -> tuple[PublishedRendition, ...]:
    return tuple(PublishedRendition.model_validate(one) for one in value)


def measured(value: object) -> Measured | None:
    return None if value is None else Measured.model_validate(value)


def budget(value: object) -> Budget | None:
    return None if value is None else Budget.model_validate(value)


def team(row: Row[Any]) -> TeamRow:
    return TeamRow(
        id=TeamId(row.team_id),
        name=row.name,
        max_renders=row.max_renders,
        weight=row.weight,
        quota=row.quota,
        burst=row.burst,
        budget=budget(row.budget),
        retention_days=row.retention_days,
    )


def campaign(row: Row[Any]) -> CampaignRow:
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
        deadline=row.deadline,
        budget=budget(row.budget),
        lane=Lane(row.lane),
        gpu=row.gpu,
        off_peak=row.off_peak,
        position=row.position,
        paused_by=None if row.paused_by is None else PausedBy(row.paused_by),
        warnings=tuple(row.warnings),
        quote=None if row.quote is None else Quote.model_validate(row.quote),
    )


def cost(row: Row[Any]) -> CostRow:
    return CostRow(row.engine_key, row.gpu, row.step_seconds, row.spread, row.renders)


def farm_view(row: Row[Any]) -> FarmView:
    """*row.value* is None before the first tick of the first leader."""
    value = row.value or {}
    fields = ("depot_up", "off_peak", "wanted", "most")
    return FarmView(
        at=row.at,
        leading=row.leading,
        renderers=tuple((gpu, state, count) for gpu, state, count in value.get("renderers", ())),
        gpus=tuple(value.get("gpus", ())),
        **{field: value[field] for field in fields if field in value},
    )


def as_json(columns: Mapping[str, object]) -> dict[str, str]:
    """psycopg writes out arrays in Python, element by element; a list as JSON costs a tenth of it."""
    return {name: json.dumps(values) for name, values in columns.items()}


def checkpoint(row: Row[Any]) -> CheckpointRow:
    return CheckpointRow(
        id=CheckpointId(row.checkpoint_id),
        name=row.name,
        digest=row.digest,
        layout=row.layout,
        prefix=row.prefix,
        files=tuple(CheckpointFile.model_validate(file) for file in row.files),
        created_at=row.created_at,
    )


def lora(row: Row[Any]) -> LoraRow:
    return LoraRow(
        id=LoraId(row.lora_id),
        name=row.name,
        digest=row.digest,
        key=row.key,
        bytes=row.bytes,
        base=row.base,
        base_name=row.base_name,
        targets=row.targets,
        rank=row.rank,
        trigger_words=tuple(row.trigger_words),
        licence=row.licence,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )


def add_events(connection: Connection, team: TeamId, events: Sequence[NewEvent]) -> None:
    """Last in its transaction: from here on the team's other writers of events wait for the commit."""
    values = {
        "team": team,
        "count": len(events),
        "campaign": [campaign for campaign, _, _ in events],
        "kind": [str(kind) for _, kind, _ in events],
        "data": [json.dumps(data) for _, _, data in events],
    }
    connection.execute(sql.ADD_EVENTS, values)
