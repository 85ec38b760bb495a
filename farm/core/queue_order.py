"""Moving a campaign in its team's queue.

The queue is in order of lane, priority, position. A position alone cannot go past a higher priority, so a campaign that
is moved takes over the priority of those among whom it then stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.core.ids import CampaignId
from farm.core.records import QueuedCampaign

FRONT_STEP = 3600.0
"""Positions are seconds, and a renderer that is warm may stay with a campaign that stands a little behind another. Who
is put in front by hand is meant to go first all the same."""


@dataclass(frozen=True, slots=True)
class Front:
    """Before all others of its lane."""


@dataclass(frozen=True, slots=True)
class Back:
    """Behind all others of its lane."""


@dataclass(frozen=True, slots=True)
class Before:
    """Just before another one."""

    other: CampaignId


Where = Front | Back | Before


@dataclass(frozen=True, slots=True)
class Placing:
    """What has to change: the campaign's priority, and positions (of its neighbours too, if they stood too close)."""

    priority: int | None = None
    positions: Mapping[CampaignId, float] = field(default_factory=dict)


def place(queue: Sequence[QueuedCampaign], campaign: QueuedCampaign, where: Where) -> Placing:
    """*queue* in order, all of one lane. Nothing changes for a campaign that stands there already."""
    others = [one for one in queue if one.id != campaign.id]
    index = _index(others, where)
    if index is None or not others or [one.id for one in queue].index(campaign.id) == index:
        return Placing()
    if index == len(others):
        return _with_priority(campaign, others[-1], {campaign.id: others[-1].position + 1})
    after = others[index]
    earlier = [one for one in others[:index] if one.priority == after.priority]
    return _with_priority(campaign, after, _squeezed(campaign, earlier, after))


def _index(others: Sequence[QueuedCampaign], where: Where) -> int | None:
    """Before which of the others it goes; None: it would be before itself."""
    match where:
        case Front():
            return 0
        case Back():
            return len(others)
        case Before(other):
            return next((index for index, one in enumerate(others) if one.id == other), None)


def _with_priority(campaign: QueuedCampaign, beside: QueuedCampaign, positions: Mapping[CampaignId, float]) -> Placing:
    return Placing(beside.priority if beside.priority != campaign.priority else None, positions)


def _squeezed(
    campaign: QueuedCampaign, earlier: Sequence[QueuedCampaign], after: QueuedCampaign
) -> dict[CampaignId, float]:
    if not earlier:
        return {campaign.id: after.position - FRONT_STEP}
    before = earlier[-1].position
    middle = before + (after.position - before) / 2
    if before < middle < after.position:
        return {campaign.id: middle}
    # No number lies between the two: all that stand before make room.
    shifted = {one.id: one.position - 2 for one in earlier}
    return {**shifted, campaign.id: after.position - 1}
