"""The small HTTP server beside a service."""

import http.client
import threading
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from farm.bootstrap.answering import answering, application
from farm.core.errors import BadRequest, StoreDown


class Service:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.waits = threading.Event()
        self.waits.set()

    def alive(self) -> Iterable[str]:
        return self.faults

    def ready(self) -> Iterator[str]:
        assert self.waits.wait(10)
        yield from self.faults
        raise StoreDown("PostgreSQL does not answer.")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("turns", "Turns.", registry=registry).inc()
    app = application({"/healthz": service.alive, "/readyz": service.ready}, registry)
    with answering("127.0.0.1", 0, app, settings="HERE") as found:
        yield found


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_what_is_wrong_is_said_in_sentences_with_503(port: int, service: Service) -> None:
    assert ask(port, "/healthz") == (200, "ok\n")
    service.faults = ["It hangs.", "It does."]
    assert ask(port, "/healthz") == (503, "It hangs.\nIt does.\n")
    service.faults = ["It hangs."]
    assert ask(port, "/readyz") == (503, "It hangs.\nPostgreSQL does not answer.\n")


def test_metrics_are_shown_and_nothing_else(port: int) -> None:
    status, text = ask(port, "/metrics")
    assert status == 200
    assert "turns_total 1.0" in text
    assert ask(port, "/")[0] == ask(port, "/metrics/x")[0] == 404


def test_a_check_that_waits_keeps_nobody_else_waiting(port: int, service: Service) -> None:
    service.waits.clear()
    found: list[tuple[int, str]] = []
    slow = threading.Thread(target=lambda: found.append(ask(port, "/readyz")))
    slow.start()
    assert ask(port, "/healthz") == (200, "ok\n")
    assert found == []
    service.waits.set()
    slow.join(10)
    assert [status for status, _ in found] == [503]


def test_a_port_that_is_taken_is_named_with_its_settings(port: int) -> None:
    taken = answering("127.0.0.1", port, application({}, None), settings="FARM_X")
    with pytest.raises(BadRequest, match=rf"127\.0\.0\.1 port {port}: .*in use.* See FARM_X\.") as refused, taken:
        pass
    assert refused.value.code == "bad_settings"


def test_an_address_of_another_machine_is_refused_in_a_sentence() -> None:
    foreign = answering("192.0.2.1", 9090, application({}, None), settings="FARM_X")
    with pytest.raises(BadRequest, match=r"Nothing can listen on 192\.0\.2\.1 port 9090"), foreign:
        pass


def test_the_port_is_free_again_at_once(service: Service) -> None:
    app = application({"/healthz": service.alive}, None)
    with answering("127.0.0.1", 0, app, settings="HERE") as first:
        assert ask(first, "/healthz")[0] == 200
    with answering("127.0.0.1", first, app, settings="HERE") as second:
        assert (second, ask(second, "/healthz")[0]) == (first, 200)
