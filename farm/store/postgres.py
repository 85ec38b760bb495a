"""The database, real: pools, transactions, and errors mapped to ours."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, cast

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from farm.core.errors import BadRequest, LeadershipLost, StoreDown, ValuesRefused
from farm.core.ids import Epoch, KeyId, TeamId
from farm.core.lease import Leadership
from farm.core.records import KeyRow
from farm.store import sql, team_sql
from farm.store.listener import ALIVE, Listener
from farm.store.scheduler_tx import PostgresSchedulerTx
from farm.store.schema import revision_of
from farm.store.team_tx import PostgresTeamTx

_OPTIONS = (
    "-c idle_in_transaction_session_timeout=30000 -c statement_timeout=60000 -c lock_timeout=10000 "
    "-c jit=off -c timezone=UTC"
)


def connect(url: str, *, pool: int) -> Engine:
    """An engine whose connections are checked before use, so that a restarted PostgreSQL costs one ping."""
    full = _url(url).set(drivername="postgresql+psycopg")
    return create_engine(
        full,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={"options": _OPTIONS, "prepare_threshold": 2, **ALIVE},
    )


def _url(text: str) -> URL:
    try:
        return make_url(text)
    except ArgumentError as error:  # without the text: it may hold a password
        raise BadRequest(
            "The database URL cannot be read; it looks like postgresql://user:password@host:port/name.",
            code="bad_settings",
        ) from error


def _conninfo(url: URL) -> str:
    """For libpq. It does not take every URL that SQLAlchemy reads or writes: a password may hold a space, a slash."""
    given = {**url.query, **url.translate_connect_args(username="user", database="dbname")}
    return make_conninfo("", **given)


@contextmanager
def store_errors() -> Iterator[None]:
    """Foreign errors become `StoreDown` where the database did not answer; a mistake of ours stays what it is."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError) as error:
        raise StoreDown(f"PostgreSQL does not answer: {_first_line(error)}") from error
    except (DataError, IntegrityError) as error:
        raise ValuesRefused(f"PostgreSQL does not take this: {_first_line(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreDown(f"The connection to PostgreSQL broke: {_first_line(error)}") from error
        raise


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0][:200]


@contextmanager
def as_owner(owner_url: str) -> Iterator[Connection]:
    """One transaction of an operator's, on a connection of its own."""
    engine = connect(owner_url, pool=1)
    try:
        with store_errors(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


class Observer(Protocol):
    """Hears how the store is doing. Called once a transaction, so it must be quick."""

    def took(self, what: str, seconds: float) -> None:
        """A transaction of a team, the scheduler or other was begun and ended; in trouble too."""
        ...

    def failed(self) -> None:
        """PostgreSQL did not answer."""
        ...


class PostgresStore:
    """`ApiStore` and `SchedulerStore` over PostgreSQL. The role in *url* decides which of the two will work."""

    def __init__(self, url: str, *, pool: int = 8, observer: Observer | None = None) -> None:
        where = _conninfo(_url(url))
        self._engine = connect(url, pool=pool)
        self._most = 2 * pool
        self._observer = observer
        self._events, self._work = Listener(where, "farm_event"), Listener(where, "farm_work")

    def ready(self) -> None:
        with self._begin("other") as connection:
            connection.execute(text("SELECT 1"))

    def revision(self) -> str | None:
        """Of the tables; None when there are none, or from before this role might ask."""
        with self._begin("other") as connection:
            return revision_of(connection)

    def connections(self) -> Mapping[str, int]:
        """Of the pool: busy, idle, and the most that there may be."""
        pool = cast(QueuePool, self._engine.pool)
        return {"busy": pool.checkedout(), "idle": pool.checkedin(), "most": self._most}

    def close(self) -> None:
        self._events.close()
        self._work.close()
        self._engine.dispose()

    @contextmanager
    def _begin(self, what: str) -> Iterator[Connection]:
        with self._observed(what), store_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _observed(self, what: str) -> Iterator[None]:
        if self._observer is None:
            yield
            return
        began = time.perf_counter()
        try:
            yield
        except StoreDown:
            self._observer.failed()
            raise
        finally:
            self._observer.took(what, time.perf_counter() - began)

    # the API's side

    @contextmanager
    def as_team(self, team: TeamId) -> Iterator[PostgresTeamTx]:
        with self._begin("team") as connection:
            connection.execute(sql.BE_TEAM, {"team": str(team)})
            yield PostgresTeamTx(connection, team)

    def key_owner(self, digest: bytes) -> KeyRow | None:
        with self._begin("other") as connection:
            row = connection.execute(team_sql.KEY_OWNER, {"digest": digest}).one_or_none()
        return None if row is None else KeyRow(KeyId(row[0]), TeamId(row[1]), row[2], row[3])

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        with store_errors():
            return frozenset(TeamId(int(team)) for team in self._events.wait(timeout))

    # the scheduler's side

    def work_came(self) -> bool:
        return bool(self._work.look())

    def elect(self, holder: str, ttl: timedelta) -> Leadership | None:
        with self._begin("other") as connection:
            epoch = connection.execute(sql.ELECT, {"holder": holder, "ttl": ttl}).scalar()
        return None if epoch is None else Leadership(holder, Epoch(epoch))

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        values = {"holder": leadership.holder, "epoch": leadership.epoch, "ttl": ttl}
        with self._begin("other") as connection:
            return connection.execute(sql.RENEW, values).first() is not None

    def resign(self, leadership: Leadership) -> None:
        with self._begin("other") as connection:
            connection.execute(sql.RESIGN, {"holder": leadership.holder, "epoch": leadership.epoch})

    @contextmanager
    def as_scheduler(self, leadership: Leadership) -> Iterator[PostgresSchedulerTx]:
        with self._begin("scheduler") as connection:
            values = {"holder": leadership.holder, "epoch": leadership.epoch}
            if connection.execute(sql.BE_SCHEDULER, values).first() is None:
                raise LeadershipLost(f"Epoch {leadership.epoch} of {leadership.holder} is over.")
            tx = PostgresSchedulerTx(connection)
            yield tx
            tx.flush()
