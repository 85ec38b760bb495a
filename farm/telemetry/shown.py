"""Series that begin at zero, and series that end."""

from collections.abc import Iterable, Mapping
from itertools import product

from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase


def from_zero(metric: MetricWrapperBase, *values: Iterable[str]) -> None:
    """With *values* for each label its series are there at once: a rate needs a value before the first event."""
    for labels in product(*values):
        metric.labels(*labels)


class Shown:
    """A gauge whose series are exactly those that were shown last. Nobody else may set it."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._series: dict[tuple[str, ...], Gauge] = {}  # kept: `labels` takes longer than all the rest

    def show(self, values: Mapping[tuple[str, ...], float]) -> None:
        """By the values of its labels."""
        for labels, value in values.items():
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = self._gauge.labels(*labels)
            series.set(value)
        for labels in self._series.keys() - values.keys():
            self._gauge.remove(*labels)
            del self._series[labels]
