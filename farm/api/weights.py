"""/v1/checkpoints and /v1/loras"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from farm.api import views
from farm.api.context import Context, Ctx, Team
from farm.api.pages import whole
from farm.api.uploads import RAW_BODY, received
from farm.core.errors import BadRequest
from farm.usecases.add_checkpoint import add_checkpoint
from farm.usecases.add_lora import LoraCard, add_lora
from schemas.checkpoint import Checkpoint, Lora
from schemas.page import Page

router = APIRouter(prefix="/v1", tags=["weights"])

CHECKPOINT_BYTES = 32 * 2**30
LORA_BYTES = 2 * 2**30

Row = TypeVar("Row")
NewName = Annotated[str, Query(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
DepotKey = Annotated[str | None, Query(max_length=900, description="Below `imports/` in the depot, instead of a body.")]


@router.post("/checkpoints", status_code=201, openapi_extra=RAW_BODY)
async def new_checkpoint(request: Request, ctx: Ctx, team: Team, name: NewName, key: DepotKey = None) -> Checkpoint:
    """Add an SDXL checkpoint: a tar of a diffusers folder, or one .safetensors file, as the raw body."""

    def work(upload: Path | None) -> Checkpoint:
        return views.checkpoint(
            add_checkpoint(ctx.store, ctx.depot, ctx.clock, team, name=name, upload=upload, key=key)
        )

    return await _taken_in(request, ctx, key, CHECKPOINT_BYTES, work)


@router.get("/checkpoints")
def list_checkpoints(ctx: Ctx, team: Team) -> Page[Checkpoint]:
    with ctx.store.as_team(team) as tx:
        return whole([views.checkpoint(row) for row in tx.checkpoints()])


@router.post("/loras", status_code=201, openapi_extra=RAW_BODY)
async def new_lora(
    request: Request,
    ctx: Ctx,
    team: Team,
    name: NewName,
    checkpoint: Annotated[str | None, Query(description="It is checked against this one.")] = None,
    trigger_word: Annotated[tuple[str, ...], Query(max_length=50, description="May be given several times.")] = (),
    licence: Annotated[str, Query(max_length=500)] = "",
    expires_at: Annotated[datetime | None, Query(description="When its licence ends.")] = None,
    key: DepotKey = None,
) -> Lora:
    """Add a LoRA as the raw body: a .safetensors file, checked against the checkpoint's shapes."""
    words = tuple(_clean(word) for word in trigger_word)
    card = LoraCard(name, checkpoint, words, _clean(licence), _in_utc(expires_at))

    def work(upload: Path | None) -> Lora:
        return views.lora(add_lora(ctx.store, ctx.depot, ctx.clock, team, card, upload=upload, key=key))

    return await _taken_in(request, ctx, key, LORA_BYTES, work)


@router.get("/loras")
def list_loras(ctx: Ctx, team: Team) -> Page[Lora]:
    with ctx.store.as_team(team) as tx:
        return whole([views.lora(row) for row in tx.loras()])


async def _taken_in(
    request: Request, ctx: Context, key: str | None, cap: int, work: Callable[[Path | None], Row]
) -> Row:
    if key is not None:
        return await to_thread.run_sync(work, None, limiter=ctx.heavy)
    async with received(request, ctx, cap=cap) as path:
        if path.stat().st_size == 0:
            raise BadRequest("The body is empty: send the file, or name a key.", code="empty_body")
        return await to_thread.run_sync(work, path, limiter=ctx.heavy)


def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:500]


def _in_utc(moment: datetime | None) -> datetime | None:
    """A moment without a zone is meant in UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
