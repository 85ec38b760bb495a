"""Hears what other processes tell through PostgreSQL, on a connection of its own."""

import threading
import time
from datetime import timedelta

import psycopg
from psycopg.conninfo import make_conninfo

ALIVE = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""How libpq finds out within half a minute that a server has gone without a word: seconds, and milliseconds for TCP."""

_AGAIN_AFTER = 5.0
"""Seconds before a connection that could not be made, or broke, is tried again by whoever must not wait for it."""


class Listener:
    """One channel. When the connection breaks, a later call makes another; what was said in between is lost."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._try_at = 0.0

    def wait(self, timeout: timedelta) -> list[str]:
        """What was said; waits for the first up to *timeout*. Raises psycopg's errors."""
        with self._lock:
            return self._hear(timeout)

    def look(self) -> list[str]:
        """What was said until now. Neither waits for it nor raises."""
        if time.monotonic() < self._try_at:
            return []
        with self._lock:
            try:
                return self._hear(timedelta(0))
            except psycopg.Error:
                self._try_at = time.monotonic() + _AGAIN_AFTER
                return []

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _hear(self, timeout: timedelta) -> list[str]:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(make_conninfo(self._url, **ALIVE), autocommit=True)
                self._connection.execute(f"LISTEN {self._channel}".encode())
            heard = self._connection.notifies(timeout=timeout.total_seconds(), stop_after=1)
            return [notify.payload for notify in heard]
        except psycopg.Error:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
