"""/v1/campaigns"""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from farm.api import views
from farm.api.context import Ctx, IdempotencyKey, Team
from farm.api.examples import AMEND, CAMPAIGN, CHILD, MOVES, PROOFED
from farm.api.pages import After, Limit, page
from farm.core.ids import CampaignId, TeamId, read
from farm.core.records import CampaignCounts, CampaignRow, SpentRow
from farm.usecases.amend_campaign import amend_campaign
from farm.usecases.approve_campaign import approve_campaign
from farm.usecases.explain_campaign import explain_campaign
from farm.usecases.find_duplicates import MAX_DISTANCE, count_checks, find_duplicates
from farm.usecases.move_campaign import cancel_campaign, pause_campaign, resume_campaign
from farm.usecases.reorder_queue import reorder_queue
from farm.usecases.retry_failed import retry_failed
from farm.usecases.submit_campaign import Submitted, submit_campaign
from schemas.campaign import Campaign, CampaignAmend, CampaignDetail, CampaignMove, CampaignSpec
from schemas.findings import CheckCounts, Duplicates
from schemas.page import Page
from schemas.why import Why

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])

_NONE = CampaignCounts(running=0, succeeded=0, failed=0, cancelled=0, reused=0, queued=0)


@router.post("", status_code=201)
def submit(
    response: Response,
    ctx: Ctx,
    team: Team,
    key: IdempotencyKey,
    spec: Annotated[CampaignSpec, Body(examples=[CAMPAIGN, PROOFED, CHILD])],
) -> Campaign:
    """Submit a campaign. Everything that is wrong is answered at once, each fault with its JSON pointer.

    With `proof` a sample is rendered first, and the rest waits until it is approved. With `parent` it takes the place
    of another one, which is cancelled if its own proof has not been approved. With an `Idempotency-Key`, the same body
    gives the same campaign again (200, `Idempotent-Replayed: true`).
    """
    submitted = submit_campaign(ctx.store, ctx.clock, team, spec, ctx.terms, idempotency_key=key)
    return answer(ctx, team, response, submitted)


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
    return _detail(ctx, team, _id(campaign))


@router.patch("/{campaign}")
def amend(
    ctx: Ctx, team: Team, campaign: str, changes: Annotated[CampaignAmend, Body(examples=[AMEND])]
) -> CampaignDetail:
    """Change priority, deadline or budget of a campaign that has not ended. What is left out stays as it is; an empty
    `budget` takes the budget away. A campaign that its budget had paused goes on by itself when that was raised.
    """
    return _detail(ctx, team, amend_campaign(ctx.store, ctx.clock, team, _id(campaign), changes).id)


@router.post("/{campaign}/approve")
def approve(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """Its proof is good: the rest is rendered. Goes also before the last picture of the proof is there."""
    return _show(ctx, team, approve_campaign(ctx.store, team, _id(campaign)))


@router.post("/{campaign}/move")
def move(ctx: Ctx, team: Team, campaign: str, to: Annotated[CampaignMove, Body(examples=MOVES)]) -> Campaign:
    """Move it in its team's queue. It takes over the priority of the campaigns among whom it then stands."""
    return _show(ctx, team, reorder_queue(ctx.store, team, _id(campaign), to))


@router.get("/{campaign}/why")
def why(ctx: Ctx, team: Team, campaign: str) -> Why:
    """Why it waits, or what it is doing: one sentence, a stable code, and the figures behind it."""
    return explain_campaign(ctx.store, team, _id(campaign))


@router.post("/{campaign}/pause")
def pause(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """No further render starts; those that a renderer has already are finished."""
    return _show(ctx, team, pause_campaign(ctx.store, team, _id(campaign)))


@router.post("/{campaign}/resume")
def resume(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """Go on with a campaign that was paused by hand. One that a budget has paused goes on when that is raised."""
    return _show(ctx, team, resume_campaign(ctx.store, team, _id(campaign)))


@router.post("/{campaign}/cancel")
def cancel(ctx: Ctx, team: Team, campaign: str) -> Campaign:
    """For good. What was rendered stays."""
    return _show(ctx, team, cancel_campaign(ctx.store, team, _id(campaign)))


@router.post("/{campaign}/retry", status_code=201)
def retry(response: Response, ctx: Ctx, team: Team, key: IdempotencyKey, campaign: str) -> Campaign:
    """A child campaign with the same spec: it takes over what succeeded and renders what failed again."""
    submitted = retry_failed(ctx.store, ctx.clock, team, _id(campaign), ctx.terms, idempotency_key=key)
    return answer(ctx, team, response, submitted)


@router.get("/{campaign}/duplicates")
def duplicates(
    ctx: Ctx,
    team: Team,
    campaign: str,
    distance: Annotated[int, Query(ge=0, le=MAX_DISTANCE, description="Of 64 bits of their perceptual hash.")] = 6,
) -> Duplicates:
    """Finished renders that look alike: of one source, and near the first of their group."""
    return find_duplicates(ctx.store, team, _id(campaign), distance)


@router.get("/{campaign}/checks")
def checks(ctx: Ctx, team: Team, campaign: str) -> CheckCounts:
    """How many finished renders missed the checks of their styles, which ones, and how many were tried again."""
    return count_checks(ctx.store, team, _id(campaign))


def answer(ctx: Ctx, team: TeamId, response: Response, submitted: Submitted) -> Campaign:
    """Of every route that makes a campaign."""
    shown = _show(ctx, team, submitted.campaign)
    response.headers["Location"] = f"/v1/campaigns/{shown.id}"
    if submitted.replayed:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    else:
        ctx.metrics.submitted.inc(submitted.campaign.renders)
    return shown


def _id(campaign: str) -> CampaignId:
    return CampaignId(read("cmp", campaign))


def _show(ctx: Ctx, team: TeamId, row: CampaignRow) -> Campaign:
    with ctx.store.as_team(team) as tx:
        return views.campaign(row, tx.counts([row.id]).get(row.id, _NONE))


def _detail(ctx: Ctx, team: TeamId, campaign: CampaignId) -> CampaignDetail:
    with ctx.store.as_team(team) as tx:
        row, spec = tx.campaign(campaign), tx.spec(campaign)
        found, spent = tx.counts([campaign])[campaign], tx.spent([campaign]).get(campaign, SpentRow())
        warnings = tx.warnings(campaign) if row.warnings else {}
    return views.campaign_detail(row, found, spec, spent, warnings)
