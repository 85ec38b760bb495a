"""The janitor beside each scheduler: the real one, in simulated time."""

from datetime import timedelta

from farm.core.errors import Unavailable
from farm.loops.janitor import Janitor, Upkeep
from farm.telemetry import SchedulerMetrics
from farm.usecases.sweep_tables import Keep
from tests.simulation.depot import SimulatedDepot
from tests.simulation.kernel import Kernel
from tests.simulation.scheduling import Killed, Process

LEASE = timedelta(seconds=10)
LINKS = timedelta(seconds=30)
GRACE = timedelta(seconds=45)

_KEEP = timedelta(days=30)


class Caretaker:
    """Gives the janitor of a process its turns. It dies with the process, and has a connection of its own."""

    def __init__(
        self, kernel: Kernel, process: Process, depot: SimulatedDepot, metrics: SchedulerMetrics, every: timedelta
    ) -> None:
        self._kernel, self._process, self._depot, self._metrics = kernel, process, depot, metrics
        self._every = every
        self._life = -1
        self._asked = 1.0

    def begin(self) -> None:
        self._kernel.after(1.0, self._turn)

    def _turn(self) -> None:
        process = self._process
        if process.alive and not process.busy and self._kernel.now >= process.frozen_until:
            if self._life != process.lives:
                self._life = process.lives
                self._janitor = self._new()
            try:
                self._janitor.run_once()
            except Unavailable as error:
                self._janitor.trouble(error)
            except Killed:
                pass
        self._kernel.after(max(0.2, self._asked), self._turn)

    def _new(self) -> Janitor:
        process = self._process

        def idle(seconds: float) -> None:
            self._asked = seconds

        return Janitor(
            store=process.database,
            depot=self._depot,
            upkeep=Upkeep(
                grace=GRACE,
                every=self._every,
                keep=Keep(events=_KEEP, attempts=_KEEP, sessions=_KEEP),
                lease_ttl=LEASE,
                link_ttl=LINKS,
            ),
            leadership=lambda: process.scheduler.leadership if process.alive else None,
            metrics=self._metrics,
            idle=idle,
            monotonic=lambda: self._kernel.now,
        )
