"""Why a campaign waits."""

from enum import StrEnum

from schemas.base import Wire


class WhyCode(StrEnum):
    """The first reason that holds, in this order."""

    ENDED = "ended"
    CANCELLING = "cancelling"
    AWAITING_APPROVAL = "awaiting_approval"
    PAUSED = "paused"
    BUDGET = "budget"
    TEAM_BUDGET = "team_budget"
    NO_SCHEDULER = "no_scheduler"
    DEPOT_DOWN = "depot_down"
    MISSING_WEIGHTS = "missing_weights"
    NO_SUCH_GPU = "no_such_gpu"
    OFF_PEAK = "off_peak"
    RENDERING = "rendering"
    BACKING_OFF = "backing_off"
    NO_RENDERER = "no_renderer"  # none runs yet, or all are quarantined or draining
    QUOTA = "quota"
    QUEUED = "queued"


class Why(Wire):
    """One sentence for people, the code and the figures behind it for programs."""

    campaign: str
    code: WhyCode
    sentence: str
    facts: dict[str, int | float | str | None] = {}
