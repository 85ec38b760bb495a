"""Databases of the peers in the bench's PostgreSQL: a fresh one for each run, copied from one that is set up."""

import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
import uvloop
from psycopg import sql

from farm.embedded.postgres import Postgres, make_database


@dataclass(slots=True)
class Databases:
    server: Postgres
    _made: int = 0
    _templates: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def fresh(self, peer: str, install: Callable[[str], Coroutine[Any, Any, None]]) -> Iterator[str]:
        """The URL of an empty queue of *peer*; *install* makes its tables, once."""
        template = self._template(peer, install)
        self._made += 1
        name = f"{peer}_{self._made}"
        with self._admin() as connection:
            make_database(connection, name, template=template)
            connection.execute("CHECKPOINT")  # what the last run left is on disk: this one does not pay for it
        try:
            yield self.server.url("farm_owner", name)
        finally:
            with self._admin() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def now(self) -> float:
        """The database's clock is this machine's."""
        return time.time()

    def rows(self, url: str, query: LiteralString) -> list[tuple[Any, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()

    def _template(self, peer: str, install: Callable[[str], Coroutine[Any, Any, None]]) -> str:
        if peer not in self._templates:
            name = f"{peer}_0"
            with self._admin() as connection:
                make_database(connection, name)
            uvloop.run(install(self.server.url("farm_owner", name)))
            self._templates[peer] = name
        return self._templates[peer]

    @contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        with psycopg.connect(self.server.superuser_url(), autocommit=True) as connection:
            yield connection


def waits(url: str, query: LiteralString, count: int, submit: Callable[[], None]) -> list[float]:
    """Submits one job after another; *query* counts what has an outcome. The clock stops when it counts one more."""
    found: list[float] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(count + 1):  # the first is not counted: connections are made, statements prepared
            began = time.perf_counter()
            submit()
            while _count(connection, query) <= number:
                time.sleep(0.001)
            found.append(time.perf_counter() - began)
    return found[1:]


def _count(connection: psycopg.Connection[tuple[Any, ...]], query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])
