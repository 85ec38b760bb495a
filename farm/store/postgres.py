"""The database, real: pools, transactions, and errors mapped to ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from farm.core.errors import BadRequest, LeadershipLost, StoreDown, ValuesRefused
from farm.core.ids import Epoch, KeyId, TeamId
from farm.core.lease import Leadership
from farm.core.records import KeyRow
from farm.store import sql, team_sql
from farm.store.listener import ALIVE, Listener
from farm.store.scheduler_tx import PostgresSchedulerTx
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


class PostgresStore:
    """`ApiStore` and `SchedulerStore` over PostgreSQL. The role in *url* decides which of the two will work."""

    def __init__(self, url: str, *, pool: int = 8) -> None:
        self._url = _url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._engine = connect(url, pool=pool)
        self._events, self._work = Listener(self._url, "farm_event"), Listener(self._url, "farm_work")

    def ready(self) -> None:
        with store_errors(), self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self._events.close()
        self._work.close()
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with store_errors(), self._engine.begin() as connection:
            yield connection

    # the API's side

    @contextmanager
    def as_team(self, team: TeamId) -> Iterator[PostgresTeamTx]:
        with self._begin() as connection:
            connection.execute(sql.BE_TEAM, {"team": str(team)})
            yield PostgresTeamTx(connection, team)

    def key_owner(self, digest: bytes) -> KeyRow | None:
        with self._begin() as connection:
            row = connection.execute(team_sql.KEY_OWNER, {"digest": digest}).one_or_none()
        return None if row is None else KeyRow(KeyId(row[0]), TeamId(row[1]), row[2], row[3])

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        with store_errors():
            return frozenset(TeamId(int(team)) for team in self._events.wait(timeout))

    # the scheduler's side

    def work_came(self) -> bool:
        return bool(self._work.look())

    def elect(self, holder: str, ttl: timedelta) -> Leadership | None:
        with self._begin() as connection:
            epoch = connection.execute(sql.ELECT, {"holder": holder, "ttl": ttl}).scalar()
        return None if epoch is None else Leadership(holder, Epoch(epoch))

    def renew(self, leadership: Leadership, ttl: timedelta) -> bool:
        values = {"holder": leadership.holder, "epoch": leadership.epoch, "ttl": ttl}
        with self._begin() as connection:
            return connection.execute(sql.RENEW, values).first() is not None

    def resign(self, leadership: Leadership) -> None:
        with self._begin() as connection:
            connection.execute(sql.RESIGN, {"holder": leadership.holder, "epoch": leadership.epoch})

    @contextmanager
    def as_scheduler(self, leadership: Leadership) -> Iterator[PostgresSchedulerTx]:
        with self._begin() as connection:
            values = {"holder": leadership.holder, "epoch": leadership.epoch}
            if connection.execute(sql.BE_SCHEDULER, values).first() is None:
                raise LeadershipLost(f"Epoch {leadership.epoch} of {leadership.holder} is over.")
            tx = PostgresSchedulerTx(connection)
            yield tx
            tx.flush()
