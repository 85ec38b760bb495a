"""Procrastinate as an arm of `ops.bench.peers`; ``python -m ops.bench._procrastinate`` is one of its workers.

psycopg with a pool; finished jobs and their events stay, which is its outcome.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import uvloop
from procrastinate import App, PsycopgConnector

from ops.bench._crew import Crew, answer, asked, wait_for_go
from ops.bench._load import Gpu, Load, Ran, check_kept, check_once, no_ops
from ops.bench._own_databases import Databases, waits
from ops.bench._pgqueuer import phases_of, shown

_SUBMIT = 5_000
_ENDS = "SELECT job_id, at FROM procrastinate_events WHERE type = 'succeeded'"


@dataclass(frozen=True, slots=True)
class Procrastinate:
    """*concurrency*: jobs that one worker holds at once. The rest as in `ops.bench._pgqueuer`."""

    databases: Databases
    concurrency: int
    workers: int
    split: bool = False
    help: bool = False

    @property
    def system(self) -> str:
        return "procrastinate"

    @property
    def settings(self) -> str:
        return f"{self.workers} workers, concurrency {self.concurrency}{shown(self.split, self.help)}"

    def run(self, load: Load) -> Ran:
        with self.databases.fresh(self.system, _install) as url:
            workers = [self._asked(url, load, number) for number in range(self.workers)]
            with Crew("ops.bench._procrastinate", workers) as crew:
                began = self.databases.now()
                uvloop.run(_submit(url, load, split=self.split))
                submitted = self.databases.now()
                crew.go()
                answers = crew.answers()
            kept = self.databases.rows(url, _ENDS)
        check_once(load, [ordinal for worker in answers for ordinal in worker["done"]], self.system)
        check_kept(load, [job for job, _ in kept], self.system)
        ended = max(at.timestamp() for _, at in kept)
        return Ran(load.renders, ended - began, submitted - began, sum(worker["switches"] for worker in answers))

    def _asked(self, url: str, load: Load, number: int) -> dict[str, object]:
        phases = phases_of(load, number, split=self.split, help_others=self.help)
        gpu = [load.seconds, load.switch_seconds]
        return {"url": url, "concurrency": self.concurrency, "phases": phases, "gpu": gpu, "forever": False}

    def latencies(self, count: int) -> list[float]:
        """Seconds from before a lone job is submitted until its outcome can be read."""
        load = no_ops(1)
        with (
            self.databases.fresh(self.system, _install) as url,
            Crew("ops.bench._procrastinate", [self._asked(url, load, 0) | {"forever": True}]) as crew,
        ):
            crew.go()
            query = "SELECT count(*) FROM procrastinate_events WHERE type = 'succeeded'"
            return waits(url, query, count, lambda: uvloop.run(_submit(url, load, split=False)))


async def _install(url: str) -> None:
    async with App(connector=_connector(url, 1)).open_async() as app:
        await app.schema_manager.apply_schema_async()


def _connector(url: str, most: int) -> Any:
    return PsycopgConnector(conninfo=url, min_size=1, max_size=most)


async def _submit(url: str, load: Load, *, split: bool) -> None:
    async with App(connector=_connector(url, 1)).open_async() as app:
        rows = list(enumerate(load.loras))
        queues = {lora: f"lora-{lora}" if split else "render" for lora in set(load.loras)}
        for lora, queue in queues.items() if split else [(-1, "render")]:
            deferrer = app.configure_task("render", queue=queue, allow_unknown=True)
            mine = [{"ordinal": n, "lora": own} for n, own in rows if lora in {-1, own}]
            for begin in range(0, len(mine), _SUBMIT):
                await deferrer.batch_defer_async(*mine[begin : begin + _SUBMIT])


# the worker


async def _work(order: dict[str, Any]) -> None:
    gpu, lock = Gpu(*order["gpu"]), asyncio.Lock()

    async def render(ordinal: int, lora: int) -> None:
        async with lock:
            if seconds := gpu.cost(ordinal, lora):
                await asyncio.sleep(seconds)

    application = App(connector=_connector(order["url"], min(20, order["concurrency"] + 2)))
    application.task(name="render")(render)
    async with application.open_async() as app:
        wait_for_go()
        for queues in order["phases"]:
            await app.run_worker_async(
                queues=queues,
                concurrency=order["concurrency"],
                wait=order["forever"],
                listen_notify=order["forever"],  # otherwise the queue is full: nothing to be woken for
                install_signal_handlers=False,
            )
    answer(gpu.answer())


if __name__ == "__main__":
    uvloop.run(_work(asked()))
