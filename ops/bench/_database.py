"""A PostgreSQL of its own below a temporary folder, and what it spent."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil
import psycopg
from sqlalchemy import Engine, event

from farm.embedded import ports, state
from farm.embedded.postgres import DATABASE, Postgres
from farm.store.operators import migrate
from ops.bench._report import undisturbed


@contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """Others may pass through it: PostgreSQL does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The embedded PostgreSQL, migrated; it ends with the block."""
    with own_folder("halftone-bench-") as folder:
        fresh = state.new_state()
        server = Postgres(folder, fresh)
        fresh.ports = ports.settle(server.ports, {})
        try:
            server.start()
            migrate(server.url("farm_owner"))
            yield server
        finally:
            with undisturbed():
                server.stop()
                shutil.rmtree(fresh.folders.get("postgres", folder), ignore_errors=True)


class Watch:
    """CPU seconds, WAL bytes and statements of a PostgreSQL, from when it was made."""

    def __init__(self, server: Postgres) -> None:
        self._connection = psycopg.connect(server.superuser_url(DATABASE), autocommit=True)
        self._statements = 0
        event.listen(Engine, "before_cursor_execute", self._saw)
        self._processes = _family(self._connection.info.backend_pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._saw)
        self._connection.close()

    @property
    def statements(self) -> int:
        """Without BEGIN and COMMIT."""
        return self._statements

    def wal_bytes(self) -> int:
        row = self._connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
        return 0 if row is None else int(str(row[0]))

    def cpu_seconds(self) -> float:
        """Of the server and its backends; a backend that has ended counts through the server that reaped it."""
        return sum(_cpu(process) for process in [self._processes, *self._processes.children(recursive=True)])

    def setting(self, name: str) -> str:
        row = self._connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def settle_down(self) -> None:
        """What the last run left in shared buffers is on disk, so that the next one does not pay for it."""
        self._connection.execute("VACUUM ANALYZE")
        self._connection.execute("CHECKPOINT")

    def _saw(self, *_: object) -> None:
        self._statements += 1


def _family(backend: int) -> psutil.Process:
    parent = psutil.Process(backend).parent()
    if parent is None:
        raise RuntimeError("A backend of PostgreSQL has no server.")
    return parent


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
