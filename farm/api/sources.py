"""/v1/sources"""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from farm.api import views
from farm.api.context import Ctx, Team
from farm.api.pages import After, Limit, page
from farm.api.uploads import RAW_BODY, received
from farm.core.errors import NotFound
from farm.core.ids import TeamId
from farm.core.keys import source_key
from farm.core.records import SourceRow
from farm.usecases.upload_source import upload_source
from schemas.page import Page
from schemas.source import MAX_BYTES, Source, SourceFault, SourceLinks

router = APIRouter(prefix="/v1/sources", tags=["sources"])


@router.post("", status_code=201, openapi_extra=RAW_BODY)
async def upload(
    request: Request,
    response: Response,
    ctx: Ctx,
    team: Team,
    name: Annotated[str, Query(min_length=1, max_length=500, examples=["coffee.jpg"])],
) -> Source:
    """Upload a picture as the raw body: JPEG, PNG or WebP. A picture that the team has already answers 200."""
    async with received(request, ctx, cap=MAX_BYTES, code=SourceFault.TOO_MANY_BYTES.value) as path:

        def work() -> tuple[SourceRow, bool]:
            return upload_source(ctx.store, ctx.depot, ctx.clock, team, name=name, data=path.read_bytes())

        row, new = await to_thread.run_sync(work, limiter=ctx.heavy)
    response.status_code = 201 if new else 200
    return views.source(row)


@router.get("")
def list_sources(ctx: Ctx, team: Team, limit: Limit = 50, after: After = None) -> Page[Source]:
    """The team's sources, ordered by sha256."""
    last = None if after is None else after.removeprefix("src_")
    with ctx.store.as_team(team) as tx:
        rows = tx.sources(after=last, limit=limit + 1)
    return page(rows, limit, views.source, lambda source: source.id)


@router.get("/{source}")
def show_source(ctx: Ctx, team: Team, source: str) -> Source:
    return views.source(_find(ctx, team, source))


@router.get("/{source}/links")
def source_links(ctx: Ctx, team: Team, source: str) -> SourceLinks:
    """A presigned link to the picture as it was uploaded, good for ten minutes."""
    row = _find(ctx, team, source)
    return SourceLinks(picture=ctx.depot.link_get(source_key(team, row.sha256), views.LINK_TTL, row.name))


def _find(ctx: Ctx, team: TeamId, source: str) -> SourceRow:
    digest = source.removeprefix("src_")
    with ctx.store.as_team(team) as tx:
        row = tx.sources_by_sha([digest]).get(digest) if digest.isalnum() else None
    if row is None:
        raise NotFound(f"There is no source {source}.")
    return row
