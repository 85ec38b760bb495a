"""The comparison that `ops.bench.gpu` and `ops.bench.cpu` share: arms in turn, round by round, on the same work."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

import torch

from actors.settings import RendererSettings
from ops.bench._engine_measure import blank, flops_of, gemm_peak, idle_share, psnr, synchronise, timed
from ops.bench._engine_ours import OURS, Ours, features, same_bits, settings_for
from ops.bench._engine_peers import Arm, Pictures, Stock, Swap, Tuned, Tuning
from ops.bench._engine_work import STYLES, Files, Work, work_of

COMPARED: Final = 3
"""Pictures whose pixels are held against those of the stock loop in fp32."""

TUNED_ON_CPU: Final = Tuning(Swap.FUSE, 4, channels_last=False)
"""The best of what `ops.bench.cpu --tune` tries."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``box``: how long an arm may take pictures one by one in a turn. ``limit_seconds``: of everything; features
    that would go beyond it are left out, and named."""

    device: str
    dtype: torch.dtype
    size: str
    steps: int
    sources: int
    feature_sources: int
    rounds: int
    feature_rounds: int
    box: float
    limit_seconds: float
    peak_seconds: float = 1.0
    batch: int = 4
    tuning: Tuning = TUNED_ON_CPU
    compiled: bool = False
    main: bool = True
    features: bool = True
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.limit_seconds - (time.monotonic() - self.began)

    def work(self, name: str, sources: int) -> Work:
        return work_of(name, sources=sources, size=self.size, steps=self.steps)


@dataclass(slots=True)
class Seen:
    """Of one arm: renders a second in each round; memory that it holds, and the most that it needed."""

    rates: list[float] = field(default_factory=list)
    held_bytes: int = 0
    peak_bytes: int = 0
    pictures: Pictures = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return median(self.rates)


Say = Callable[[str], None]


def compare(plan: Plan, files: Files, cache: Path, say: Say) -> dict[str, object]:
    figures = _described(plan)
    figures["peak_flops"] = peaks(plan, say)
    ours = Ours(OURS, files, _settings(plan, cache))
    if plan.main:
        figures |= _main(plan, files, ours, figures, say)
    if plan.features:
        figures["features"], figures["left_out"] = _features(plan, files, cache, ours, say)
    return figures


def peaks(plan: Plan, say: Say) -> dict[str, float]:
    say("The peak of matrix products")
    dtypes = (torch.bfloat16,) if plan.device == "cuda" else (torch.float32, torch.bfloat16)
    return {
        str(each).removeprefix("torch."): gemm_peak(plan.device, each, seconds=plan.peak_seconds) for each in dtypes
    }


def _described(plan: Plan) -> dict[str, object]:
    return {
        "size": plan.size,
        "steps": plan.steps,
        "batch": plan.batch,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "tuned": str(plan.tuning),
        "compiled": plan.compiled,
        "rounds": plan.rounds,
        "renders_each": plan.sources * 4,
    }


def _settings(plan: Plan, cache: Path) -> RendererSettings:
    return settings_for(cache, device=plan.device, batch=plan.batch, compiled=plan.compiled)


# the three


def _main(plan: Plan, files: Files, ours: Ours, described: Mapping[str, object], say: Say) -> dict[str, object]:
    device, dtype = plan.device, plan.dtype
    makers: list[Callable[[], Arm]] = [
        lambda: Stock(files, device=device, dtype=dtype),
        lambda: Tuned(files, plan.tuning, device=device, dtype=dtype),
        lambda: ours,
    ]
    ready = [ready_arm(plan, make, say) for make in makers]
    arms = [each.arm for each in ready]
    before = ours.engine.counts
    seen = in_turn(plan, ready, rounds=plan.rounds, sources=plan.sources, say=say)
    stock, tuned, own = (seen[arm.name] for arm in arms)
    fill, cache = ours.fill, _grown(before.model_dump(), ours.engine.counts.model_dump())
    say("Switches of the LoRA, idleness, bits, pixels")
    work = plan.work("turn 0", plan.sources)
    switch = {arm.name: _switch_ms(plan, arm) for arm in arms}
    found: dict[str, object] = {
        "arms": {name: _figures(plan, files, each, described) for name, each in seen.items()},
        "warm_up_seconds": {each.arm.name: round(each.seconds, 2) for each in ready},
        "to_stock": spread(own.rates, stock.rates),
        "to_tuned": spread(own.rates, tuned.rates),
        "switch_ms": switch,
        "fill": round(fill, 4),
        "cache": cache,
        "idle_share": round(idle_share(device, lambda: ours.turn(_two_shards(plan), box=0)), 4),
        "same_bits": same_bits(ours, work),
    }
    return found | {"psnr_to_stock_fp32": _likeness(plan, files, work, seen)}


def _two_shards(plan: Plan) -> Work:
    """With a switch of the LoRA between them; a whole turn has more kernels than a profile can hold."""
    work = plan.work("two shards", plan.sources)
    return replace(work, tasks=tuple(task for tasks in work.by_style()[:2] for task in tasks))


@dataclass(frozen=True, slots=True)
class Ready:
    """An arm that has seen all shapes and all LoRAs; ``held_bytes`` of the GPU are its own from then on."""

    arm: Arm
    seconds: float
    held_bytes: int


def ready_arm(plan: Plan, make: Callable[[], Arm], say: Say) -> Ready:
    gpu, began = plan.device == "cuda", time.perf_counter()
    before = torch.cuda.memory_allocated() if gpu else 0
    arm = make()
    say(f"Warming: {arm.name}")
    arm.turn(plan.work("warm", 2), box=0)
    for style in range(STYLES):
        arm.switch(style)
    synchronise(plan.device)
    held = torch.cuda.memory_allocated() - before if gpu else 0
    return Ready(arm, time.perf_counter() - began, held)


def in_turn(
    plan: Plan, ready: Sequence[Ready], *, rounds: int, sources: int, say: Say, name: str = "turn"
) -> dict[str, Seen]:
    """Every round is a new piece of work, the same for all arms; each arm goes first in one round."""
    arms = [each.arm for each in ready]
    seen = {each.arm.name: Seen(held_bytes=each.held_bytes) for each in ready}
    for number in range(rounds):
        work = plan.work(f"{name} {number}", sources)
        for arm in [*arms[number % len(arms) :], *arms[: number % len(arms)]]:
            say(f"Round {number + 1} of {rounds}: {arm.name}")
            _one_turn(plan, arm, work, seen[arm.name])
    return seen


def _one_turn(plan: Plan, arm: Arm, work: Work, seen: Seen) -> None:
    gc.collect()
    if plan.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    others = torch.cuda.memory_allocated() - seen.held_bytes if plan.device == "cuda" else 0
    synchronise(plan.device)
    began = time.perf_counter()
    made = arm.turn(work, box=plan.box)
    synchronise(plan.device)
    seen.rates.append(len(made) / (time.perf_counter() - began))
    if plan.device == "cuda":
        seen.peak_bytes = max(seen.peak_bytes, torch.cuda.max_memory_allocated() - others)
    if any(blank(picture) for picture in made.values()):
        raise RuntimeError(f"{arm.name} made a picture of one colour.")
    if not seen.pictures:
        seen.pictures = {number: made[number] for number in sorted(made)[:COMPARED]}


def _figures(plan: Plan, files: Files, seen: Seen, described: Mapping[str, object]) -> dict[str, object]:
    peak: Mapping[str, float] = described["peak_flops"]  # type: ignore[assignment]
    work = plan.work("turn 0", plan.sources)
    flops = seen.rate * flops_of(files, work) / len(work.tasks)
    return {
        "images_per_second": round(seen.rate, 4),
        "least": round(min(seen.rates), 4),
        "most": round(max(seen.rates), 4),
        "flops": flops,
        "share_of_peak": round(flops / peak[str(plan.dtype).removeprefix("torch.")], 4),
        "peak_bytes": seen.peak_bytes,
    }


def _switch_ms(plan: Plan, arm: Arm) -> float:
    """Median of two rounds through all styles."""
    calls = [lambda style=style: arm.switch(style) for style in (*range(STYLES), *range(STYLES))]
    return round(1e3 * median(timed(plan.device, calls)), 3)


def _likeness(plan: Plan, files: Files, work: Work, seen: Mapping[str, Seen]) -> dict[str, float]:
    """The worst of a few. The reference is in fp32: in bf16 diffusers draws other random numbers."""
    exact = Stock(files, device=plan.device, dtype=torch.float32).turn(work.first(COMPARED), box=float("inf"))
    return {
        name: round(
            min(psnr(exact[number], each.pictures[number]) for number in exact.keys() & each.pictures.keys()), 2
        )
        for name, each in seen.items()
    }


def spread(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Of the ratios round by round."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"ratio": round(median(ratios), 4), "least": round(min(ratios), 4), "most": round(max(ratios), 4)}


def _grown(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: round(after[name] - before[name], 4) for name in after}


# one feature off at a time


def _features(
    plan: Plan, files: Files, cache: Path, ours: Ours, say: Say
) -> tuple[dict[str, dict[str, float]], list[str]]:
    found: dict[str, dict[str, float]] = {}
    left_out: list[str] = []
    needed, own = 0.0, None
    for feature in features(gpu=plan.device == "cuda", compiled=plan.compiled):
        if plan.left < needed:
            left_out.append(feature.name)
            continue
        began = time.monotonic()
        own = own or ready_arm(plan, lambda: ours, say)
        found[feature.name] = _without(plan, own, Ours(feature, files, _settings(plan, cache)), say)
        needed = 1.5 * (time.monotonic() - began)
    return found, left_out


def _without(plan: Plan, own: Ready, arm: Ours, say: Say) -> dict[str, float]:
    """Above 1: what the feature is worth."""
    other = ready_arm(plan, lambda: arm, say)
    seen = in_turn(
        plan, [own, other], rounds=plan.feature_rounds, sources=plan.feature_sources, say=say, name=f"{arm.name},"
    )
    found = {
        "images_per_second": round(seen[arm.name].rate, 4),
        "fill": round(arm.fill, 4),
        "switch_ms": _switch_ms(plan, arm),
    }
    return found | spread(seen[own.arm.name].rates, seen[arm.name].rates)
