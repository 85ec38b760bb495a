"""/v1/quotes"""

from typing import Annotated

from fastapi import APIRouter, Body

from farm.api.context import Ctx, Team
from farm.api.examples import CAMPAIGN, PROOFED
from farm.usecases.quote_campaign import quote_campaign
from schemas.campaign import CampaignSpec
from schemas.quote import Quote

router = APIRouter(prefix="/v1/quotes", tags=["campaigns"])


@router.post("")
def quote(ctx: Ctx, team: Team, spec: Annotated[CampaignSpec, Body(examples=[CAMPAIGN, PROOFED])]) -> Quote:
    """What a campaign would cost and when it would be done, each with a range. Nothing is submitted.

    What would be refused when it is submitted is refused here, with the same faults.
    """
    return quote_campaign(ctx.store, ctx.clock, team, spec, ctx.terms)
