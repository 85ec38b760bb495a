"""A small HTTP server beside a service that has none of its own: /healthz, /readyz, /metrics."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from farm.core.errors import BadRequest, FarmError

Check = Callable[[], Iterable[str]]
"""Sentences about what is wrong; none when nothing is."""

_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)


class _Server(ThreadingMixIn, WSGIServer):
    """Each question has a thread: /readyz may wait for the database while /healthz answers."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 30  # a caller that says nothing does not keep its thread

    def log_message(self, *args: Any) -> None:
        """Asked every few seconds by machines: not worth a line."""


def application(checks: Mapping[str, Check], registry: CollectorRegistry | None) -> Any:
    """WSGI: *checks* by path answer 200 or 503, with their sentences; *registry* is what /metrics shows."""
    metrics = None if registry is None else make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics" and metrics is not None:
            return metrics(environ, start)  # type: ignore[no-any-return]  # untyped
        if path not in checks:
            start("404 Not Found", [*_TEXT])
            return [f"There is nothing at {path}.\n".encode()]
        faults = list(_asked(checks[path]))
        start("503 Service Unavailable" if faults else "200 OK", [*_TEXT])
        return ["\n".join([*(faults or ["ok"]), ""]).encode()]

    return answer


def _asked(check: Check) -> Iterator[str]:
    try:
        yield from check()
    except FarmError as error:
        yield error.detail


@contextmanager
def answering(host: str, port: int, app: Any, *, settings: str) -> Iterator[int]:
    """Answers until the end of the block; gives the port. Raises `BadRequest` when it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        server = type("_Bound", (_Server,), {"address_family": family})((host, port), _Handler)
    except OSError as error:
        raise BadRequest(
            f"Nothing can listen on {host} port {port}: {error.strerror or error}. See {settings}.", code="bad_settings"
        ) from error
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
