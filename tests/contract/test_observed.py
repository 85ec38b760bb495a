"""What the store and the depot tell of themselves, on a real PostgreSQL and a real S3 store."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from farm.bootstrap.observing import CALLS, OWNERS, STATES, DepotObserver, StoreObserver
from farm.core.errors import DepotDown, NotFound, StoreDown
from farm.core.ids import TeamId
from farm.depot.s3 import S3Depot
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from farm.telemetry import PartMetrics
from tests.support.parts import Database, StoreServer


class Shown:
    """What Prometheus would see."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = PartMetrics(self.registry)

    def counts(self, name: str, label: str = "what") -> dict[str, float]:
        """Those that are not 0."""
        found = {
            sample.labels[label]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }
        return {key: value for key, value in found.items() if value}

    def names(self, name: str, label: str = "what") -> set[str]:
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        return {sample.labels[label] for sample in samples if sample.name == name}

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def store(shown: Shown, database: Database) -> Iterator[PostgresStore]:
    migrate(database.owner)
    observer = StoreObserver(shown.metrics)
    made = PostgresStore(database.scheduler, pool=3, observer=observer)
    observer.show_pool(made)
    yield made
    made.close()


def observed_depot(s3: StoreServer, shown: Shown, *, endpoint: str | None = None, secret: str | None = None) -> S3Depot:
    return S3Depot(
        endpoint=endpoint or s3.endpoint,
        access_key=s3.access_key,
        secret_key=secret or s3.secret_key,
        bucket="t-observed",
        region="us-east-1",
        secure=False,
        observer=DepotObserver(shown.metrics),
    )


def test_every_label_is_there_before_anything_happens(shown: Shown, store: PostgresStore, s3: StoreServer) -> None:
    observed_depot(s3, shown)
    assert shown.names("farm_store_seconds_count") == set(OWNERS)
    assert shown.names("farm_depot_seconds_count") == shown.names("farm_depot_errors_total") == set(CALLS)
    assert shown.names("farm_store_connections", "state") == set(STATES)


def test_transactions_are_timed_by_whose_they_are(shown: Shown, store: PostgresStore) -> None:
    leadership = store.elect("first", timedelta(minutes=1))
    assert leadership is not None
    for _ in range(3):
        with store.as_scheduler(leadership) as tx:
            tx.now()
    with store.as_team(TeamId(1)) as team:
        team.sources(after=None, limit=1)
    store.ready()
    assert shown.counts("farm_store_seconds_count") == {"team": 1, "scheduler": 3, "other": 2}
    assert shown.value("farm_store_errors_total") == 0


def test_connections_are_counted_while_they_are_busy(shown: Shown, store: PostgresStore) -> None:
    assert shown.counts("farm_store_connections", "state") == {"most": 6}
    with store.as_team(TeamId(1)), store.as_team(TeamId(2)):
        assert shown.counts("farm_store_connections", "state") == {"busy": 2, "most": 6}
    assert shown.counts("farm_store_connections", "state") == {"idle": 2, "most": 6}


def test_a_database_that_does_not_answer_is_an_error_and_a_refusal_of_ours_is_none(
    shown: Shown, store: PostgresStore, database: Database
) -> None:
    with pytest.raises(NotFound), store.as_team(TeamId(1)):
        raise NotFound("no")
    assert shown.value("farm_store_errors_total") == 0
    away = PostgresStore("postgresql://u:p@127.0.0.1:1/d", observer=StoreObserver(shown.metrics))
    with pytest.raises(StoreDown):
        away.ready()
    away.close()
    assert shown.value("farm_store_errors_total") == 1
    assert shown.counts("farm_store_seconds_count") == {"team": 1, "other": 1}


def test_calls_to_the_store_are_timed_by_what_they_do(shown: Shown, s3: StoreServer) -> None:
    depot = observed_depot(s3, shown)
    depot.ready()
    depot.put("a", b"1", "text/plain")
    assert depot.get("a") == b"1"
    assert depot.size("a") == 1
    assert depot.written_at("b") is None
    assert list(depot.list("")) == [("a", 1)]
    depot.delete(["a"])
    with pytest.raises(NotFound):
        depot.get("a")
    counted = {"ready": 1, "put": 1, "get": 2, "stat": 2, "list": 1, "delete": 1}
    assert shown.counts("farm_depot_seconds_count") == counted
    assert shown.counts("farm_depot_errors_total") == {}, "what is not there was answered"


def test_a_store_that_refuses_or_is_away_counts_as_an_error(shown: Shown, s3: StoreServer) -> None:
    with pytest.raises(DepotDown):
        observed_depot(s3, shown, secret="wrong").put("a", b"1", "text/plain")
    with pytest.raises(DepotDown):
        list(observed_depot(s3, shown, endpoint="127.0.0.1:1").list(""))
    assert shown.counts("farm_depot_errors_total") == {"put": 1, "list": 1}


def test_a_long_listing_is_timed_by_the_page(shown: Shown, s3: StoreServer) -> None:
    depot = observed_depot(s3, shown)
    pages = [list(depot._timed_pages(iter(range(count)))) for count in (0, 999, 1_000, 2_500)]
    assert [len(page) for page in pages] == [0, 999, 1_000, 2_500]
    assert shown.counts("farm_depot_seconds_count") == {"list": 1 + 1 + 2 + 3}
