"""What a campaign costs and when it is done, before and after its weights were measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, sqrt

from farm.core.costs import ANY, CostBook, Gpus, StepCost, load_seconds
from farm.core.fingerprint import engine_digest
from farm.core.finish import Crowd, TeamAhead, wait_for
from farm.core.records import CostRow, LoadCost
from farm.core.words import duration
from schemas.campaign import Budget
from schemas.quote import Quote, Range
from schemas.recipe import EngineKey, Recipe
from schemas.style import dimensions

__all__ = ["TeamAhead", "expected_seconds", "guess_seconds", "quote", "seconds_by"]

_SECONDS_PER_STEP_AND_MEGAPIXEL = 0.02
"""Before anything was measured: an H100 needs about this for SDXL with guidance (research: 2 x 6.8 TFLOP a step)."""

_SECONDS_BESIDE_STEPS = 0.05

_NINETY = 1.645
"""Nine in ten of a normal distribution lie within so many standard deviations."""

_DRIFT = 0.05
"""Of a measured cost, at least: how full the passes are, and what else the machine does, changes from day to day."""

_LIKE, _TYPICAL, _BLIND = 1.5, 3.0, 4.0
"""By what factor a guess may be wrong: scaled by other weights of the campaign, taken from other work of the farm, or
out of the blue."""

_SHARD_SECONDS = 30.0
"""About what a shard takes: a campaign does not spread over more renderers than it has shards."""


def guess_seconds(recipe: Recipe) -> float:
    """GPU seconds of a render of which nothing is known yet."""
    width, height = dimensions(recipe.size)
    return _SECONDS_BESIDE_STEPS + recipe.unet_steps * _SECONDS_PER_STEP_AND_MEGAPIXEL * width * height / 1e6


def expected_seconds(recipe: Recipe, step_seconds: float | None) -> float:
    """GPU seconds of a render, from the measured seconds per UNet step of its engine key where there are any."""
    return guess_seconds(recipe) if step_seconds is None else max(recipe.unet_steps, 1) * step_seconds


def seconds_by(costs: Sequence[CostRow], gpus: Gpus) -> Callable[[Recipe], float]:
    """GPU seconds of a render on a farm of these *gpus*, for cutting shards.

    Weights that were never measured are taken to cost what others do here: new LoRAs on the same farm are far more
    common than a first render on an H100.
    """
    book = CostBook(costs)
    usual = book.usual(gpus)

    def seconds(recipe: Recipe) -> float:
        step = book.step(engine_digest(recipe.engine_key), gpus)
        return expected_seconds(recipe, step.mean if step.measured else usual)

    return seconds


def quote(
    *,
    recipes: Sequence[tuple[Recipe, int]],
    reused: int,
    costs: Sequence[CostRow],
    load_costs: Sequence[LoadCost],
    prices: Mapping[str, float],
    gpus: Mapping[str, int],
    most: int,
    team: TeamAhead,
    others: Sequence[tuple[float, float]],
    deadline: datetime | None,
    budget: Budget | None,
    currency: str,
    now: datetime,
    cold: bool = False,
) -> Quote:
    """*recipes*: one that stands for others, and for how many renders; *reused* of all these cost nothing.

    *gpus*: renderers by type (``*``: not known), those that run, or when none does (*cold*) those that there may be;
    *most*: as many as there can be in all. *others*: weight and GPU seconds of the other teams that have work. Ranges
    hold nine times in ten where costs were measured. Where no renderer may run there is no finish time.
    """
    here = {gpu: count for gpu, count in gpus.items() if count > 0}
    job = _Job.of(recipes, reused)
    total, shares = _mixed(job, here or {ANY: 1}, CostBook(costs))
    running = sum(here.values())
    gpu_seconds = total.range(_loading(job, load_costs, shares, min(running, ceil(total.seconds / _SHARD_SECONDS))))
    money = _scaled(gpu_seconds, _price_of_second(prices, total.by_gpu))
    crowd = Crowd(running, max(most, running), team, others, cold)
    wait = wait_for(gpu_seconds, crowd, least=_SHARD_SECONDS) if running else None
    return Quote(
        renders=job.renders,
        reused=reused,
        gpu_seconds=_rounded(gpu_seconds),
        money=None if money is None else _rounded(money),
        currency=currency,
        wait_seconds=_rounded(wait or Range(low=0.0, expected=0.0, high=0.0)),
        finish_at=None if wait is None else _moments(wait, now),
        measured=round(total.measured / total.seconds, 4) if total.seconds else 1.0,
        gpus={gpu: round(share, 4) for gpu, share in shares.items()} if here else {},
        notes=(
            *_time_notes(wait, deadline, now),
            *_budget_notes(gpu_seconds, money, budget, currency),
            *_guess_notes(total, job),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """Kinds of render, each with its engine key's digest and how many are to be made."""

    lines: Sequence[tuple[Recipe, str, float]]
    keys: Sequence[EngineKey]  # different ones
    renders: int
    left: float  # of them: not rendered before

    @classmethod
    def of(cls, recipes: Sequence[tuple[Recipe, int]], reused: int) -> "_Job":
        renders = sum(count for _, count in recipes)
        left = max(0, renders - reused)
        part = left / renders if renders else 0.0
        keys = {engine_digest(recipe.engine_key): recipe.engine_key for recipe, _ in recipes}
        lines = [(recipe, engine_digest(recipe.engine_key), count * part) for recipe, count in recipes]
        return cls(lines, list(keys.values()), renders, left)


@dataclass(frozen=True, slots=True)
class _Work:
    """GPU seconds without loading, and how sure they are."""

    seconds: float
    measured: float  # of them: by measured costs
    variance: float  # of the measured ones
    low: float  # of the guessed ones
    high: float
    by_gpu: Mapping[str, float]

    def range(self, loading: Range) -> Range:
        off = _NINETY * sqrt(self.variance)
        return Range(
            low=max(0.0, self.measured - off) + self.low + loading.low,
            expected=self.seconds + loading.expected,
            high=self.measured + off + self.high + loading.high,
        )


def _on(job: _Job, gpu: str, book: CostBook) -> _Work:
    """All of it on one type of GPU."""
    types = {} if gpu in ("", ANY) else {gpu: 1}
    lines = [(recipe, count, book.step(key, types)) for recipe, key, count in job.lines]
    known = [(max(recipe.unet_steps, 1), count, step) for recipe, count, step in lines if step.measured]
    measured = sum(steps * count * step.mean for steps, count, step in known)
    variance = sum(count * (steps * step.spread) ** 2 for steps, count, step in known) + (_DRIFT * measured) ** 2
    seconds, factor = _guessed(lines, measured, book.usual(types))
    return _Work(measured + seconds, measured, variance, seconds / factor, seconds * factor, {gpu: measured + seconds})


def _guessed(
    lines: Sequence[tuple[Recipe, float, StepCost]], measured: float, usual: float | None
) -> tuple[float, float]:
    """GPU seconds of what was not measured, and by what factor they may be wrong."""
    unknown = [(recipe, count) for recipe, count, step in lines if not step.measured]
    same = sum(guess_seconds(recipe) * count for recipe, count, step in lines if step.measured)
    if measured > 0 and same > 0:
        return sum(guess_seconds(recipe) * count for recipe, count in unknown) * measured / same, _LIKE
    factor = _BLIND if usual is None else _TYPICAL
    return sum(expected_seconds(recipe, usual) * count for recipe, count in unknown), factor


def _mixed(job: _Job, here: Mapping[str, int], book: CostBook) -> tuple[_Work, dict[str, float]]:
    """The work as the types share it: each does as much as it is quicker and there are more of it."""
    work = {gpu: _on(job, gpu, book) for gpu in here}
    rate = {gpu: count / max(work[gpu].seconds, 1e-9) for gpu, count in here.items()}
    shares = {gpu: one / sum(rate.values()) for gpu, one in rate.items()}
    parts = [(share, work[gpu]) for gpu, share in shares.items()]
    mixed = _Work(
        seconds=sum(share * one.seconds for share, one in parts),
        measured=sum(share * one.measured for share, one in parts),
        variance=sum(share * one.variance for share, one in parts),
        low=sum(share * one.low for share, one in parts),
        high=sum(share * one.high for share, one in parts),
        by_gpu={gpu: share * work[gpu].seconds for gpu, share in shares.items()},
    )
    return mixed, shares


def _loading(job: _Job, costs: Sequence[LoadCost], shares: Mapping[str, float], renderers: int) -> Range:
    """GPU seconds for loading weights. Renderers that stay warm change them about as often as there are kinds of
    weights and renderers: the queue of all work, cut once for each."""
    if not job.left:
        return Range(low=0.0, expected=0.0, high=0.0)
    checkpoint, lora = (
        sum(share * load_seconds(costs, gpu, kind) for gpu, share in shares.items()) for kind in ("checkpoint", "lora")
    )
    cuts = max(0, renderers - 1)
    loras = sum(len(key.loras) for key in job.keys) / len(job.keys)
    checkpoints = len({key.checkpoint for key in job.keys})
    expected = (checkpoints + cuts) * checkpoint + (len(job.keys) + cuts) * loras * lora
    return Range(low=0.0, expected=expected, high=2 * expected)


def _price_of_second(prices: Mapping[str, float], by_gpu: Mapping[str, float]) -> float:
    """Money a GPU second, over the types that share the work. Of a type that is not known, the mean of all prices."""
    mean = sum(prices.values()) / len(prices) if prices else 0.0
    default = prices.get(ANY, 0.0)
    hourly = {gpu: prices.get(gpu, default) or (mean if gpu in ("", ANY) else 0.0) for gpu in by_gpu}
    weights = {gpu: max(seconds, 1e-9) for gpu, seconds in by_gpu.items()}
    return sum(hourly[gpu] * weight for gpu, weight in weights.items()) / sum(weights.values()) / 3600


def _scaled(seconds: Range, factor: float) -> Range | None:
    if factor <= 0:
        return None
    return Range(low=seconds.low * factor, expected=seconds.expected * factor, high=seconds.high * factor)


def _rounded(found: Range) -> Range:
    return Range(low=round(found.low, 4), expected=round(found.expected, 4), high=round(found.high, 4))


def _moments(wait: Range, now: datetime) -> tuple[str, str, str]:
    longest = timedelta(days=36_500).total_seconds()
    low, expected, high = (
        (now + timedelta(seconds=min(seconds, longest))).isoformat(timespec="seconds")
        for seconds in (wait.low, wait.expected, wait.high)
    )
    return low, expected, high


def _time_notes(wait: Range | None, deadline: datetime | None, now: datetime) -> Iterator[str]:
    if wait is None:
        yield "There is no renderer that may render it, so it would wait."
    elif deadline is not None:
        left = (deadline - now).total_seconds()
        if wait.expected > left:
            yield (
                f"The deadline would be missed by about {duration(wait.expected - left)}. "
                "Fewer renders, a higher priority or more renderers would help."
            )
        elif wait.high > left:
            yield f"The deadline may be missed: it could be {duration(wait.high - left)} late."


def _budget_notes(seconds: Range, money: Range | None, budget: Budget | None, currency: str) -> Iterator[str]:
    if budget is not None and budget.money is not None and money is not None:
        limit = f"{budget.money:,.2f} {currency}"
        if money.expected > budget.money:
            yield f"The budget of {limit} is too small: about {money.expected:,.2f} {currency} are needed."
        elif money.high > budget.money:
            yield f"The budget of {limit} may be too small: up to {money.high:,.2f} {currency} could be needed."
    if budget is not None and budget.gpu_seconds is not None:
        limit = f"{duration(budget.gpu_seconds)} of GPU time"
        if seconds.expected > budget.gpu_seconds:
            yield f"The budget of {limit} is too small: about {duration(seconds.expected)} are needed."
        elif seconds.high > budget.gpu_seconds:
            yield f"The budget of {limit} may be too small: up to {duration(seconds.high)} could be needed."


def _guess_notes(total: _Work, job: _Job) -> Iterator[str]:
    if job.left and total.measured < total.seconds * 0.999:
        share = 1 - total.measured / total.seconds
        yield f"{share:.0%} of the work is with weights that were never rendered with here: its cost is a guess."
