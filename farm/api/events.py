"""/v1/events and /v1/campaigns/{campaign}/events: server-sent events that a client can take up where it left off."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from farm.api import views
from farm.api.context import Context, Ctx, Digest, Team, team_of
from farm.core.errors import FarmError
from farm.core.ids import CampaignId, TeamId, read
from farm.core.records import EventRow

router = APIRouter(prefix="/v1", tags=["events"], default_response_class=EventSourceResponse)

BATCH = 200
LOOK_ANYWAY = 20.0
"""Seconds after which a stream looks without having been woken, should a notice ever get lost."""

KEY_EVERY = 10.0
"""Seconds for which a stream trusts its key: with `LOOK_ANYWAY`, a revoked one ends its streams in half a minute."""


def _position(
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,18}$")] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**63, description="Like Last-Event-ID; 0 replays everything.")] = None,
) -> int | None:
    """The header comes from a client that reconnects, so it is the newer of the two."""
    return after if last_event_id is None else int(last_event_id)


Position = Annotated[int | None, Depends(_position)]


def _known(ctx: Ctx, team: Team, campaign: str) -> CampaignId:
    """Looked up before the stream begins: afterwards it is too late for a 404."""
    number = CampaignId(read("cmp", campaign))
    with ctx.store.as_team(team) as tx:
        return tx.campaign(number).id


def _begin(ctx: Ctx, team: Team, position: Position) -> int:
    if position is not None:
        return position
    with ctx.store.as_team(team) as tx:
        return tx.last_event()


Begin = Annotated[int, Depends(_begin)]


@router.get("/events")
async def events(ctx: Ctx, team: Team, key: Digest, begin: Begin) -> AsyncIterator[ServerSentEvent]:
    """What happens in the team's campaigns, from now on or from `Last-Event-ID` on."""
    async for event in _stream(ctx, team, key, None, begin):
        yield event


@router.get("/campaigns/{campaign}/events")
async def campaign_events(
    ctx: Ctx, team: Team, key: Digest, campaign: Annotated[CampaignId, Depends(_known)], begin: Begin
) -> AsyncIterator[ServerSentEvent]:
    """What happens in one campaign."""
    async for event in _stream(ctx, team, key, campaign, begin):
        yield event


async def _stream(
    ctx: Context, team: TeamId, key: bytes, campaign: CampaignId | None, position: int
) -> AsyncIterator[ServerSentEvent]:
    with ctx.metrics.streams.track_inprogress(), ctx.waker.listening(team) as news:
        # The first thing said tells where the stream stands, so that a client that is cut off now misses nothing.
        yield ServerSentEvent(event="stream.opened", id=str(position), raw_data="{}", retry=1000)
        checked_at = time.monotonic()
        while not ctx.waker.stopping:
            news.clear()  # before looking: what comes while we look wakes us again
            try:
                rows = await run_in_threadpool(_read, ctx, team, campaign, position)
                if time.monotonic() - checked_at >= KEY_EVERY:
                    await run_in_threadpool(team_of, ctx, key)
                    checked_at = time.monotonic()
            except FarmError:  # the client comes back with its Last-Event-ID, and hears that its key was revoked
                return
            for row in rows:
                position = row.id
                shown = views.event(row)
                yield ServerSentEvent(event=shown.kind.value, id=str(row.id), raw_data=shown.model_dump_json())
            if len(rows) < BATCH:
                await _until(news)


async def _until(news: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_ANYWAY):
            await news.wait()
    except TimeoutError:
        return


def _read(ctx: Context, team: TeamId, campaign: CampaignId | None, after: int) -> list[EventRow]:
    with ctx.store.as_team(team) as tx:
        return tx.events(after=after, limit=BATCH, campaign=campaign)
