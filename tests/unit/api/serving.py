"""A farm in memory behind a real HTTP server: for event streams, the SDK and the commands."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from fastapi import FastAPI
from fastapi.responses import Response

from farm.api.app import create_app, server
from farm.core.errors import NotFound
from farm.depot.memory import MemoryDepot
from farm.sdk import Client
from tests.unit.api.world import KEY, World


class LinkedDepot(MemoryDepot):
    """Its links lead to the test's own server, so that an ordinary HTTP client can follow them."""

    base = ""

    def link_get(self, key: str, ttl: timedelta, filename: str | None = None) -> str:
        return f"{self.base}/depot/{key}"


@dataclass
class Farm:
    world: World
    url: str
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url, KEY)


def _serve_depot(app: FastAPI, depot: MemoryDepot) -> None:
    @app.get("/depot/{key:path}", include_in_schema=False)
    def get(key: str) -> Response:
        try:
            return Response(depot.get(key))
        except NotFound:
            return Response(status_code=404)


@contextmanager
def serving() -> Iterator[Farm]:
    """Ends the way a deployment does: streams that are still open are closed by the server."""
    depot = LinkedDepot()
    world = World(depot=depot)
    app = create_app(world.settings, world.store, depot, world.clock)
    _serve_depot(app, depot)
    running = server(app, host="127.0.0.1", port=0)
    sockets = [running.config.bind_socket()]
    depot.base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=running.run, kwargs={"sockets": sockets})
    thread.start()
    farm = Farm(world, depot.base)
    try:
        yield farm
    finally:
        farm.client.close()
        running.handle_exit(signal.SIGTERM, None)
        thread.join()
