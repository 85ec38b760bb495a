"""What every process of the control plane says of itself and of the parts that it asks."""

from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class PartMetrics:
    """The process, the database and the depot, as one process of the farm finds them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self.build = Gauge("farm_build_info", "1; the release that runs.", ["version"], registry=registry)
        self.build.labels(metadata.version("halftone")).set(1)
        self.store_seconds = Histogram(
            "farm_store_seconds",
            "Seconds of a transaction, by whose it is: team, scheduler, other.",
            ["what"],
            buckets=_QUICK,
            registry=registry,
        )
        self.store_errors = Counter(
            "farm_store_errors_total", "Transactions that PostgreSQL did not answer.", registry=registry
        )
        self.store_connections = Gauge(
            "farm_store_connections", "Connections of the pool: busy, idle, most.", ["state"], registry=registry
        )
        self.depot_seconds = Histogram(
            "farm_depot_seconds", "Seconds of a call to the S3 store.", ["what"], buckets=_QUICK, registry=registry
        )
        self.depot_errors = Counter(
            "farm_depot_errors_total",
            "Calls that the S3 store did not answer, or refused.",
            ["what"],
            registry=registry,
        )
