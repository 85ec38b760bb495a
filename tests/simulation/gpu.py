"""What work costs and how it ends: a model of GPUs, of what is under way in them, of renders that none can do."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from actors.ledger import RowRef
from schemas.order import OrderRow
from schemas.report import Collected, Failure, FailureKind, Seconds


class Fate(Enum):
    """What a render does to a sound renderer, whichever it is."""

    GOOD = "good"
    FLAKY = "flaky"  # its first try runs out of memory
    BAD = "bad"  # the engine fails, every time
    BLANK = "blank"  # not worth a second try
    DEADLY = "deadly"  # takes the process down


@dataclass(frozen=True, slots=True)
class Physics:
    """Seconds, on a GPU of speed 1."""

    step: float = 0.005
    spread: float = 0.3  # sigma of a lognormal factor for each row
    checkpoint: float = 4.0
    lora: float = 0.8
    upload: float = 0.15
    fetch: float = 0.4
    batch: int = 8
    flaky: float = 0.02
    bad: float = 0.005
    blank: float = 0.002
    deadly: float = 0.0


@dataclass(slots=True)
class Poll:
    """A `collect` that waits for something to report."""

    epoch: int
    after: int
    deadline: float
    reply: Callable[[Collected], None]


@dataclass(slots=True)
class Pass:
    """Rows in the GPU."""

    number: int
    rows: list[tuple[RowRef, OrderRow, Seconds]]


BROKEN_GPU = Failure(kind=FailureKind.ENGINE, code="engine_failed", detail="CUDA error: an illegal memory access.")
BAD_RENDER = Failure(kind=FailureKind.ENGINE, code="engine_failed", detail="The engine raised an error.")
BLANK_PICTURE = Failure(kind=FailureKind.BAD_PICTURE, code="empty_picture", detail="The picture is blank.")
NO_VRAM = Failure(kind=FailureKind.OUT_OF_VRAM, code="out_of_vram", detail="CUDA out of memory.")
NO_DEPOT = Failure(kind=FailureKind.DEPOT, code="depot_unreachable", detail="The store did not take the picture.")


def fate_of(fingerprint: str, physics: Physics) -> Fate:
    """By the fingerprint alone, so that the same render meets the same fate everywhere."""
    draw = int(fingerprint[:8], 16) / 0xFFFFFFFF
    for fate, share in (
        (Fate.DEADLY, physics.deadly),
        (Fate.BAD, physics.bad),
        (Fate.BLANK, physics.blank),
        (Fate.FLAKY, physics.flaky),
    ):
        if draw < share:
            return fate
        draw -= share
    return Fate.GOOD


def failure_of(fate: Fate, *, first: bool) -> Failure | None:
    match fate:
        case Fate.BAD:
            return BAD_RENDER
        case Fate.BLANK:
            return BLANK_PICTURE
        case Fate.FLAKY if first:
            return NO_VRAM
        case _:
            return None


def row_seconds(row: OrderRow, physics: Physics, speed: float, rng: random.Random) -> Seconds:
    factor = rng.lognormvariate(0.0, physics.spread) / speed
    steps = max(1, row.recipe.unet_steps)
    return Seconds(encode=0.01 * factor, denoise=steps * physics.step * factor, decode=0.02 * factor)
