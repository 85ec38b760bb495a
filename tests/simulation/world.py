"""A farm for one seed: how large, with which faults, and whether it keeps its promises to the end."""

import gc
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import cast

import structlog

from farm.core.ids import RendererName, TeamId
from farm.core.oversee import Scale
from farm.core.records import TeamRow
from farm.core.scaling import FleetSpec
from farm.loops.scheduler import Pace
from farm.store.memory import MemoryStore
from farm.telemetry import SchedulerMetrics
from farm.usecases.check_campaign import Terms
from farm.usecases.collect_garbage import collect
from tests.simulation import library
from tests.simulation.chaos import Chaos
from tests.simulation.cluster import Cluster
from tests.simulation.database import Line, TeamDatabase
from tests.simulation.depot import Courier, SimulatedDepot
from tests.simulation.faults import Faults, draw
from tests.simulation.final import check_end
from tests.simulation.gpu import Physics
from tests.simulation.kernel import Kernel, Violation
from tests.simulation.metrics import NoMetrics
from tests.simulation.nodes import Node
from tests.simulation.operators import Operator
from tests.simulation.promises import Promises
from tests.simulation.scheduling import Process
from tests.simulation.upkeep import GRACE, LEASE, LINKS, Caretaker
from tests.simulation.users import User

_METRICS = cast("SchedulerMetrics", NoMetrics())


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens in a run. Faults stop at 0.6 of its *seconds*; *patience* is how long the calm may last until
    everything has ended: a quarantine is long."""

    seconds: float = 150.0
    renders: int = 6000
    nodes: int = 8
    patience: float = 2400.0


SMALL = Size(seconds=90.0, renders=1500, nodes=5, patience=900.0)
SHORT = Size()
LONG = Size(seconds=400.0, renders=20_000, nodes=12)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a seed."""

    seed: int
    trace: str
    events: int
    render_events: int
    seconds: float  # simulated
    violation: Violation | None = None


class World:
    def __init__(
        self, seed: int, size: Size, *, faults: Faults | None = None, show: Callable[[str], None] | None = None
    ) -> None:
        self.kernel = kernel = Kernel(seed, show=show)
        self.size = size
        rng = kernel.random
        drawn = draw(rng, size.seconds * 0.6)
        self.faults = drawn if faults is None else replace(faults, until=size.seconds * 0.6 if faults.until else 0.0)
        fence = random.Random(rng.getrandbits(64))
        self.store = MemoryStore(clock=kernel.clock, fence=lambda: f"{fence.getrandbits(128):032x}")
        self.depot = SimulatedDepot()
        physics = Physics(deadly=rng.choice((0.0, 0.0, 0.0004)), bad=rng.choice((0.0, 0.01)))
        nodes, fleets = _machines(rng, size.nodes)
        most = sum(fleet.most for fleet in fleets)
        self.promises = Promises(kernel, self.store, self.depot, physics, most)
        self.cluster = Cluster(kernel, nodes, physics, Courier(kernel, self.depot, self.faults), self.promises)
        self.pace = Pace(
            scale=Scale(fleets=fleets, drain_seconds=20.0, idle_seconds=60.0),
            tick=timedelta(seconds=2),
            lease_ttl=LEASE,
            leader_ttl=timedelta(seconds=6),
            link_ttl=LINKS,
            drain_time=timedelta(seconds=10),
        )
        self.users = self._users(rng, tuple(sorted({node.gpu for node in nodes})))
        self.processes = [self._process(number) for number in range(rng.choice((1, 2, 2)))]
        every = timedelta(seconds=max(rng.choice((20, 80)), size.renders / 100))
        for process in self.processes:
            Caretaker(kernel, process, self.depot, _METRICS, every).begin()
        self.chaos = Chaos(self)
        names = tuple(RendererName(f"{fleet.prefix}{n}") for fleet in fleets for n in range(fleet.most))
        self.operator = Operator(kernel, self.store, names, every=rng.choice((30.0, 1e6)))
        self.promises.health.broken = self.cluster.broken
        self.promises.compare_teams()

    def _users(self, rng: random.Random, gpus: tuple[str, ...]) -> list[User]:
        teams = [TeamId(n + 1) for n in range(rng.choice((2, 3, 4)))]
        terms = Terms(max_renders=100_000, shard_seconds=rng.choice((2.0, 5.0, 10.0)), currency="EUR")
        users = []
        for team in teams:
            quota = rng.choice((None, None, None, 2))
            row = TeamRow(team, f"team {team}", 10**6, weight=rng.choice((1.0, 1.0, 2.0, 3.0)), quota=quota)
            self.store.add_team(row)
            library.stock(self.store, team)
            hot = team == teams[0]
            user = User(
                self.kernel,
                team,
                TeamDatabase(self._line(lambda: None), self.promises),
                self.promises,
                terms,
                renders=int(self.size.renders * (0.6 if hot else 0.4 / (len(teams) - 1))),
                pause=self.size.seconds / (20 if hot else 8),
                until=self.size.seconds * 0.75,
                gpus=gpus,
            )
            self.kernel.after(rng.uniform(0, self.size.seconds / 10), user.work)
            users.append(user)
        return users

    def _line(self, between: Callable[[], None]) -> Line:
        return Line(self.kernel, self.store, self.faults, between)

    def _process(self, number: int) -> Process:
        return Process(
            number,
            self.kernel,
            self.cluster,
            self.depot,
            self.faults,
            self.promises,
            self._line,
            self.pace,
            _METRICS,
        )

    # the run

    def run(self) -> None:
        """Raises `Violation`."""
        self.kernel.run(self.size.seconds * 0.6)
        self.chaos.heal()
        self.kernel.run(self.size.seconds)
        self.operator.settle_down()
        for user in self.users:
            user.settle_down()
        self._until_all_has_ended()
        self._clean_up()
        check_end(self)

    def _clean_up(self) -> None:
        """Two rounds of the janitor's work with the grace time between them, on top of those it did by itself."""
        for _ in range(2):
            self.kernel.run(self.kernel.now + GRACE.total_seconds() + 1)
            leads = (process.scheduler.leadership for process in self.processes if process.alive)
            leadership = next((found for found in leads if found is not None), None)
            if leadership is None:
                raise self.promises.broken("alive", "nobody leads in the calm")
            for _ in collect(partial(self.store.as_scheduler, leadership), self.depot, grace=GRACE):
                pass

    def _until_all_has_ended(self) -> None:
        end = self.kernel.now + self.size.patience
        while any(user.open_campaigns() for user in self.users):
            if self.kernel.now > end:
                left = [row for user in self.users for row in user.open_campaigns()]
                raise self.promises.broken("alive", f"{len(left)} campaigns have not ended, {left[0]} among them")
            self.kernel.run(self.kernel.now + 10)


def _machines(rng: random.Random, most: int) -> tuple[list[Node], list[FleetSpec]]:
    """One fleet of one type of GPU, or two; now and then one node more than renderers."""
    count = rng.randint(max(2, most // 2), most)
    cut = rng.choice((count, count, count // 2))
    nodes, fleets = [], []
    kinds = (("fast", "H100", 1.0), ("slow", "L4", 0.5))
    for (name, gpu, speed), (lo, hi) in zip(kinds, pairwise((0, cut, count)), strict=True):
        if lo == hi:
            continue
        nodes += [Node(f"node-{n}", name, gpu, speed) for n in range(lo, hi + rng.choice((0, 1)))]
        prefix = f"farm/{name}/r1/"
        fleets.append(FleetSpec(name=name, prefix=prefix, least=0, most=hi - lo, off_peak_most=None, gpu=gpu))
    return [Node(f"node-{n}", node.fleet, node.gpu, node.speed) for n, node in enumerate(nodes)], fleets


@contextmanager
def _quiet() -> Iterator[None]:
    """What is logged, and collecting garbage, would only cost time."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.disable()  # a run leaves little garbage, and looking for it again and again is a twentieth of its time
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**before)


def run_seed(
    seed: int, size: Size = SHORT, *, faults: Faults | None = None, show: Callable[[str], None] | None = None
) -> Ran:
    """*faults* instead of those that the seed draws; *show* is given a line for each thing that happens."""
    random.seed(seed)  # the janitor's jitter comes from there
    violation = None
    with _quiet():
        world = World(seed, size, faults=faults, show=show)
        try:
            world.run()
        except Violation as error:
            violation = error
    kernel = world.kernel
    return Ran(seed, kernel.trace, kernel.events, kernel.render_events, kernel.now, violation)
