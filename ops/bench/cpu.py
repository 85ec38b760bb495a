"""The engine against diffusers on two cores, with the tiny checkpoint: what the engine itself costs.

The same arms as in `ops.bench.gpu`: diffusers' stock loop, which loads its LoRA for every picture; diffusers tuned
(sorted by LoRA, batched, texts embedded once; ``--tune`` tries all of its settings and prints what each comes to);
ours, through the engine's port; ours with one thing off at a time. All make the same pictures, in fp32, and take turns.

With so small a UNet it is the loop around it that is measured. For images/s that mean something, see `ops.bench.gpu`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: `queue` there would be the benchmark
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import warnings
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from rich.console import Console

from ops.bench._database import own_folder
from ops.bench._engine_peers import Swap, Tuned, Tuning
from ops.bench._engine_run import Plan, Say, compare, in_turn, ready_arm
from ops.bench._engine_table import show
from ops.bench._engine_work import Files, tiny_files
from ops.bench._report import RESULTS, Report, arguments, hardware, tidy, versions

CORES = 2
DISTRIBUTIONS = ("halftone", "torch", "diffusers", "transformers", "peft", "accelerate")


def tune(plan: Plan, files: Files, say: Say) -> dict[str, float]:
    """Renders a second with each of the settings that diffusers documents."""
    found: dict[str, float] = {}
    for swap, last, batch in product(Swap, (False, True), (4, 8)):
        tuning = Tuning(swap, batch, last)
        made = partial(Tuned, files, tuning, device=plan.device, dtype=plan.dtype)
        seen = in_turn(plan, [ready_arm(plan, made, say)], rounds=1, sources=plan.sources, say=say)
        found[str(tuning)] = round(seen[Tuned.name].rate, 3)
        say(f"{tuning}: {found[str(tuning)]} images/s")
    return found


def read_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", default="64x64", help="of the pictures (default: %(default)s)")
    parser.add_argument("--sources", type=int, default=24, help="a turn; each is rendered in four styles")
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians of these")
    parser.add_argument("--tune", action="store_true", help="only try the settings of diffusers")
    asked = parser.parse_args(given)
    if asked.quick:
        asked.size, asked.sources, asked.rounds = "64x64", 6, 1
    return asked


def plan_of(asked: argparse.Namespace) -> Plan:
    return Plan(
        device="cpu",
        dtype=torch.float32,
        size=asked.size,
        steps=16,
        sources=asked.sources,
        feature_sources=max(6, asked.sources // 2),
        rounds=asked.rounds,
        feature_rounds=min(2, asked.rounds),
        box=10.0,
        limit_seconds=360.0,
    )


def run(given: list[str] | None = None, results: Path = RESULTS) -> None:
    asked = read_arguments(given)
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine, found = hardware(), versions(*DISTRIBUTIONS)
    torch.set_num_threads(CORES)
    plan = plan_of(asked)
    say: Say = lambda text: console.print(text, style="dim")  # noqa: E731
    with tidy(), own_folder("halftone-bench-") as folder:
        files = tiny_files(folder / "weights")
        if asked.tune:
            tune(replace(plan, limit_seconds=float("inf")), files, say)
            return
        figures = compare(plan, files, folder / "cache", say)
    show(figures, console)
    Report("cpu", figures, asked.quick, machine, found).finish(keep=asked.keep, results=results)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of diffusers and peft, on every load
    run()
