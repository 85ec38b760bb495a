"""Rows of PostgreSQL to and from ours."""

import json
from collections.abc import Sequence
from typing import Any

from psycopg.types.multirange import Multirange
from sqlalchemy import Connection, Row

from farm.core.ids import CampaignId, CheckpointId, Fence, LoraId, ShardId, TeamId
from farm.core.records import CheckpointRow, LoraRow
from farm.core.settle import ShardRow
from farm.core.shard import Ranges
from farm.store import sql
from schemas.checkpoint import CheckpointFile
from schemas.event import EventKind


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
    )


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


def add_events(
    connection: Connection, team: TeamId, events: Sequence[tuple[CampaignId, EventKind, dict[str, object]]]
) -> None:
    """Last in its transaction: from here on the team's other writers of events wait for the commit."""
    values = {
        "team": team,
        "count": len(events),
        "campaign": [campaign for campaign, _, _ in events],
        "kind": [str(kind) for _, kind, _ in events],
        "data": [json.dumps(data) for _, _, data in events],
    }
    connection.execute(sql.ADD_EVENTS, values)
    connection.execute(sql.NOTIFY, {"team": str(team)})
