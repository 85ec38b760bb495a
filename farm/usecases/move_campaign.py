"""Pause, resume or cancel a campaign. Asking twice is no error."""

from farm.core.campaign import may_move, resumed
from farm.core.errors import Conflict
from farm.core.ids import CampaignId, TeamId
from farm.core.records import CampaignRow
from farm.ports import ApiStore
from schemas.campaign import CampaignState, PausedBy

S = CampaignState

_ADVICE = {
    S.AWAITING_APPROVAL: "Its proof waits: approve it, or cancel it.",
    S.CANCELLING: "Submit it again if it is wanted after all: what was rendered is taken over.",
    S.CANCELLED: "Submit it again if it is wanted after all: what was rendered is taken over.",
    S.DONE: "Everything in it has an outcome.",
}


def pause_campaign(store: ApiStore, team: TeamId, campaign: CampaignId) -> CampaignRow:
    """One that a budget has paused no longer goes on by itself. Raises `NotFound`, `Conflict`."""
    with store.as_team(team) as tx:
        row = tx.campaign(campaign)
        if row.state is S.PAUSED and row.paused_by in (PausedBy.USER, None):
            return row
        frm = [state for state in S if may_move(state, S.PAUSED)] + [S.PAUSED]
        if tx.move(campaign, frm=frm, to=S.PAUSED, paused_by=PausedBy.USER):
            return tx.campaign(campaign)
        raise _refused(tx.campaign(campaign), "paused")


def resume_campaign(store: ApiStore, team: TeamId, campaign: CampaignId) -> CampaignRow:
    """Back to where it was: to its proof, if that is not through. Raises `NotFound`, `Conflict`."""
    with store.as_team(team) as tx:
        row = tx.campaign(campaign)
        if row.state in (S.ACTIVE, S.PROOFING):
            return row
        if row.state is S.PAUSED:
            _check_budget(row)
            if tx.move(campaign, frm=[S.PAUSED], to=resumed(tx.has_held(campaign))):
                return tx.campaign(campaign)
            row = tx.campaign(campaign)  # it has moved meanwhile
            if row.state in (S.ACTIVE, S.PROOFING):
                return row
        raise _refused(row, "resumed")


def cancel_campaign(store: ApiStore, team: TeamId, campaign: CampaignId) -> CampaignRow:
    """For good. Raises `NotFound`, `Conflict` when it is done."""
    with store.as_team(team) as tx:
        if not tx.move(campaign, frm=[state for state in S if may_move(state, S.CANCELLING)], to=S.CANCELLING):
            row = tx.campaign(campaign)
            if row.state not in (S.CANCELLING, S.CANCELLED):
                raise _refused(row, "cancelled")
        return tx.campaign(campaign)


def _check_budget(row: CampaignRow) -> None:
    """What a budget has paused goes on when that is raised: resumed by hand it would be paused again at once."""
    match row.paused_by:
        case PausedBy.BUDGET:
            raise Conflict(
                "Its budget is spent. Raise it, with `farm campaign set` for instance: it then goes on by itself.",
                code="budget_spent",
            )
        case PausedBy.TEAM_BUDGET:
            raise Conflict(
                "The team's budget of this month is spent. It goes on by itself when the next month begins (UTC), or "
                "when an operator raises the budget.",
                code="team_budget_spent",
            )
        case PausedBy.USER | None:
            return


def _refused(row: CampaignRow, verb: str) -> Conflict:
    advice = _ADVICE.get(row.state, "Ask again.")
    return Conflict(f"The campaign is {row.state}, so it cannot be {verb}. {advice}", code="campaign_state")
