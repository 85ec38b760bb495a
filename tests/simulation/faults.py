"""What goes wrong, how often, and until when."""

import random
from dataclasses import dataclass, field
from enum import StrEnum


class Disaster(StrEnum):
    """What happens to a part now and then; the small change of lost messages is in `Faults`."""

    SCHEDULER_KILLED = "scheduler killed"
    SCHEDULER_FROZEN = "scheduler frozen"  # as by SIGSTOP, or a long pause of the machine
    SCHEDULER_REPLACED = "scheduler replaced"  # politely: it resigns
    RENDERER_KILLED = "renderer killed"
    RENDERER_FROZEN = "renderer frozen"
    NODE_LOST = "node lost"
    NODE_DRAINED = "node drained"
    GPU_BROKEN = "gpu broken"  # every render on it fails
    STORE_DOWN = "store down"
    DEPOT_DOWN = "depot down"
    CLUSTER_DOWN = "cluster down"
    CLOCK_JUMPS = "clock jumps"


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities for each operation, and mean seconds between disasters. *until*: then all is calm."""

    until: float = 0.0
    call_lost: float = 0.0
    call_twice: float = 0.0
    call_late: float = 0.0
    call_unknown: float = 0.0  # it ran, and the caller is told that it failed
    commit_lost: float = 0.0  # rolled back, and said so
    commit_unknown: float = 0.0  # committed, and the caller is told that it failed
    stall: float = 0.0  # a process stands still between two transactions
    crash: float = 0.0  # a process dies between two transactions
    put_lost: float = 0.0
    put_unknown: float = 0.0
    every: float = 30.0
    disasters: tuple[Disaster, ...] = field(default=tuple(Disaster))


NONE = Faults(disasters=())


def draw(rng: random.Random, until: float) -> Faults:
    """Each kind is left out in some runs, so that none hides behind another; one run in seven has none at all."""
    if rng.random() < 0.15:
        return NONE
    small = {
        name: rng.choice((0.0, most / 4, most))
        for name, most in (
            ("call_lost", 0.05),
            ("call_twice", 0.05),
            ("call_late", 0.10),
            ("call_unknown", 0.05),
            ("commit_lost", 0.04),
            ("commit_unknown", 0.04),
            ("stall", 0.02),
            ("crash", 0.005),
            ("put_lost", 0.05),
            ("put_unknown", 0.05),
        )
    }
    disasters = tuple(kind for kind in Disaster if rng.random() < 0.6)
    return Faults(until=until, every=rng.choice((10.0, 20.0, 40.0)), disasters=disasters, **small)
