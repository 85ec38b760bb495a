"""A result of each render in a table of its own, for peers that keep none: what a user would write beside them.

The same facts as in Halftone's outcomes: where the picture is, its sha256, its size.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import psycopg

TABLE = """CREATE TABLE IF NOT EXISTS result (
  ordinal bigint PRIMARY KEY, key text NOT NULL, sha256 text NOT NULL, bytes bigint NOT NULL,
  width int NOT NULL, height int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"""

_INSERT = """INSERT INTO result (ordinal, key, sha256, bytes, width, height)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::int[]) ON CONFLICT DO NOTHING"""
_COPY = "COPY result (ordinal, key, sha256, bytes, width, height) FROM STDIN"

Result = tuple[int, str, str, int, int, int]


def result_of(ordinal: int) -> Result:
    sha256 = hashlib.sha256(f"picture {ordinal}".encode()).hexdigest()
    return ordinal, f"outputs/{ordinal}/picture.png", sha256, 40_000, 128, 128


class Keeper:
    """Group commit: rows that come while one INSERT is under way go into the next. *connection* is asyncpg's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: list[Result] = []
        self._next: asyncio.Future[None] | None = None
        self._busy: asyncio.Task[None] | None = None

    async def keep(self, row: Result) -> None:
        """Returns when the row is committed."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._rows.append(row)
        mine = self._next
        if self._busy is None:
            self._busy = asyncio.create_task(self._write())
        await mine

    async def _write(self) -> None:
        while self._next is not None:
            rows, done = self._rows, self._next
            self._rows, self._next = [], None
            try:
                await self._connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))
            except Exception as error:  # noqa: BLE001 - those who wait for the rows get it
                done.set_exception(error)
            else:
                done.set_result(None)
        self._busy = None


def copy_in(url: str, ordinals: Sequence[int]) -> None:
    """One transaction for all of them."""
    with psycopg.connect(url) as connection, connection.cursor().copy(_COPY) as copy:
        for ordinal in ordinals:
            copy.write_row(result_of(ordinal))
