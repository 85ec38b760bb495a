"""CPU seconds of an embedded farm, by what its processes are."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

GROUPS = ("renderer", "scheduler", "api", "postgres", "s3", "ray")


def cpu_by_group(data: Path) -> dict[str, float]:
    """User and system seconds since each process began. What has ended is not in it any more."""
    spent: defaultdict[str, float] = defaultdict(float)
    for group, process in _members(data):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        spent[group] += times.user + times.system
    return {group: spent[group] for group in GROUPS}


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {group: max(0.0, after[group] - before[group]) for group in after}


def _members(data: Path) -> Iterator[tuple[str, psutil.Process]]:
    for file in sorted((data / "run").glob("*.json")):
        try:
            main = psutil.Process(json.loads(file.read_text())["pid"])
            family = [main, *main.children(recursive=True)]
        except (OSError, ValueError, KeyError, psutil.Error):
            continue
        for process in family:
            yield ("renderer" if file.stem == "ray" and _renders(process) else file.stem), process


def _renders(process: psutil.Process) -> bool:
    """Ray writes the actor's class over the command line of its process."""
    try:
        return " ".join(process.cmdline()).startswith("ray::Renderer")
    except psutil.Error:
        return False
