"""What a campaign will cost, before it is submitted."""

from typing import Annotated

from pydantic import Field

from schemas.base import Wire

Money = Annotated[float, Field(ge=0)]
"""In the farm's currency."""


class Range(Wire):
    """Nine times in ten the truth lies between ``low`` and ``high``, once costs were measured."""

    low: float
    expected: float
    high: float


class Quote(Wire):
    """Renders, GPU seconds, money and time of a campaign.

    ``measured`` is the share of its GPU seconds that rests on measured costs; the rest is a guess, with a wide range.
    """

    renders: int
    reused: int  # of them: rendered before, so they cost nothing; a lower bound for very large campaigns
    gpu_seconds: Range
    money: Range | None  # None: no GPU of the farm has a price
    currency: str
    wait_seconds: Range  # until the last picture is there, if it were submitted now
    finish_at: tuple[str, str, str] | None  # the same as moments: low, expected, high; None: no renderer may run
    measured: float
    gpus: dict[str, float]  # share of the work by type of GPU
    notes: tuple[str, ...] = ()  # what would break the quote: a deadline that cannot be met, a budget that is too small
