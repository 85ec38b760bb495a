"""What a scheduler does until it has joined Ray."""

import socket
import threading
from datetime import timedelta

import pytest

from farm.bootstrap.waiting import join, reach
from farm.core.errors import FleetDown


class Cluster:
    """Answers at the try of that number."""

    def __init__(self, answers_at: int) -> None:
        self.answers_at, self.tries = answers_at, 0

    def connect(self) -> None:
        self.tries += 1
        if self.tries < self.answers_at:
            raise FleetDown("no")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    monkeypatch.setattr("farm.bootstrap.waiting._JOIN_EVERY", 0.0)
    return threading.Event()


def test_a_cluster_that_comes_up_later_is_joined(stopping: threading.Event) -> None:
    cluster, ticks = Cluster(4), []
    join(cluster.connect, timedelta(minutes=1), stopping, lambda: ticks.append(0))
    assert (cluster.tries, len(ticks)) == (4, 4)


def test_patience_ends(stopping: threading.Event) -> None:
    cluster = Cluster(4)
    with pytest.raises(FleetDown):
        join(cluster.connect, timedelta(0), stopping, lambda: None)
    assert cluster.tries == 1


def test_who_is_told_to_stop_joins_nothing(stopping: threading.Event) -> None:
    cluster = Cluster(4)

    def tick() -> None:
        if cluster.tries == 2:
            stopping.set()

    join(cluster.connect, timedelta(minutes=1), stopping, tick)
    assert cluster.tries == 3


def test_an_address_where_nobody_listens_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reach(f"127.0.0.1:{port}")
    with pytest.raises(FleetDown, match=f"127.0.0.1:{port}: Connection refused"):
        reach(f"127.0.0.1:{port}")
    with pytest.raises(FleetDown, match=r"no-such-host\.invalid:6379"):
        reach("no-such-host.invalid:6379")
    reach("auto")
