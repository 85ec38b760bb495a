"""PgQueuer as an arm of `ops.bench.peers`; ``python -m ops.bench._pgqueuer`` is one of its workers.

asyncpg and uvloop, one connection a worker, jobs in batches; outcomes are the rows of PgQueuer's own log.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.types import QueueExecutionMode

from ops.bench._crew import Crew, answer, asked, wait_for_go
from ops.bench._load import Gpu, Load, Ran, check_kept, check_once, divided, no_ops
from ops.bench._own_databases import Databases, waits
from ops.bench._results import TABLE, Keeper, result_of

_SUBMIT = 5_000
"""Jobs in one INSERT: larger ones were no faster."""

_POLL = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class PgQueuer:
    """*split*: an entrypoint for each LoRA, divided between the workers; *help*: who is through helps the others.

    *results*: each job also writes its result, which PgQueuer does not keep, before it counts as done.
    """

    databases: Databases
    batch: int
    workers: int
    split: bool = False
    help: bool = False
    results: bool = False

    @property
    def system(self) -> str:
        return "pgqueuer, results kept" if self.results else "pgqueuer"

    @property
    def settings(self) -> str:
        return f"{self.workers} workers, batch {self.batch}{shown(self.split, self.help)}"

    def run(self, load: Load) -> Ran:
        with self.databases.fresh("pgqueuer", _install) as url:
            with Crew(
                "ops.bench._pgqueuer", [self._asked(url, load, number) for number in range(self.workers)]
            ) as crew:
                began = self.databases.now()
                uvloop.run(_submit(url, load, split=self.split))
                submitted = self.databases.now()
                crew.go()
                answers = crew.answers()
            kept = self.databases.rows(url, "SELECT job_id, created FROM pgqueuer_log WHERE status = 'successful'")
            results = self.databases.rows(url, "SELECT ordinal FROM result")
        check_once(load, [ordinal for worker in answers for ordinal in worker["done"]], self.system)
        check_kept(load, [job for job, _ in kept], self.system)
        check_kept(load, [ordinal for (ordinal,) in results] if self.results else range(load.renders), self.system)
        ended = max(at.timestamp() for _, at in kept)
        return Ran(load.renders, ended - began, submitted - began, sum(worker["switches"] for worker in answers))

    def _asked(self, url: str, load: Load, number: int) -> dict[str, object]:
        phases = phases_of(load, number, split=self.split, help_others=self.help)
        gpu = [load.seconds, load.switch_seconds]
        return {
            "url": url,
            "batch": self.batch,
            "phases": phases,
            "gpu": gpu,
            "results": self.results,
            "forever": False,
        }

    def latencies(self, count: int) -> list[float]:
        """Seconds from before a lone job is submitted until its outcome can be read."""
        load = no_ops(1)
        with (
            self.databases.fresh("pgqueuer", _install) as url,
            Crew("ops.bench._pgqueuer", [self._asked(url, load, 0) | {"forever": True}]) as crew,
        ):
            crew.go()
            query = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
            return waits(url, query, count, lambda: uvloop.run(_submit(url, load, split=False)))


def phases_of(load: Load, number: int, *, split: bool, help_others: bool) -> list[list[str]]:
    """Queues that worker *number* serves until they are empty, and then, if it helps, those of all."""
    if not split:
        return [["render"]]
    shares = divided(load)
    own = [[f"lora-{lora}" for lora in share] for share in shares]
    return [own[number], [name for share in own for name in share]] if help_others else [own[number]]


def shown(split: bool, help_others: bool) -> str:
    return (", a queue per LoRA" if split else "") + (", then helps the others" if help_others else "")


async def _install(url: str) -> None:
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.execute(TABLE)
    await connection.close()


async def _submit(url: str, load: Load, *, split: bool) -> None:
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    for begin in range(0, load.renders, _SUBMIT):
        rows = list(enumerate(load.loras))[begin : begin + _SUBMIT]
        names = [f"lora-{lora}" if split else "render" for _, lora in rows]
        payloads: list[bytes | None] = [f"{ordinal} {lora}".encode() for ordinal, lora in rows]
        await queries.enqueue(names, payloads, [0] * len(rows))
    await connection.close()


# the worker


async def _work(order: dict[str, Any]) -> None:
    connection = await asyncpg.connect(order["url"])
    results = await asyncpg.connect(order["url"])
    gpu, lock, keeper = Gpu(*order["gpu"]), asyncio.Lock(), Keeper(results) if order["results"] else None

    async def render(job: Any) -> None:
        ordinal, lora = map(int, job.payload.split())
        async with lock:
            if seconds := gpu.cost(ordinal, lora):
                await asyncio.sleep(seconds)
        if keeper is not None:
            await keeper.keep(result_of(ordinal))

    wait_for_go()
    if order["forever"]:
        manager = QueueManager(Queries(AsyncpgDriver(connection)))
        manager.entrypoint("render")(render)
        await manager.run(batch_size=order["batch"])
    for names in order["phases"]:
        manager = QueueManager(Queries(AsyncpgDriver(connection)))
        for name in names:
            manager.entrypoint(name)(render)
        # With work to do a worker must not claim what others could do: twice a batch is the least that it may hold.
        most = 2 * order["batch"] if gpu.seconds else None
        drain = QueueExecutionMode.drain
        await manager.run(_POLL, batch_size=order["batch"], mode=drain, max_concurrent_tasks=most)
    answer(gpu.answer())
    await results.close()
    await connection.close()


if __name__ == "__main__":
    uvloop.run(_work(asked()))
