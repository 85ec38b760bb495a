"""Imported by every Python process that has this folder on its path: lets tests kill it at a named point of its code.

Production code knows nothing of it. Told by the environment variable CRASH_FOLDER, it wraps the functions below as
their modules are imported. Each pass through a point takes away one file ``<point>.<k>`` of that folder, and the
process that takes the last one kills itself: so a crash happens once, and the process that follows lives on.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

POINTS = {
    # Leased in the database, not yet offered to the renderer.
    "scheduler.after_claim": ("farm.fleet.ray_fleet", "RayFleet.offer", "before"),
    # Outcomes are written, and their transaction is open.
    "scheduler.before_commit": ("farm.store.settling_tx", "Settling.write", "after"),
    # Outcomes are committed, and the renderer does not know.
    "scheduler.before_reply": ("farm.loops.mate", "Mate.settled", "before"),
    # The campaign is written, and its transaction is open.
    "api.before_commit": ("farm.store.campaign_tx", "Campaigns.insert_campaign", "after"),
    # The campaign is committed, and the client does not know.
    "api.before_reply": ("farm.api.campaigns", "submit_campaign", "after"),
    # The shard is in hand, and the scheduler does not know.
    "renderer.after_claim": ("actors.ledger", "Ledger.offer", "after"),
    # The picture and what belongs to it are in the depot, and nobody knows.
    "renderer.after_put": ("actors.finishers", "upload", "after"),
    # Reports are made, and the scheduler does not have them.
    "renderer.before_reply": ("actors.renderer", "Renderer._collected", "after"),
}

CLOCKS = ("minio.time", "farm.bootstrap.services")
"""Modules that ask for the date. What counts time monotonically is left alone, as a wrong clock leaves it."""


def pass_through(folder: Path, point: str) -> None:
    tokens = sorted(folder.glob(f"{point}.*"))
    if not tokens:
        return
    try:
        tokens[-1].unlink()
    except FileNotFoundError:  # another process has just passed
        return
    if len(tokens) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def wrapped(function: Callable[..., Any], folder: Path, point: str, when: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def passing(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            pass_through(folder, point)
        result = function(*args, **kwargs)
        if when == "after":
            pass_through(folder, point)
        return result

    return passing


def shifted(by: timedelta) -> type[datetime]:
    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    return Shifted


def patch(module: ModuleType, folder: Path, clock: timedelta) -> None:
    for point, (name, path, when) in POINTS.items():
        if name == module.__name__:
            *owners, last = path.split(".")
            owner = functools.reduce(getattr, owners, module)
            setattr(owner, last, wrapped(getattr(owner, last), folder, point, when))
    if clock and module.__name__ in CLOCKS:
        setattr(module, "datetime", shifted(clock))  # noqa: B010 - mypy knows no such attribute of a module


class Finder(MetaPathFinder):
    def __init__(self, folder: Path, clock: timedelta) -> None:
        self._folder, self._clock = folder, clock
        self._names = {name for name, _, _ in POINTS.values()} | set(CLOCKS)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                patch(module, self._folder, self._clock)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def clock_of(folder: Path) -> timedelta:
    """How far the clock of this process is off: ``farm <verb>`` reads ``clock.<verb>`` when it starts."""
    words = sys.orig_argv
    verb = words[words.index("farm") + 1] if "farm" in words[:-1] else ""
    try:
        return timedelta(seconds=float((folder / f"clock.{verb}").read_text()))
    except OSError:
        return timedelta(0)


def install(folder: Path) -> None:
    clock = clock_of(folder)
    if clock:
        true_time, true_time_ns, off = time.time, time.time_ns, clock.total_seconds()
        time.time = lambda: true_time() + off
        time.time_ns = lambda: true_time_ns() + int(off * 1e9)
    sys.meta_path.insert(0, Finder(folder, clock))


if "CRASH_FOLDER" in os.environ:
    install(Path(os.environ["CRASH_FOLDER"]))
