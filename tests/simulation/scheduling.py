"""A scheduler's process: the real `Scheduler`, and what may happen to it between two of its transactions."""

from collections.abc import Callable, Sequence

from farm.core.errors import DepotDown, LeadershipLost, Unavailable
from farm.core.garbage import folder_of
from farm.core.ids import RendererName
from farm.loops.scheduler import Pace, Scheduler
from farm.ports import Depot
from farm.telemetry import SchedulerMetrics
from schemas.order import ShardOrder
from schemas.report import Published
from tests.simulation.cluster import Cluster
from tests.simulation.database import Line, SchedulerDatabase
from tests.simulation.depot import SimulatedDepot
from tests.simulation.faults import Faults
from tests.simulation.fleet import SimulatedFleet
from tests.simulation.kernel import Kernel
from tests.simulation.promises import Promises

_TURN = (0.4, 1.6)
"""Seconds that a turn of a busy scheduler takes."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""As `farm.loops.loop.run` waits when a part does not answer."""


class Killed(BaseException):
    """SIGKILL: no handler sees it."""


class Watch:
    """Stands for `farm.loops.depot_watch.DepotWatch`, without its thread."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot

    def answers(self) -> bool:
        try:
            self._depot.ready()
        except DepotDown:
            return False
        return True

    def drop(self, pictures: Sequence[Published]) -> None:
        try:
            self._depot.delete([key for one in pictures for key in folder_of(one.key, one.renditions)])
        except DepotDown:
            pass  # the janitor finds them

    def close(self) -> None:
        """Nothing is held."""


class Process:
    """One scheduler after another under one supervisor. Killed or stopped, it is started again."""

    def __init__(
        self,
        number: int,
        kernel: Kernel,
        cluster: Cluster,
        depot: SimulatedDepot,
        faults: Faults,
        promises: Promises,
        make_line: Callable[[Callable[[], None]], Line],
        pace: Pace,
        metrics: SchedulerMetrics,
    ) -> None:
        self._number, self._kernel, self._cluster, self._depot = number, kernel, cluster, depot
        self._faults, self._promises, self._pace, self._metrics = faults, promises, pace, metrics
        self.line = make_line(self._between)
        self.lives = 0
        self.alive = False
        self.frozen_until = 0.0
        self._turning = False
        self._killed = False
        self._wake_at = float("inf")
        self._wakes = 0
        self._pause = _FIRST_PAUSE
        self.start()

    # its life

    def start(self) -> None:
        self.lives += 1
        self.alive, self._killed, self._turning, self._pause = True, False, False, _FIRST_PAUSE
        self.database = SchedulerDatabase(self.line, self._promises, self._at_work)
        self.fleet = SimulatedFleet(self._kernel, self._cluster, self._faults, self.poke, self._offered)
        self.scheduler = Scheduler(
            holder=f"scheduler-{self._number}-{self.lives}",
            store=self.database,
            fleet=self.fleet,
            depot=self._depot,
            pace=self._pace,
            metrics=self._metrics,
            token=lambda: f"{self._kernel.random.getrandbits(48):012x}",
            monotonic=lambda: self._kernel.now,
            watch=Watch(self._depot),  # type: ignore[arg-type]  # all that the scheduler calls
        )
        self._kernel.note("starts", f"scheduler-{self._number}-{self.lives}")
        self._wake_at = float("inf")
        self._wake_in(0.0)

    def kill(self, back_in: float) -> None:
        if not self.alive:
            return
        self._kernel.note("kill", f"scheduler-{self._number}-{self.lives}")
        self.alive, self._killed = False, True
        self.frozen_until = 0.0
        self.fleet.close()
        self._kernel.after(back_in, self._start_again, self.lives)

    def _start_again(self, life: int) -> None:
        if self._turning:  # what it was in the middle of has not even come back to it
            self._kernel.after(0.5, self._start_again, life)
        elif not self.alive and self.lives == life:
            self.start()

    def replace(self, back_in: float) -> None:
        """SIGTERM: the current turn ends, then it resigns."""
        if self._turning or not self.alive or self._kernel.now < self.frozen_until:
            return
        self._guarded(self.scheduler.stop)
        self.kill(back_in)

    def freeze(self, seconds: float) -> None:
        self._kernel.note("freeze", f"scheduler-{self._number}-{self.lives}", round(seconds, 1))
        self.frozen_until = max(self.frozen_until, self._kernel.now + seconds)

    # its turns

    def poke(self) -> None:
        """News has come in."""
        if not self._turning:
            self._wake_in(0.0)

    def _wake_in(self, delay: float) -> None:
        at = max(self._kernel.now + delay, self.frozen_until)
        if at < self._wake_at:
            self._wake_at = at
            self._wakes += 1
            self._kernel.after(at - self._kernel.now, self._wake, self._wakes, self.lives)

    def _wake(self, wake: int, life: int) -> None:
        if wake != self._wakes or life != self.lives or not self.alive or self._turning:
            return
        self._wake_at = float("inf")
        if self._kernel.now < self.frozen_until:
            self._wake_in(0.0)
            return
        pause = self._turn()
        if self.alive:
            self._wake_in(pause)

    def _turn(self) -> float:
        """Returns in how many seconds the next is due if nothing comes in."""
        self._turning = True
        try:
            trouble = self._guarded(self.scheduler.run_once)
        finally:
            self._turning = False
        if trouble is None:
            self._pause = _FIRST_PAUSE
            return self._kernel.random.uniform(*_TURN) + self.fleet.asked
        self.scheduler.trouble(trouble)
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause * self._kernel.random.uniform(0.5, 1.5)

    def _guarded(self, call: Callable[[], object]) -> Unavailable | None:
        try:
            call()
        except Unavailable as error:
            return error
        except LeadershipLost:
            return None  # `stop` meets it too
        except Killed:
            pass
        return None

    def _between(self) -> None:
        """Between two transactions the process may stand still for longer than its leadership lasts, or die."""
        if self._kernel.now < self._faults.until and self._turning:
            if self._kernel.random.random() < self._faults.stall:
                self._stall(self._kernel.random.choice((0.5, 3.0, 12.0, 40.0)))
            if self._kernel.random.random() < self._faults.crash:
                self.kill(self._kernel.random.uniform(1.0, 20.0))
        if self._turning and self._kernel.now < self.frozen_until:
            self._stall(self.frozen_until - self._kernel.now)
        if self._killed:
            raise Killed

    def _stall(self, seconds: float) -> None:
        self._kernel.note("stall", f"scheduler-{self._number}-{self.lives}", seconds)
        self._promises.disturb(seconds + self._pace.leader_ttl.total_seconds() * 2)
        self._kernel.run(self._kernel.now + seconds)

    def _offered(self, name: RendererName, order: ShardOrder) -> None:
        self._promises.offered(order, since=self.database.last_seen)

    def _at_work(self) -> dict[RendererName, str]:
        """Renderers that the leader may give work, with their type of GPU."""
        mates = self.scheduler._roster.mates.values()
        return {mate.name: mate.hello.gpu for mate in mates if mate.hello and not mate.draining and not mate.silent}

    @property
    def busy(self) -> bool:
        return self._turning
