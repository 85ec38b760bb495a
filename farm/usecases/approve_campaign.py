"""Approve a proof: the rest of the campaign may be rendered."""

from farm.core.errors import Conflict
from farm.core.ids import CampaignId, TeamId
from farm.core.records import CampaignRow
from farm.ports import ApiStore, TeamTx
from schemas.campaign import CampaignState

S = CampaignState


def approve_campaign(store: ApiStore, team: TeamId, campaign: CampaignId) -> CampaignRow:
    """One that was approved stays so: asking twice is no error. Raises `NotFound`, `Conflict`.

    Who has seen enough need not wait for the last picture of the proof.
    """
    with store.as_team(team) as tx:
        if tx.spec(campaign).proof is None:
            raise Conflict("This campaign has no proof: it is rendered without approval.", code="no_proof")
        if tx.move(campaign, frm=[S.PROOFING, S.AWAITING_APPROVAL], to=S.ACTIVE):
            return tx.campaign(campaign)
        return _approved_before(tx, tx.campaign(campaign))


def _approved_before(tx: TeamTx, row: CampaignRow) -> CampaignRow:
    match row.state:
        case S.ACTIVE | S.DONE:
            return row
        case S.PAUSED:
            if not tx.has_held(row.id):
                return row
            raise Conflict("The campaign is paused. Resume it first, then approve its proof.", code="campaign_state")
        case _:
            detail = f"The campaign is {row.state}, so nothing of it can be approved any more."
            raise Conflict(detail, code="campaign_state")
