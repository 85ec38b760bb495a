"""What the store and the depot tell of themselves becomes metrics; neither knows of Prometheus."""

from typing import TYPE_CHECKING

from farm.telemetry import PartMetrics

if TYPE_CHECKING:
    from farm.store.postgres import PostgresStore

OWNERS = ("team", "scheduler", "other")
CALLS = ("put", "get", "stat", "list", "delete", "ready")
STATES = ("busy", "idle", "most")


class StoreObserver:
    """`farm.store.postgres.Observer`. Every label is there from the start: what never was cannot be told from 0."""

    def __init__(self, metrics: PartMetrics) -> None:
        self._metrics = metrics
        self._seconds = {what: metrics.store_seconds.labels(what) for what in OWNERS}

    def took(self, what: str, seconds: float) -> None:
        self._seconds[what].observe(seconds)

    def failed(self) -> None:
        self._metrics.store_errors.inc()

    def show_pool(self, store: "PostgresStore") -> None:
        """Connections are counted when somebody asks."""
        for state in STATES:

            def count(state: str = state) -> float:
                return store.connections()[state]

            self._metrics.store_connections.labels(state).set_function(count)


class DepotObserver:
    """`farm.depot.s3.Observer`."""

    def __init__(self, metrics: PartMetrics) -> None:
        self._seconds = {what: metrics.depot_seconds.labels(what) for what in CALLS}
        self._errors = {what: metrics.depot_errors.labels(what) for what in CALLS}

    def took(self, what: str, seconds: float) -> None:
        self._seconds[what].observe(seconds)

    def failed(self, what: str) -> None:
        self._errors[what].inc()
