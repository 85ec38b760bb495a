"""Runs seeds over all cores, and prints those that break a promise.

python -m tests.simulation --seeds 10000
python -m tests.simulation --seeds 1 --from 4711 -v
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from os import sched_getaffinity

from tests.simulation.world import LONG, SHORT, Ran, Size, run_seed


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    size = LONG if asked.long else SHORT
    seeds = range(asked.begin, asked.begin + asked.seeds)
    begun = time.perf_counter()
    if asked.verbose:
        runs: Iterable[Ran] = (run_seed(seed, size, show=print) for seed in seeds)
        return _report(runs, begun, cores=1)
    cores = min(asked.processes, len(seeds))
    with ProcessPoolExecutor(cores) as pool:
        return _report(pool.map(partial(_run, size=size), seeds, chunksize=4), begun, cores=cores)


def _run(seed: int, *, size: Size) -> Ran:
    return run_seed(seed, size)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="begin", help="the first")
    parser.add_argument("--processes", type=int, default=len(sched_getaffinity(0)))
    parser.add_argument("--long", action="store_true", help="larger farms, more renders")
    parser.add_argument("-v", "--verbose", action="store_true", help="print all that happens")
    return parser


def _report(runs: Iterable[Ran], begun: float, *, cores: int) -> int:
    """The exit status: 1 when a promise was broken."""
    broken = done = events = of_renders = 0
    for ran in runs:
        done, events, of_renders = done + 1, events + ran.events, of_renders + ran.render_events
        if ran.violation is not None:
            broken += 1
            print(f"seed {ran.seed}: {ran.violation}", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"{done:,} seeds, {broken} broken; {events:,} events, {of_renders / max(1, events):.0%} of renders; "
        f"{events / minutes / cores / 1e6:.2f} million a minute and core"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
