"""Rows as the API shows them."""

from datetime import datetime, timedelta

from farm.core.ids import show, show_source
from farm.core.keys import provenance_key, rendition_key, thumbnail_key
from farm.core.records import (
    CampaignCounts,
    CampaignRow,
    CheckpointRow,
    EventRow,
    LoraRow,
    OutcomeRow,
    RendererRow,
    SourceRow,
    SpentRow,
    StyleRow,
    TeamRow,
)
from farm.ports import Depot
from schemas.campaign import (
    Campaign,
    CampaignDetail,
    CampaignSpec,
    Counts,
    PictureLinks,
    Spent,
)
from schemas.checkpoint import Checkpoint, Lora
from schemas.event import Event, EventKind
from schemas.renderer import RendererView
from schemas.source import Source
from schemas.style import Style
from schemas.team import Team

LINK_TTL = timedelta(minutes=10)


def _time(moment: datetime) -> str:
    return moment.isoformat()


def _maybe(moment: datetime | None) -> str | None:
    return None if moment is None else _time(moment)


def source(row: SourceRow) -> Source:
    return Source(
        id=show_source(row.sha256),
        name=row.name,
        sha256=row.sha256,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        format=row.format,
        created_at=_time(row.created_at),
    )


def checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint(
        id=show("ckp", row.id),
        name=row.name,
        digest=row.digest,
        layout=row.layout,
        files=row.files,
        created_at=_time(row.created_at),
    )


def lora(row: LoraRow) -> Lora:
    return Lora(
        id=show("lor", row.id),
        name=row.name,
        digest=row.digest,
        base=row.base_name,
        rank=row.rank,
        targets=row.targets,
        bytes=row.bytes,
        trigger_words=row.trigger_words,
        licence=row.licence,
        expires_at=_maybe(row.expires_at),
        created_at=_time(row.created_at),
    )


def style(row: StyleRow) -> Style:
    return Style(
        id=show("sty", row.id), name=row.name, version=row.version, spec=row.spec, created_at=_time(row.created_at)
    )


def counts(row: CampaignRow, found: CampaignCounts) -> Counts:
    return Counts(
        total=row.renders,
        queued=found.queued,
        running=found.running,
        succeeded=found.succeeded,
        failed=found.failed,
        cancelled=found.cancelled,
        reused=found.reused,
    )


def campaign(row: CampaignRow, found: CampaignCounts) -> Campaign:
    return Campaign(
        id=show("cmp", row.id),
        name=row.name,
        state=row.state,
        priority=row.priority,
        parent=None if row.parent is None else show("cmp", row.parent),
        counts=counts(row, found),
        created_at=_time(row.created_at),
        finished_at=_maybe(row.finished_at),
        deadline=_maybe(row.deadline),
        lane=row.lane,
        paused_by=row.paused_by,
        warnings=row.warnings,
    )


def campaign_detail(
    row: CampaignRow, found: CampaignCounts, spec: CampaignSpec, spent_so_far: SpentRow, warnings: dict[str, str]
) -> CampaignDetail:
    return CampaignDetail(
        **dict(campaign(row, found)),
        spec=spec,
        budget=row.budget,
        quote=row.quote,
        spent=spent(spent_so_far),
        warning_details=warnings,
    )


def spent(row: SpentRow) -> Spent:
    return Spent(gpu_seconds=row.gpu_seconds, money=row.money)


def team(row: TeamRow, this_month: SpentRow) -> Team:
    return Team(
        id=show("team", row.id),
        name=row.name,
        weight=row.weight,
        quota=row.quota,
        burst=row.burst,
        max_renders=row.max_renders,
        retention_days=row.retention_days,
        budget=row.budget,
        spent=spent(this_month),
    )


def event(row: EventRow) -> Event:
    return Event(
        id=row.id, kind=EventKind(row.kind), campaign=show("cmp", row.campaign), data=row.data, at=_time(row.at)
    )


def renderer(row: RendererRow) -> RendererView:
    return RendererView(
        name=row.name,
        state=row.state,
        doing=row.doing,
        gpu=row.gpu,
        node=row.node,
        shards=row.shards,
        waiting=row.waiting,
        checkpoint=row.checkpoint,
        seen_at=_time(row.seen_at),
        quarantine=row.quarantine,
    )


def links(depot: Depot, row: OutcomeRow) -> PictureLinks | None:
    if row.key is None:
        return None
    return PictureLinks(
        picture=depot.link_get(row.key, LINK_TTL),
        thumbnail=depot.link_get(thumbnail_key(row.key), LINK_TTL),
        provenance=depot.link_get(provenance_key(row.key), LINK_TTL),
        renditions={
            made.name: depot.link_get(rendition_key(row.key, made.name, made.format), LINK_TTL)
            for made in row.renditions
        },
    )
