"""/v1/campaigns/{campaign}/renders, /v1/renders and /v1/renderers"""

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import RedirectResponse

from farm.api import views
from farm.api.campaigns import answer
from farm.api.context import Ctx, IdempotencyKey, Team
from farm.api.examples import REFINE
from farm.api.pages import After, Limit, whole
from farm.core.cells import CellFilter
from farm.core.errors import NotFound
from farm.core.ids import CampaignId, TeamId, read, read_render
from farm.core.records import OutcomeRow
from farm.usecases.list_renders import list_renders, show_one
from farm.usecases.refine_render import refine_render
from farm.usecases.submit_campaign import Submitted
from schemas.campaign import Campaign, PictureLinks, Render, RenderState
from schemas.page import Page
from schemas.refine import Refine
from schemas.renderer import RendererView

router = APIRouter(prefix="/v1", tags=["renders"])


@router.get("/campaigns/{campaign}/renders")
def renders(
    ctx: Ctx,
    team: Team,
    campaign: str,
    limit: Limit = 50,
    after: After = None,
    state: RenderState | None = None,
    style: Annotated[str | None, Query(max_length=63)] = None,
    strength: Annotated[float | None, Query(ge=0, le=1)] = None,
    source: Annotated[str | None, Query(max_length=68)] = None,
) -> Page[Render]:
    """A campaign's renders in order. With a filter a page may be short, or empty, and not the last."""
    number = CampaignId(read("cmp", campaign))
    last = -1 if after is None else _position(after, number)
    wanted = CellFilter(style, strength, None if source is None else source.removeprefix("src_"))
    found = list_renders(
        ctx.store, team, number, after=last, limit=limit, links=_Links(ctx), state=state, wanted=wanted
    )
    more = found.next_after is not None
    return Page(data=found.renders, has_more=more, next_cursor=str(found.next_after) if more else None)


@router.get("/renders/{render}")
def render(ctx: Ctx, team: Team, render: str) -> Render:
    return _one(ctx, team, render)


@router.get("/renders/{render}/links")
def links(ctx: Ctx, team: Team, render: str) -> PictureLinks:
    """Presigned links to picture, thumbnail, provenance and renditions, good for ten minutes."""
    found = _one(ctx, team, render).links
    if found is None:
        raise NotFound(f"Render {render} has no picture.", code="no_picture")
    return found


@router.get("/renders/{render}/{part}", status_code=307, response_class=RedirectResponse)
def picture(ctx: Ctx, team: Team, render: str, part: Literal["picture", "thumbnail", "provenance"]) -> str:
    """Leads on to the file itself."""
    found = links(ctx, team, render)
    return {"picture": found.picture, "thumbnail": found.thumbnail, "provenance": found.provenance}[part]


@router.post("/renders/{render}/refine", status_code=201)
async def refine(
    response: Response,
    ctx: Ctx,
    team: Team,
    key: IdempotencyKey,
    render: str,
    changes: Annotated[Refine, Body(examples=REFINE)],
) -> Campaign:
    """A new campaign that renders this once more, with changes: from its picture, or with `start` from its source.

    What is left out stays as it was: style and version, prompt, strength, size, seed. It goes in the interactive lane.
    """

    def work() -> Submitted:
        return refine_render(
            ctx.store, ctx.depot, ctx.clock, team, read_render(render), changes, ctx.terms, idempotency_key=key
        )

    submitted = await to_thread.run_sync(work, limiter=ctx.heavy)  # the picture is read, and looked at as any upload
    return await to_thread.run_sync(answer, ctx, team, response, submitted)


@router.get("/renderers", tags=["renderers"])
def renderers(ctx: Ctx, team: Team) -> Page[RendererView]:
    with ctx.store.as_team(team) as tx:
        return whole([views.renderer(row) for row in tx.renderers()])


def _one(ctx: Ctx, team: TeamId, render: str) -> Render:
    campaign, ordinal = read_render(render)
    return show_one(ctx.store, team, campaign, ordinal, _Links(ctx))


def _position(after: str, campaign: CampaignId) -> int:
    """A cursor is an ordinal; the id of a render of this campaign does as well."""
    if after.startswith("rnd_"):
        owner, ordinal = read_render(after)
        if owner == campaign:
            return ordinal
    if after.isascii() and after.isdigit() and len(after) <= 18:
        return int(after)
    raise NotFound(f"There is no cursor {after!r} in this campaign: take `next_cursor` of the page before.")


class _Links:
    def __init__(self, ctx: Ctx) -> None:
        self._depot = ctx.depot

    def __call__(self, row: OutcomeRow) -> PictureLinks | None:
        return views.links(self._depot, row)
