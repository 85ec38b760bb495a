"""The work of `ops.bench.peers`: renders that take no time, or sleep for a GPU that must load a LoRA first."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """``loras[n]`` is the LoRA of render *n*; renders of one LoRA stand together, the most wanted first."""

    loras: tuple[int, ...]
    seconds: float = 0.0  # of one render
    switch_seconds: float = 0.0  # of loading another LoRA
    workers: int = 0  # that have a GPU each; 0: as many as the arm likes

    @property
    def renders(self) -> int:
        return len(self.loras)

    def least_seconds(self) -> float:
        """No schedule ends before: all work and one load of each LoRA, and one of each worker, spread evenly."""
        loads = max(len(set(self.loras)), self.workers)
        return (self.renders * self.seconds + loads * self.switch_seconds) / self.workers


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of an arm. ``seconds``: from before the submission until the last outcome is kept.

    ``first_seconds``: until the first render began, of an arm that starts its workers anew for each run.
    """

    renders: int
    seconds: float
    submit_seconds: float
    switches: int = 0
    first_seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        return {
            "seconds": self.seconds,
            "submit_seconds": self.submit_seconds,
            "renders_per_second": self.renders / self.seconds,
            "switches": float(self.switches),
            "first_seconds": self.first_seconds,
        }


class Arm(Protocol):
    """A system under test, at one of its settings."""

    @property
    def system(self) -> str: ...

    @property
    def settings(self) -> str: ...

    def run(self, load: Load) -> Ran:
        """Raises when a render was not done, or done twice."""
        ...


@dataclass(slots=True)
class Gpu:
    """A GPU that does one render at a time, and remembers which."""

    seconds: float
    switch_seconds: float
    lora: int = -1
    switches: int = 0
    done: list[int] = field(default_factory=list)

    def cost(self, ordinal: int, lora: int) -> float:
        """Seconds that the next render takes; whoever asks sleeps so long."""
        self.done.append(ordinal)
        if lora == self.lora or not self.switch_seconds:
            return self.seconds
        self.lora = lora
        self.switches += 1
        return self.seconds + self.switch_seconds

    def answer(self) -> dict[str, object]:
        return {"done": self.done, "switches": self.switches}


def no_ops(renders: int) -> Load:
    return Load((0,) * renders)


def zipf(renders: int, *, loras: int, seconds: float, switch_seconds: float, workers: int) -> Load:
    """LoRA *k* is wanted as often as 1 / (k + 1) says; rounded, and never zero times."""
    weights = [1 / rank for rank in range(1, loras + 1)]
    counts = [max(1, round(renders * weight / sum(weights))) for weight in weights]
    counts[0] += renders - sum(counts)
    return Load(
        tuple(lora for lora, count in enumerate(counts) for _ in range(count)), seconds, switch_seconds, workers
    )


def shuffled(load: Load, seed: int = 5) -> list[tuple[int, int]]:
    """(ordinal, LoRA) as they come in when nobody sorts them."""
    found = list(enumerate(load.loras))
    random.Random(seed).shuffle(found)
    return found


def divided(load: Load) -> list[list[int]]:
    """LoRAs for each worker, so that the most loaded has as little as possible: the largest first, to the least."""
    counts = {lora: load.loras.count(lora) for lora in set(load.loras)}
    shares: list[list[int]] = [[] for _ in range(load.workers)]
    for lora in sorted(counts, key=lambda lora: (-counts[lora], lora)):
        min(shares, key=lambda share: sum(counts[own] for own in share)).append(lora)
    return shares


def check_once(load: Load, done: Sequence[int], system: str) -> None:
    """Every render was executed exactly once."""
    if sorted(done) != list(range(load.renders)):
        missing, twice = load.renders - len(set(done)), len(done) - len(set(done))
        raise RuntimeError(f"{system}: {missing} renders were not done, {twice} were done again.")


def check_kept(load: Load, kept: Sequence[int], system: str) -> None:
    """The database has as many different outcomes as there were renders, and no more."""
    if not len(set(kept)) == len(kept) == load.renders:
        raise RuntimeError(f"{system}: {len(kept)} outcomes are kept, {len(set(kept))} different, of {load.renders}.")
