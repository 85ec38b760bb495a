"""The proxy itself: each of its faults is what it says."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.proxy import HOST, Proxy


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def proxy(heard: list[bytes]) -> Iterator[Proxy]:
    """Before a server that answers each message with the same in capitals."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(100):
                        heard.append(data)
                        connection.sendall(data.upper())
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        with Proxy(lambda: (HOST, server.getsockname()[1])) as running:
            yield running
        server.shutdown(socket.SHUT_RDWR)


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def ask(connection: socket.socket, message: bytes) -> bytes:
    connection.sendall(message)
    return connection.recv(100)


def test_it_passes_on_what_it_is_given(proxy: Proxy) -> None:
    with dial(proxy) as one, dial(proxy) as two:
        assert (ask(one, b"a"), ask(two, b"b"), ask(one, b"c")) == (b"A", b"B", b"C")


def test_cut_connections_are_reset_and_new_ones_too_until_it_is_restored(proxy: Proxy) -> None:
    with dial(proxy) as old:
        assert ask(old, b"a") == b"A"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            old.recv(100)
    with pytest.raises(ConnectionResetError), dial(proxy) as new:  # in dialling, or when it reads
        new.recv(100)
    proxy.restore()
    with dial(proxy) as later:
        assert ask(later, b"b") == b"B"


def test_a_silent_connection_stands_and_carries_nothing_and_is_reset_in_the_end(
    proxy: Proxy, heard: list[bytes]
) -> None:
    with dial(proxy) as old:
        assert ask(old, b"a") == b"A"
        proxy.silence()
        old.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(old, b"b")
        proxy.restore()
        old.settimeout(5)
        with pytest.raises(ConnectionResetError):
            old.recv(100)
    assert heard == [b"a"]


def test_a_dropped_reply_is_of_a_question_that_arrived(proxy: Proxy, heard: list[bytes]) -> None:
    with dial(proxy) as old:
        proxy.drop_replies()
        old.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(old, b"a")
        proxy.restore()
        with pytest.raises(ConnectionResetError):
            old.recv(100)
    assert heard == [b"a"]


def test_a_delay_holds_back_and_loses_nothing(proxy: Proxy) -> None:
    proxy.delay(0.4)
    with dial(proxy) as slow:
        slow.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(slow, b"a")
        slow.settimeout(5)
        assert slow.recv(100) == b"A"
