"""/v1/campaigns"""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from farm.api import views
from farm.api.context import Ctx, IdempotencyKey, Team
from farm.api.pages import After, Limit, page
from farm.core.ids import CampaignId, TeamId, read
from farm.core.records import CampaignCounts, CampaignRow
from farm.usecases.move_campaign import move_campaign
from farm.usecases.retry_failed import retry_failed
from farm.usecases.submit_campaign import Submitted, submit_campaign
from schemas.campaign import Campaign, CampaignDetail, CampaignSpec, CampaignState
from schemas.page import Page

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

_EXAMPLE = {
    "name": "Autumn coffee",
    "blocks": [
        {
            "sources": [{"source": "src_" + "0" * 64, "variables": {"sku": "A-17"}}],
            "styles": ["anime", "cinematic@3"],
            "strengths": [0.35, 0.7],
            "variants": 2,
        }
    ],
    "output": {"format": "webp", "quality": 90},
}
_NONE = CampaignCounts(running=0, succeeded=0, failed=0, cancelled=0, reused=0, queued=0)


@router.post("", status_code=201)
def submit(
    response: Response,
    ctx: Ctx,
    team: Team,
    key: IdempotencyKey,
    spec: Annotated[CampaignSpec, Body(examples=[_EXAMPLE])],
) -> Campaign:
    """Submit a campaign. Everything that is wrong is answered at once, each fault with its JSON pointer.

    With an `Idempotency-Key`, the same body gives the same campaign again (200, `Idempotent-Replayed: true`).
    """
    limit = ctx.settings.max_campaign_renders
    submitted = submit_campaign(
        ctx.store,
        ctx.clock,
        team,
        spec,
        idempotency_key=key,
        max_renders=limit,
        shard_seconds=ctx.settings.shard_seconds,
    )
    return _answer(ctx, team, response, submitted)


@router.get("")
def list_campaigns(ctx: Ctx, team: Team, limit: Limit = 50, after: After = None) -> Page[Campaign]:
    """Newest first."""
    before = None if after is None else CampaignId(read("cmp", after))
    with ctx.store.as_team(team) as tx:
        rows = tx.campaigns(before=before, limit=limit + 1)
        found = tx.counts([row.id for row in rows])
    return page(rows, limit, lambda row: views.campaign(row, found.get(row.id, _NONE)), lambda shown: shown.id)


@router.get("/{campaign}")
def show(ctx: Ctx, team: Team, campaign: str) -> CampaignDetail:
    number = CampaignId(read("cmp", campaign))
    with ctx.store.as_team(team) as tx:
        row, found, spec = tx.campaign(number), tx.counts([number]), tx.spec(number)
    return views.campaign_detail(row, found[number], spec)


@router.post("/{campaign}/pause")
def pause(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """No further render starts; those that a renderer has already are finished."""
    return _move(ctx, team, campaign, CampaignState.PAUSED)


@router.post("/{campaign}/resume")
def resume(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    return _move(ctx, team, campaign, CampaignState.ACTIVE)


@router.post("/{campaign}/cancel")
def cancel(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """For good. What was rendered stays."""
    return _move(ctx, team, campaign, CampaignState.CANCELLING)


@router.post("/{campaign}/retry", status_code=201)
def retry(response: Response, ctx: Ctx, team: Team, key: IdempotencyKey, campaign: str) -> Campaign:
    """A child campaign with the same spec: it takes over what succeeded and renders what failed again."""
    submitted = retry_failed(
        ctx.store,
        ctx.clock,
        team,
        CampaignId(read("cmp", campaign)),
        idempotency_key=key,
        max_renders=ctx.settings.max_campaign_renders,
        shard_seconds=ctx.settings.shard_seconds,
    )
    return _answer(ctx, team, response, submitted)


def _answer(ctx: Ctx, team: TeamId, response: Response, submitted: Submitted) -> Campaign:
    shown = _show(ctx, team, submitted.campaign)
    response.headers["Location"] = f"/v1/campaigns/{shown.id}"
    if submitted.replayed:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    else:
        ctx.metrics.submitted.inc(submitted.campaign.renders)
    return shown


def _move(ctx: Ctx, team: TeamId, campaign: str, to: CampaignState) -> Campaign:
    return _show(ctx, team, move_campaign(ctx.store, team, CampaignId(read("cmp", campaign)), to))


def _show(ctx: Ctx, team: TeamId, row: CampaignRow) -> Campaign:
    with ctx.store.as_team(team) as tx:
        return views.campaign(row, tx.counts([row.id]).get(row.id, _NONE))
