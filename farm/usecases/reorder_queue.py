"""A team's queue, and moving a campaign in it by hand."""

from collections.abc import Sequence

from farm.core.errors import BadRequest, Conflict
from farm.core.ids import CampaignId, TeamId, read, show
from farm.core.queue_order import Back, Before, Front, Where, place
from farm.core.records import Amend, CampaignRow, QueuedCampaign
from farm.ports import ApiStore, TeamTx
from farm.usecases.amend_campaign import ended
from schemas.campaign import CampaignMove, CampaignState
from schemas.order import Lane


def reorder_queue(store: ApiStore, team: TeamId, campaign: CampaignId, move: CampaignMove) -> CampaignRow:
    """It takes over the priority of those among whom it then stands. What stands there already stays.

    Raises `NotFound`, `BadRequest`, `Conflict`.
    """
    where = _where(move)
    with store.as_team(team) as tx:
        row = tx.campaign(campaign)
        queue = tx.queue()
        mine = next((one for one in queue if one.id == campaign), None)
        if mine is None:
            raise ended(row)
        if isinstance(where, Before):
            _check_other(tx, queue, mine, where.other)
        placing = place(_line(queue, _lane(mine)), mine, where)
        if placing.priority is not None:
            tx.amend(campaign, Amend(priority=placing.priority))
        for one, position in placing.positions.items():
            tx.reposition(one, position)
        return tx.campaign(campaign)


def _where(move: CampaignMove) -> Where:
    match move:
        case CampaignMove(to="front", before=None):
            return Front()
        case CampaignMove(to="back", before=None):
            return Back()
        case CampaignMove(to=None, before=str() as other):
            return Before(CampaignId(read("cmp", other)))
        case _:
            raise BadRequest("Say either `to`, which is front or back, or `before`, not both.", code="bad_move")


def _check_other(tx: TeamTx, queue: list[QueuedCampaign], mine: QueuedCampaign, other: CampaignId) -> None:
    found = next((one for one in queue if one.id == other), None)
    if found is None:
        name = tx.campaign(other).name
        raise Conflict(f"{name} has ended, so nothing can go before it.", code="campaign_ended")
    if _lane(found) is not _lane(mine):
        first, second = (show("cmp", one.id) for one in sorted((mine, found), key=_lane, reverse=True))
        raise Conflict(f"{first} is interactive, and goes before {second} in any case.", code="other_lane")


def _line(queue: Sequence[QueuedCampaign], lane: Lane) -> list[QueuedCampaign]:
    """Those of one lane, in the order that they have when none of them is being proofed."""
    return sorted((one for one in queue if _lane(one) is lane), key=lambda one: (-one.priority, one.position, one.id))


def _lane(one: QueuedCampaign) -> Lane:
    """A proof goes ahead as if interactive; what is moved is the campaign, of which most comes later."""
    return Lane.BULK if one.state is CampaignState.PROOFING else one.lane
