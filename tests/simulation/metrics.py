"""Metrics that nobody reads: counting for real would be a tenth of a run."""

from typing import Self


class NoMetrics:
    """Stands for any metric, for any of its children, and for `farm.telemetry.SchedulerMetrics` itself."""

    def __getattr__(self, _: str) -> "NoMetrics":
        return self

    def __call__(self, *_: object) -> "NoMetrics":
        """For whatever else it is told."""
        return self

    def labels(self, *_: object) -> "NoMetrics":
        return self

    def inc(self, *_: object) -> None:
        """Counts nothing."""

    def set(self, *_: object) -> None:
        """Shows nothing."""

    def observe(self, *_: object) -> None:
        """Observes nothing."""

    def time(self) -> "NoMetrics":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Times nothing."""
