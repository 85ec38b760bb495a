"""What the scheduler counts."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from farm.telemetry.parts import PartMetrics
from farm.telemetry.renderers import FleetMetrics, GpuMetrics
from farm.telemetry.shown import from_zero
from farm.telemetry.teams import TeamMetrics
from farm.telemetry.work import CacheMetrics, QueueMetrics, UpkeepMetrics, WorkMetrics


class _WhileLeading(Collector):
    """What only a leader knows: one that stands by shows none of it, or every renderer would be counted twice."""

    def __init__(self, metrics: "SchedulerMetrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return list(self._metrics.view.collect()) if self._metrics.leads else []


def _not() -> bool:
    return False


class SchedulerMetrics:
    """Measurements of renderers come with their reports; the scheduler exposes them.

    ``registry`` holds everything, ``view`` what is shown only while this scheduler leads.
    """

    def __init__(self) -> None:
        self.registry, self.view = registry, view = CollectorRegistry(), CollectorRegistry()
        self._leads: Callable[[], bool] = _not
        registry.register(_WhileLeading(self))
        self.parts = PartMetrics(registry)
        self.work = WorkMetrics(registry)
        self.queue = QueueMetrics(view)
        self.cache = CacheMetrics(registry)
        self.gpus = GpuMetrics(registry, view)
        self.fleets = FleetMetrics(registry, view)
        self.teams = TeamMetrics(registry, view)
        self.upkeep = UpkeepMetrics(registry, view)
        self.leading = Gauge("farm_scheduler_leading", "1 while this scheduler leads.", registry=registry)
        self.leading.set_function(lambda: self.leads)
        self.epoch = Gauge("farm_scheduler_epoch", "Epoch in which this scheduler leads or led.", registry=registry)
        self.turned_at = Gauge(
            "farm_scheduler_last_turn_timestamp_seconds",
            "When the loop last came round, leading or standing by.",
            registry=registry,
        )
        self.tick_seconds = Histogram(
            "farm_scheduler_tick_seconds", "Seconds to look, plan and act.", registry=registry
        )
        self.unavailable = Counter(
            "farm_scheduler_unavailable_total",
            "Turns lost because a part did not answer: store_down, depot_down, fleet_down.",
            ["code"],
            registry=registry,
        )
        from_zero(self.unavailable, ("store_down", "depot_down", "fleet_down"))

    @property
    def leads(self) -> bool:
        return self._leads()

    def lead(self, epoch: int, surely: Callable[[], bool] = lambda: True) -> None:
        """From now on it shows the farm, but only while *surely*: one that hangs cannot say that it was replaced."""
        self._leads = surely
        self.epoch.set(epoch)

    def step_down(self) -> None:
        """Another shows the farm."""
        self._leads = _not
