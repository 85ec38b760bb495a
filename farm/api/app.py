"""The API, put together."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from anyio import CapacityLimiter
from fastapi import FastAPI

from farm.api import (
    campaigns,
    events,
    health,
    problems,
    quotes,
    renders,
    sources,
    styles,
    team,
    weights,
)
from farm.api.context import Context
from farm.api.middleware import RequestMiddleware
from farm.api.waker import Waker
from farm.config import ApiSettings
from farm.ports import ApiStore, Clock, Depot
from farm.telemetry import ApiMetrics
from schemas.problem import Problem

HEAVY_AT_ONCE = 4
JSON_BYTES = 64 * 2**20
"""A spec with 100,000 sources, each with its own prompt and variables, stays below it."""

_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as problem+json (RFC 9457). `code` is stable.",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        "model": Problem,
    }
}


def create_app(
    settings: ApiSettings, store: ApiStore, depot: Depot, clock: Clock, metrics: ApiMetrics | None = None
) -> FastAPI:
    """The parts stay the caller's: the app closes none of them."""
    metrics, waker = metrics or ApiMetrics(), Waker(store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        waker.start()
        try:
            yield
        finally:
            waker.stop()

    app = FastAPI(
        title="Halftone",
        summary="A render farm for bulk image-to-image campaigns.",
        version="1",
        lifespan=lifespan,
        responses=_PROBLEM,
    )
    app.state.context = Context(settings, store, depot, clock, metrics, waker, CapacityLimiter(HEAVY_AT_ONCE))
    app.add_middleware(RequestMiddleware, metrics=metrics)
    problems.install(app, metrics)
    for module in (sources, weights):  # they read their bodies themselves, each with a limit of its own
        app.include_router(module.router)
    for module in (styles, quotes, campaigns, team, renders, events, health):
        app.include_router(module.router, max_body_size=JSON_BYTES)
    return app


class Server(uvicorn.Server):
    """Ends the event streams first: uvicorn waits for open replies before it tells the app to stop."""

    def __init__(self, config: uvicorn.Config, waker: Waker) -> None:
        super().__init__(config)
        self._waker = waker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._waker.stop()
        await super().shutdown(sockets)


def server(app: FastAPI, *, host: str, port: int) -> Server:
    """Its ``run()`` serves until SIGTERM or SIGINT; ``started`` says when it takes requests."""
    context: Context = app.state.context
    config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=20)
    return Server(config, context.waker)
