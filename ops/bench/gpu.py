"""The engine on a GPU, against diffusers and against the GPU itself: full-size SDXL, 1024x1024, 30 steps, CFG.

Weights are random, from SDXL's configuration: nothing is downloaded, and products of random matrices take as long as
others. Eight LoRAs of ranks 16 to 128, four styles a source, strengths 0.3, 0.5 and 0.7 (0.5 in the mean). In turn:

0. the peak of bf16 matrix products, measured;
1. diffusers' stock loop: picture by picture, the LoRA loaded and unloaded, the VAE in fp32 as its configuration asks;
2. diffusers tuned as well as its documentation allows: sorted by LoRA (hotswap), batched, compiled, channels_last,
   texts embedded once, the VAE in bf16;
3. ours, through the engine's port: load, begin, step;
4. ours with one thing off at a time.

A turn is 96 renders, except that the stock loop, whose renders all cost the same, stops after ``--seconds``. A call
of ten minutes has room for 1 to 3 (``--only main``), another for 4 (``--only features``); what goes beyond
``--limit`` is left out, and named. Compiling counts as warming up.

``--small`` runs the same code with the tests' tiny checkpoint, on the CPU where there is no GPU; so does ``--quick``
there. It shows that every line works, and nothing else.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: `queue` there would be the benchmark
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import warnings

import torch
from rich.console import Console

from ops.bench._database import own_folder
from ops.bench._engine_peers import Swap, Tuning
from ops.bench._engine_run import Plan, compare
from ops.bench._engine_table import show
from ops.bench._engine_work import Files, full_files, tiny_files
from ops.bench._report import RESULTS, Report, arguments, hardware, tidy, versions

AIMS = "Aims on an H100: 1.8 images/s, 1.3 times diffusers tuned, a switch of the LoRA under 50 ms, idle under 2 %."
DISTRIBUTIONS = ("halftone", "torch", "diffusers", "transformers", "peft", "accelerate")


def read_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--small", action="store_true", help="tiny checkpoint, 32x32, 4 steps; on the CPU if need be")
    parser.add_argument("--only", choices=("main", "features"), help="arms 1 to 3, or arm 4")
    parser.add_argument("--seconds", type=float, default=40, help="how long the stock loop may take in a turn")
    parser.add_argument("--rounds", type=int, default=2, help="of arms 1 to 3; figures are medians")
    parser.add_argument("--sources", type=int, default=24, help="a turn; each is rendered in four styles")
    parser.add_argument("--batch", type=int, default=4, help="rows of a pass, in all arms that have passes")
    parser.add_argument("--limit", type=float, default=540, help="seconds of everything")
    parser.add_argument("--no-compile", action="store_true", help="neither diffusers tuned nor ours")
    parser.add_argument("--compile-mode", default="default", help="torch.compile's, of diffusers tuned")
    parser.add_argument("--weights", type=Path, help="keep the weights (10 GB) in this folder, and find them there")
    asked = parser.parse_args(given)
    asked.small = asked.small or (asked.quick and not torch.cuda.is_available())
    if not asked.small and not torch.cuda.is_available():
        parser.error("There is no CUDA device here. `--small` runs the same code with tiny numbers on the CPU.")
    return asked


def plan_of(asked: argparse.Namespace) -> Plan:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    compiled = device == "cuda" and not asked.no_compile and not asked.small
    tuning = Tuning(
        Swap.HOTSWAP if compiled else Swap.FUSE, asked.batch, device == "cuda", compiled, asked.compile_mode
    )
    few = asked.small or asked.quick
    return Plan(
        device=device,
        dtype=dtype,
        size="32x32" if asked.small else "1024x1024",
        steps=4 if asked.small else 30,
        sources=4 if asked.small else 6 if asked.quick else asked.sources,
        feature_sources=4 if asked.small else 6 if asked.quick else asked.sources // 2,
        rounds=1 if few else asked.rounds,
        feature_rounds=1,
        peak_seconds=0.1 if asked.small else 1.0,
        box=2.0 if asked.small else asked.seconds,
        limit_seconds=asked.limit,
        batch=asked.batch,
        tuning=tuning,
        compiled=compiled,
        main=asked.only != "features",
        features=asked.only != "main",
    )


def files_of(asked: argparse.Namespace, folder: Path) -> Files:
    if asked.small:
        return tiny_files(folder)
    at: Path = asked.weights or folder
    if (at / "loras").exists():
        return Files(at / "checkpoint", tuple(sorted((at / "loras").iterdir())))
    return full_files(at, device="cuda")


def run(given: list[str] | None = None, results: Path = RESULTS) -> None:
    asked = read_arguments(given)
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine, found = hardware(), versions(*DISTRIBUTIONS)
    found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    with tidy(), own_folder("halftone-bench-") as folder:
        console.print("Writing the weights", style="dim")
        files = files_of(asked, folder / "weights")
        figures = compare(plan_of(asked), files, folder / "cache", lambda text: console.print(text, style="dim"))
    show(figures, console)
    console.print(AIMS)
    Report("gpu", figures, asked.quick or asked.small, machine, found).finish(keep=asked.keep, results=results)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of diffusers and peft, on every load
    run()
