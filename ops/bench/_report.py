"""What every benchmark ends with: one JSON line, printed last and kept in ``ops/bench/results/<name>.jsonl``.

A quick run says little, so its line is marked ``"quick": true``, and kept only when that is asked for (``--keep``).
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "ops" / "bench" / "results"


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a benchmark."""

    name: str
    figures: Mapping[str, object]
    quick: bool
    hardware: Mapping[str, object]
    versions: Mapping[str, str]
    date: datetime = field(default_factory=lambda: datetime.now(UTC))

    def line(self) -> str:
        """One line of JSON, without a line break at its end."""
        value = {
            "name": self.name,
            "date": self.date.isoformat(timespec="seconds"),
            "quick": self.quick,
            "figures": dict(self.figures),
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
        }
        return json.dumps(value, allow_nan=False)

    def finish(self, *, keep: bool, results: Path = RESULTS) -> None:
        """Prints the line, last of all, and appends it to the results if *keep* says so or the run was not quick."""
        line = self.line()
        if keep or not self.quick:
            results.mkdir(parents=True, exist_ok=True)
            with (results / f"{self.name}.jsonl").open("a") as file:
                file.write(line + "\n")
        sys.stdout.flush()
        print(line, flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute at most; its figures show only that it works")
    parser.add_argument("--keep", action="store_true", help="append the line of a quick run to the results, too")
    return parser


def hardware() -> dict[str, object]:
    """Call it before the work begins: it notes how busy the machine was with other things."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpu_names(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load1_before": round(os.getloadavg()[0], 2),
    }


def versions(*distributions: str) -> dict[str, str]:
    """Python, the commit, and what is installed of *distributions*."""
    found = {"python": platform.python_version(), "commit": _commit()}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def medians(runs: Sequence[Mapping[str, float]], digits: int = 4) -> dict[str, float]:
    """Key by key; a key must be in every run."""
    return {key: round(median(run[key] for run in runs), digits) for key in runs[0]}


@contextmanager
def tidy() -> Iterator[None]:
    """SIGTERM ends the benchmark as Ctrl-C does: what it started is ended on the way out."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """For ending what was started: a second Ctrl-C must not leave half of it running."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, signal.SIG_IGN) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu_names() -> list[str]:
    tool = shutil.which("nvidia-smi")
    return _said([tool, "--query-gpu=name", "--format=csv,noheader"]).splitlines() if tool else []


def _commit() -> str:
    """The commit, with ``+`` behind it when files differ from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    commit = _said([git, "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
    changed = _said([git, "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"]).strip()
    return f"{commit or 'unknown'}{'+' if changed else ''}"


def _said(command: list[str]) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return answer.stdout if answer.returncode == 0 else ""
