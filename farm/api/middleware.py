"""Around every request: its id, its log line, its metrics, and a reply when something breaks that nobody foresaw."""

import re
import secrets
import time

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farm.api.problems import reply
from farm.telemetry import ApiMetrics

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines

log = structlog.get_logger("farm.api")


class RequestMiddleware:
    """Outermost, so that it also sees what the handlers did not catch."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = _request_id(request)
        request.state.request_id = request_id
        status = 0
        streams = False

        async def send_on(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_on)
            except Exception:
                log.exception("unforeseen", method=request.method, path=request.url.path)
                if status:
                    raise  # the reply has begun: all that is left is to break the connection
                detail = "Something broke on our side. The log tells more under this request id."
                await reply(request, 500, "internal", detail)(scope, receive, send_on)
            finally:
                self._note(scope, status, time.perf_counter() - began, streams=streams)

    def _note(self, scope: Scope, status: int, seconds: float, *, streams: bool) -> None:
        method = scope["method"]
        route = getattr(scope.get("route"), "path", "none")  # the pattern, never the path: labels must stay few
        self._metrics.requests.labels(method, route, str(status)).inc()
        if not streams:
            self._metrics.seconds.labels(method, route).observe(seconds)
        if scope["path"] not in _QUIET:
            log.info("request", method=method, path=scope["path"], status=status, milliseconds=round(seconds * 1000, 1))


def _request_id(request: Request) -> str:
    """The caller's, when it is one that can stand in a log; else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else secrets.token_hex(8)
