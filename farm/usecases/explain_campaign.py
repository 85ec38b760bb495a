"""Why a campaign waits, in one sentence."""

from farm.core.explain import explain
from farm.core.ids import CampaignId, TeamId
from farm.ports import ApiStore, TeamTx
from schemas.campaign import ResolvedCampaign
from schemas.why import Why


def explain_campaign(store: ApiStore, team: TeamId, campaign: CampaignId) -> Why:
    """Raises `NotFound`."""
    with store.as_team(team) as tx:
        return explain(tx.why_facts(campaign, _weights(tx, tx.resolved(campaign))))


def _weights(tx: TeamTx, campaign: ResolvedCampaign) -> dict[str, str]:
    """Digest to name. A checkpoint that is gone has no name any more: its digest has to do."""
    names = {row.digest: row.name for row in tx.checkpoints()}
    styles = [style for block in campaign.blocks for style in block.styles]
    checkpoints = {style.checkpoint: names.get(style.checkpoint, style.checkpoint[:12]) for style in styles}
    return checkpoints | {lora.digest: lora.name for style in styles for lora in style.loras}
