"""Halftone as an arm of `ops.bench.peers`, with work: the real scheduler over PostgreSQL, and renderers that sleep.

All of the scheduler's own part is there: leading, looking, planning, leases, orders written out with presigned links,
reports in JSON, outcomes, events, costs. Not there are Ray, the object store and pictures: the peers have none either.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import structlog

from actors.renderer import Renderer
from farm.core.campaign import ENDED
from farm.core.ids import CampaignId, RendererName, show_source
from farm.core.oversee import Scale
from farm.core.scaling import FleetSpec
from farm.depot.s3 import S3Depot
from farm.fleet.simulated import SimulatedCluster, SimulatedFleet
from farm.loops.scheduler import Pace, Scheduler
from farm.store.postgres import PostgresStore
from farm.telemetry import SchedulerMetrics
from ops.bench import _no_op as no_op
from ops.bench._load import Gpu, Load, Ran, check_once, no_ops
from ops.bench._sleepers import Sleeper
from ops.bench.queue import Bench
from schemas.campaign import Block, CampaignSpec, SourceEntry
from schemas.order import Lane

PREFIX = "farm/bench/1/"
_POLL = 0.005


class LinksOnly(S3Depot):
    """Signs links, as it does on a farm; nobody follows them."""

    def ready(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class HalftoneFarm:
    """Both are settings of a farm: how long a shard is, and how long a tick."""

    bench: Bench
    shard_seconds: float
    tick: float = 0.5

    @property
    def system(self) -> str:
        return "halftone"

    @property
    def settings(self) -> str:
        return f"shards of {self.shard_seconds:g} s, ticks of {self.tick:g} s"

    def run(self, load: Load) -> Ran:
        gpus = [Gpu(load.seconds, load.switch_seconds) for _ in range(load.workers)]
        with self._farm(gpus):
            self.bench.watch.settle_down()
            began = time.time()
            spec = self._spec(load)
            campaign = no_op.submit(self.bench.api, self.bench.team, spec, shard_seconds=self.shard_seconds).id
            submitted = time.time()
            self._wait(campaign)
        with self.bench.api.as_team(self.bench.team) as tx:
            outcomes = tx.outcomes(campaign, 0, load.renders)
        check_once(load, [ordinal for gpu in gpus for ordinal in gpu.done], self.system)
        check_once(load, [outcome.ordinal for outcome in outcomes], self.system)
        ended = max(outcome.finished_at.timestamp() for outcome in outcomes)
        return Ran(load.renders, ended - began, submitted - began, sum(gpu.switches for gpu in gpus))

    def latencies(self, count: int) -> list[float]:
        """Seconds from before a lone render is submitted, in the interactive lane, until its outcome can be read."""
        found: list[float] = []
        load = no_ops(1)
        with self._farm([Gpu(0.0, 0.0)]):
            for _ in range(count + 1):
                began = time.perf_counter()
                spec = self._spec(load).model_copy(update={"lane": Lane.INTERACTIVE})
                campaign = no_op.submit(self.bench.api, self.bench.team, spec).id
                self._wait(campaign)
                found.append(time.perf_counter() - began)
        return found[1:]

    def _spec(self, load: Load) -> CampaignSpec:
        """A block for each LoRA, with as many sources as it has renders."""
        blocks = tuple(
            Block(
                sources=tuple(SourceEntry(source=show_source(no_op.digest(f"source {n}"))) for n in range(count)),
                styles=(f"style-{lora}",),
            )
            for lora in sorted(set(load.loras))
            if (count := load.loras.count(lora))
        )
        return CampaignSpec(name="work", blocks=blocks, seed=no_op.new_id())

    def _wait(self, campaign: CampaignId) -> None:
        while True:
            with self.bench.api.as_team(self.bench.team) as tx:
                if tx.campaign(campaign).state in ENDED:
                    return
            time.sleep(_POLL)

    @contextmanager
    def _farm(self, gpus: list[Gpu]) -> Iterator[None]:
        """Renderers up and known to the scheduler, and cold."""
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        names = [RendererName(f"{PREFIX}{number}") for number in range(len(gpus))]
        by_name = dict(zip(names, gpus, strict=True))
        cluster = SimulatedCluster(lambda name: cast("Renderer", Sleeper(name, by_name[name])))
        store = PostgresStore(self.bench.server.url("farm_scheduler"), pool=2)
        scheduler = _scheduler(store, cluster, len(gpus), timedelta(seconds=self.tick))
        stopping = threading.Event()
        thread = threading.Thread(target=_loop, args=(scheduler, stopping), daemon=True)
        for name in names:
            cluster.wake(name)
        self.bench.scheduler.resign(self.bench.leader)
        thread.start()
        try:
            self._wait_for(len(names))
            yield
        finally:
            stopping.set()
            thread.join()
            cluster.close()
            store.close()
            self.bench.lead()

    def _wait_for(self, renderers: int) -> None:
        while True:
            with self.bench.api.as_team(self.bench.team) as tx:
                if sum(renderer.state == "idle" for renderer in tx.renderers()) >= renderers:
                    return
            time.sleep(_POLL)


def _loop(scheduler: Scheduler, stopping: threading.Event) -> None:
    while not stopping.is_set():
        scheduler.run_once()
    scheduler.stop()


def _scheduler(store: PostgresStore, cluster: SimulatedCluster, renderers: int, tick: timedelta) -> Scheduler:
    fleet = FleetSpec(name="bench", prefix=PREFIX, least=renderers, most=renderers)
    hour = timedelta(hours=1)
    return Scheduler(
        holder="bench",
        store=store,
        fleet=SimulatedFleet(cluster),
        depot=LinksOnly(
            endpoint="127.0.0.1:9",
            access_key="a" * 40,
            secret_key="b" * 40,
            bucket="halftone",
            region="r",
            secure=False,
        ),
        pace=Pace(
            scale=Scale(fleets=(fleet,), drain_seconds=60.0, idle_seconds=3600.0),
            tick=tick,
            lease_ttl=timedelta(seconds=30),
            leader_ttl=timedelta(seconds=15),
            link_ttl=hour,
        ),
        metrics=SchedulerMetrics(),
        token=lambda: secrets.token_hex(16),
    )
