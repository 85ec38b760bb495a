"""Change priority, deadline or budget of a campaign under way."""

from farm.core.campaign import ENDED
from farm.core.errors import Conflict
from farm.core.ids import CampaignId, TeamId
from farm.core.records import Amend, CampaignRow
from farm.ports import ApiStore, Clock
from farm.usecases.check_campaign import check_deadline, refusal
from farm.usecases.resolve import Faults
from schemas.campaign import CampaignAmend, CampaignState


def amend_campaign(
    store: ApiStore, clock: Clock, team: TeamId, campaign: CampaignId, changes: CampaignAmend
) -> CampaignRow:
    """What stands there already is no change. Raises `NotFound`, `BadRequest`, `Conflict` when it has ended."""
    now = clock.now()
    with store.as_team(team) as tx:
        row = tx.campaign(campaign)
        wanted = _news(row, changes)
        if wanted == Amend():
            return row
        if wanted.deadline is not None:
            faults = Faults()
            check_deadline(wanted.deadline, now, faults)
            if faults.count:
                raise refusal(f"{row.name} cannot be changed", faults)
        if row.state is CampaignState.CANCELLING or not tx.amend(campaign, wanted):
            raise ended(tx.campaign(campaign))
        return tx.campaign(campaign)


def ended(row: CampaignRow) -> Conflict:
    what = "has ended" if row.state in ENDED else "is being cancelled"
    return Conflict(f"The campaign {what}, so nothing in it can be changed.", code="campaign_ended")


def _news(row: CampaignRow, changes: CampaignAmend) -> Amend:
    return Amend(
        priority=None if changes.priority == row.priority else changes.priority,
        deadline=None if changes.deadline == row.deadline else changes.deadline,
        budget=None if changes.budget == row.budget else changes.budget,
    )
