"""/v1/team and /v1/queue: what the team may use, has used, and has waiting."""

from fastapi import APIRouter

from farm.api import views
from farm.api.context import Ctx, Team
from farm.api.pages import After, Limit, page
from farm.core.ids import CampaignId, read
from farm.core.records import CampaignCounts
from schemas.campaign import Campaign
from schemas.page import Page
from schemas.team import Team as TeamView

router = APIRouter(prefix="/v1", tags=["team"])


@router.get("/team")
def team(ctx: Ctx, team: Team) -> TeamView:
    """The team of this key: its share, its limits, and what it has spent this month (UTC)."""
    with ctx.store.as_team(team) as tx:
        return views.team(tx.team(), tx.team_spent())


@router.get("/queue")
def queue(ctx: Ctx, team: Team, limit: Limit = 50, after: After = None) -> Page[Campaign]:
    """Campaigns that have not ended, in the order in which they are rendered: interactive ones and proofs, then by
    priority, then by age or as they were moved. One whose deadline is at risk goes before others all the same.
    """
    with ctx.store.as_team(team) as tx:
        ids = [one.id for one in tx.queue()]
        ids = ids[_begin(ids, after) :][: limit + 1]
        rows, found = [tx.campaign(one) for one in ids], tx.counts(ids)
    none = CampaignCounts(running=0, succeeded=0, failed=0, cancelled=0, reused=0, queued=0)
    return page(rows, limit, lambda row: views.campaign(row, found.get(row.id, none)), lambda shown: shown.id)


def _begin(ids: list[CampaignId], after: str | None) -> int:
    """Behind the last of the page before; one that has ended meanwhile is not found, and the queue begins anew."""
    if after is None:
        return 0
    last = CampaignId(read("cmp", after))
    return ids.index(last) + 1 if last in ids else 0
