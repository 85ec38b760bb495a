"""What work costs, as learned from renders: by weights and type of GPU, and how the types compare."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

from farm.core.ids import TeamId
from farm.core.records import CostRow, LoadCost

_DEFAULT_LOADS = {"checkpoint": 10.0, "lora": 1.0}
"""Seconds, before anything was loaded: an SDXL checkpoint from a warm disk, a LoRA of some 100 MB."""

_ROUNDS = 50
_CLOSE = 1e-4
"""The fit ends when it moves by less (a hundredth of a percent), and after so many rounds in any case."""

ANY = "*"
"""In the price table: every type of GPU that has no price of its own."""


class StepCost(NamedTuple):
    """GPU seconds of one UNet step. Nothing is known when not *measured*: then both figures are 0."""

    mean: float
    spread: float  # standard deviation between renders
    measured: bool


Gpus = Mapping[str, int] | Collection[str]
"""How many renderers of each type, or just the types."""

_UNKNOWN = StepCost(0.0, 0.0, measured=False)


def price_of(prices: Mapping[str, float], gpu: str) -> float:
    """Money an hour; 0 when the type has no price."""
    return prices.get(gpu, prices.get(ANY, 0.0))


def load_seconds(load_costs: Sequence[LoadCost], gpu: str, kind: str) -> float:
    """Seconds to load weights of a *kind* (checkpoint, lora): measured there, else on other types, else a default."""
    rows = [row for row in load_costs if row.kind == kind and row.loads > 0]
    rows = [row for row in rows if row.gpu == gpu] or rows
    loads = sum(row.loads for row in rows)
    return sum(row.seconds * row.loads for row in rows) / loads if rows else _DEFAULT_LOADS[kind]


@dataclass(frozen=True, slots=True)
class _Measured:
    key: object
    gpu: str
    log_seconds: float
    weight: float


def speeds(costs: Sequence[tuple[TeamId, CostRow]]) -> dict[str, float]:
    """How fast each type of GPU is against the farm's (geometric) mean: 2.0 takes half the time.

    Learned from weights that were measured on several types: the logarithm of a step's seconds is taken for the sum
    of what the weights cost and what the type is slower, fitted by turns. A type that shares no weights with another
    compares with nothing, and counts as the mean.
    """
    rows = [
        _Measured((team, row.engine_key), row.gpu, log(row.step_seconds), min(row.renders, 100))
        for team, row in costs
        if row.step_seconds > 0 and row.renders > 0
    ]
    types = _types_by_key(rows)
    shared = [row for row in rows if len(types[row.key]) > 1]
    slowness = _fit(shared)
    middle = sum(slowness.values()) / len(slowness) if slowness else 0.0
    return {gpu: exp(middle - slowness.get(gpu, middle)) for gpu in sorted({row.gpu for _, row in costs})}


def _types_by_key(rows: Sequence[_Measured]) -> dict[object, set[str]]:
    found: dict[object, set[str]] = {}
    for row in rows:
        found.setdefault(row.key, set()).add(row.gpu)
    return found


def _fit(rows: Sequence[_Measured]) -> dict[str, float]:
    """How much slower each type is than the others, as a logarithm: least squares, by alternating means."""
    slowness = dict.fromkeys([row.gpu for row in rows], 0.0)
    for _ in range(_ROUNDS):
        base = _means([(row.key, row.log_seconds - slowness[row.gpu], row.weight) for row in rows])
        fitted = _means([(row.gpu, row.log_seconds - base[row.key], row.weight) for row in rows])
        moved = max((abs(fitted[gpu] - old) for gpu, old in slowness.items()), default=0.0)
        slowness = {gpu: fitted[gpu] for gpu in slowness}
        if moved < _CLOSE:
            break
    return slowness


def _means(values: Sequence[tuple[object, float, float]]) -> dict[object, float]:
    """The weighted mean by key, of (key, value, weight)."""
    sums: dict[object, tuple[float, float]] = {}
    for key, value, weight in values:
        total, weights = sums.get(key, (0.0, 0.0))
        sums[key] = (total + value * weight, weights + weight)
    return {key: total / weights for key, (total, weights) in sums.items()}


class CostBook:
    """A team's measured costs, to be asked many times."""

    def __init__(self, costs: Sequence[CostRow]) -> None:
        self._rows = [row for row in costs if row.renders > 0]
        self._by_key: dict[str, dict[str, CostRow]] = {}
        self._speeds: dict[str, float] | None = None
        for row in self._rows:
            self._by_key.setdefault(row.engine_key, {})[row.gpu] = row

    def step(self, engine_key: str, gpus: Gpus) -> StepCost:
        """As `step_seconds`."""
        rows = self._by_key.get(engine_key)
        if rows is None:
            return _UNKNOWN
        counts = dict(gpus) if isinstance(gpus, Mapping) else dict.fromkeys(gpus, 1)
        counts = {gpu: count for gpu, count in counts.items() if count > 0} or dict.fromkeys(rows, 1)
        steps = {gpu: self._on(gpu, rows) for gpu in counts}
        rate = {gpu: counts[gpu] / max(mean, 1e-9) for gpu, (mean, _) in steps.items()}
        total = sum(rate.values())
        mean = sum(counts.values()) / total
        square = sum(rate[gpu] / total * (spread**2 + (own - mean) ** 2) for gpu, (own, spread) in steps.items())
        return StepCost(mean, sqrt(square), measured=True)

    def _on(self, gpu: str, rows: Mapping[str, CostRow]) -> tuple[float, float]:
        """Mean and spread on one type, reckoned from the others where it was not measured."""
        if (row := rows.get(gpu)) is not None:
            return row.step_seconds, row.spread
        if self._speeds is None:
            self._speeds = speeds([(TeamId(0), row) for row in self._rows])
        there = self._speeds.get(gpu, 1.0)
        slower = [(row, self._speeds[row.gpu] / there) for row in rows.values()]
        mean = sum(row.step_seconds * factor for row, factor in slower) / len(slower)
        return mean, max(row.spread * factor for row, factor in slower)

    def usual(self, gpus: Gpus) -> float | None:
        """The median step of all that was measured on these types, else on any; None when nothing was."""
        rows = [row for row in self._rows if row.gpu in gpus] or self._rows
        steps = sorted(row.step_seconds for row in rows)
        return steps[len(steps) // 2] if steps else None


def step_seconds(costs: Sequence[CostRow], engine_key: str, gpus: Gpus) -> StepCost:
    """A UNet step with these weights, on a farm with these renderers (how many of each type, or just the types).

    Each type does as much of the work as it is quicker, so the slow ones count for less. A type on which these
    weights were not measured is reckoned from those on which they were, by how the types compare elsewhere. Without
    types, those on which it was measured count alike.
    """
    return CostBook(costs).step(engine_key, gpus)
