"""Ray Data as an arm of `ops.bench.peers`; ``python -m ops.bench._ray_data`` is its driver, on a Ray of its own.

Nothing is durable: rows and results are in the memory of the cluster, and a driver that dies takes the run with it.
"""

import logging
import os
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import asyncpg

from ops.bench._crew import Crew, answer, asked, wait_for_go
from ops.bench._load import Gpu, Load, Ran, check_once, shuffled
from ops.bench._own_databases import Databases
from ops.bench._results import TABLE, copy_in


@dataclass(frozen=True, slots=True)
class RayData:
    """*blocks* of rows, each of which goes to one task or actor; *ordered* by LoRA, or as they come in.

    *results*: without work, each block also writes its results to PostgreSQL, in one transaction.
    """

    databases: Databases
    blocks: int
    workers: int = 0
    ordered: bool = True
    results: bool = False

    @property
    def system(self) -> str:
        return "ray data, results kept" if self.results else "ray data"

    @property
    def settings(self) -> str:
        how = f"{self.workers} actors, {'sorted by LoRA' if self.ordered else 'unsorted'}, " if self.workers else ""
        return f"{how}{self.blocks} blocks"

    def run(self, load: Load) -> Ran:
        if not self.results:
            return self._run(load, "")
        with self.databases.fresh("ray_data", _install) as url:
            ran = self._run(load, url)
            check_once(load, [n for (n,) in self.databases.rows(url, "SELECT ordinal FROM result")], self.system)
        return ran

    def _run(self, load: Load, url: str) -> Ran:
        order = {
            "rows": list(enumerate(load.loras)) if self.ordered else shuffled(load),
            "gpu": [load.seconds, load.switch_seconds],
            "url": url,
            "blocks": self.blocks,
            "workers": self.workers,
        }
        with Crew("ops.bench._ray_data", [order]) as crew:
            crew.go()
            (done,) = crew.answers()
        check_once(load, done["done"], self.system)
        return Ran(load.renders, done["seconds"], done["submit_seconds"], done["switches"], done["first_seconds"])


class Renders:
    """What `map_batches` keeps in an actor."""

    def __init__(self, seconds: float, switch_seconds: float) -> None:
        self._gpu = Gpu(seconds, switch_seconds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        before, at = self._gpu.switches, time.time()
        for ordinal, lora in zip(batch["ordinal"].tolist(), batch["lora"].tolist(), strict=True):
            if seconds := self._gpu.cost(ordinal, lora):
                time.sleep(seconds)
        switches = batch["lora"] * 0
        switches[0] = self._gpu.switches - before
        return {"ordinal": batch["ordinal"], "switches": switches, "at": batch["lora"] * 0 + at}


def _nothing(batch: dict[str, Any], url: str) -> dict[str, Any]:
    if url:
        copy_in(url, batch["ordinal"].tolist())
    return {"ordinal": batch["ordinal"], "switches": batch["lora"] * 0, "at": batch["lora"] + time.time()}


async def _install(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    await connection.close()


def main() -> None:
    import ray
    import ray.data

    order = asked()
    # CPUs are counted, not measured: sleeping actors need none, and the tasks of Ray Data want one each.
    cpus = max(os.cpu_count() or 1, order["workers"] + 1)
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _run(
        ray, _tables([[n, 0] for n in range(order["blocks"])], order["blocks"]), order | {"gpu": [0.0, 0.0], "url": ""}
    )
    tables = _tables(order["rows"], order["blocks"])
    wait_for_go()
    answer(_run(ray, tables, order))
    ray.shutdown()


def _tables(rows: list[list[int]], blocks: int) -> list[Any]:
    """Each becomes a block: cheaper than to let Ray Data cut one table."""
    import pandas as pd

    cuts = [len(rows) * n // blocks for n in range(blocks + 1)]
    return [pd.DataFrame(rows[lo:hi], columns=["ordinal", "lora"]) for lo, hi in pairwise(cuts)]


def _run(ray: Any, tables: list[Any], order: dict[str, Any]) -> dict[str, object]:
    """Whole blocks are batches: Ray Data would join small blocks to fill larger ones, for a single actor."""
    began, wall = time.perf_counter(), time.time()
    rows = ray.data.from_pandas(tables)
    submitted = time.perf_counter()
    if order["gpu"][0]:
        pool = ray.data.ActorPoolStrategy(size=order["workers"])
        done = rows.map_batches(Renders, batch_size=None, compute=pool, fn_constructor_args=order["gpu"])
    else:
        done = rows.map_batches(_nothing, batch_size=None, fn_kwargs={"url": order["url"]})
    found = done.materialize()
    seconds = time.perf_counter() - began
    kept = found.to_pandas()
    return {
        "done": kept["ordinal"].tolist(),
        "switches": int(kept["switches"].sum()),
        "seconds": seconds,
        "submit_seconds": submitted - began,
        "first_seconds": float(kept["at"].min()) - wall,
    }


if __name__ == "__main__":
    main()
