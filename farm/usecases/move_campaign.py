"""Pause, resume or cancel a campaign."""

from farm.core.campaign import may_move
from farm.core.errors import Conflict
from farm.core.ids import CampaignId, TeamId
from farm.core.records import CampaignRow
from farm.ports import ApiStore
from schemas.campaign import CampaignState


def move_campaign(store: ApiStore, team: TeamId, campaign: CampaignId, to: CampaignState) -> CampaignRow:
    """What is there already stays there: asking twice is no error. Raises `NotFound`, `Conflict`."""
    with store.as_team(team) as tx:
        row = tx.campaign(campaign)
        if _is_there(row.state, to):
            return row
        frm = [state for state in CampaignState if may_move(state, to)]
        if tx.move(campaign, frm=frm, to=to):
            return tx.campaign(campaign)
        row = tx.campaign(campaign)  # it may have moved meanwhile
        if _is_there(row.state, to):
            return row
    raise Conflict(f"The campaign is {row.state}, so it cannot become {to}.", code="campaign_state")


def _is_there(state: CampaignState, to: CampaignState) -> bool:
    return state is to or (to is CampaignState.CANCELLING and state is CampaignState.CANCELLED)
