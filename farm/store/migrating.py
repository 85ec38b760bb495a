"""`farm migrate`: the tables, and the roles that the processes log in with. As the owner of the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Connection, text

import migrations
from farm.core.errors import Refused
from farm.core.migration import Phase, Revision, to_run
from farm.store.postgres import as_owner
from farm.store.schema import chain, revision_of
from migrations import LOCK

# Tables are waited for as briefly as anywhere: who waits for one makes everybody behind him wait.
_PATIENT = text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '15min'")
_BRIEF = text("SET LOCAL lock_timeout = '10s'")
_ALONE = text("SELECT pg_advisory_xact_lock(:lock)")
_WITH_LOGIN = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(CAST(:names AS text[])) AND rolcanlogin")
_KNOWN = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(CAST(:names AS text[]))")
_MAY_ENTER = text("SELECT has_database_privilege(:role, current_database(), 'CONNECT'), current_database()")


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done: names of migrations, and of roles by what became of them."""

    run: tuple[str, ...]
    made: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def migrate(owner_url: str, only: Phase | None = None, logins: Mapping[str, str] | None = None) -> Migrated:
    """Runs what *only* asks for, all without it. Two at once wait for one another.

    *logins* are passwords by role: each role is made, or gets the password. All is done, or nothing. Raises `Refused`
    when a release was left out, or the owner may make no roles.
    """
    with as_owner(owner_url) as connection:
        connection.execute(_PATIENT)
        connection.execute(_ALONE, {"lock": LOCK})
        connection.execute(_BRIEF)
        known, former = _roles(connection, _KNOWN, logins or {}), _roles(connection, _WITH_LOGIN, logins or {})
        for role, password in (logins or {}).items():
            _log_in(connection, role, password, known=role in known)
        ran = to_run(chain(), revision_of(connection), only)
        if ran:
            _upgrade(connection, ran)
    roles = sorted(logins or {})
    made = tuple(role for role in roles if role not in former)
    return Migrated(tuple(one.name for one in ran), made, tuple(role for role in roles if role in former))


def configuration() -> Config:
    """Alembic's."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def _upgrade(connection: Connection, ran: Sequence[Revision]) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, ran[-1].id)


def _roles(connection: Connection, statement: Any, logins: Mapping[str, str]) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute(statement, {"names": list(logins)}))


def _log_in(connection: Connection, role: str, password: str, *, known: bool) -> None:
    """The server gets a SCRAM verifier, never the password: its log may show the statement."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    verifier = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    make: LiteralString = "ALTER ROLE {} LOGIN PASSWORD {}" if known else "CREATE ROLE {} LOGIN PASSWORD {}"
    name = sql.Identifier(role)
    try:
        driver.execute(sql.SQL(make).format(name, sql.Literal(verifier)))
        may_enter, database = connection.execute(_MAY_ENTER, {"role": role}).one()
        if not may_enter:
            driver.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"The owner of the tables may not make or change the role {role}: {error.diag.message_primary}. Give it "
            f"CREATEROLE and, where {role} is there already, ADMIN OPTION on it; or set its password as the database's "
            "superuser and leave --roles out.",
            code="roles_refused",
        ) from error
