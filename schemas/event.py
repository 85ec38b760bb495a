"""What happened, in the order in which it was committed."""

from enum import StrEnum
from typing import Any

from schemas.base import Wire


class EventKind(StrEnum):
    CAMPAIGN_SUBMITTED = "campaign.submitted"
    CAMPAIGN_STATE = "campaign.state"
    CAMPAIGN_WARNING = "campaign.warning"  # data: code, detail, and the figures behind it
    CAMPAIGN_CHANGED = "campaign.changed"  # its priority, deadline, budget or place in the queue
    RENDERS_SETTLED = "renders.settled"


class Event(Wire):
    """One event of a team. ``id`` grows in commit order: who has seen 17 has missed nothing below it."""

    id: int
    kind: EventKind
    campaign: str
    data: dict[str, Any]
    at: str
