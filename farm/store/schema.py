"""The revision of the tables: which there are, and at which one a database is."""

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

import migrations
from farm.core.migration import Revision, parse

_CURRENT = text("SELECT version_num FROM alembic_version")
_IS_THERE = text("SELECT to_regclass('public.alembic_version') IS NOT NULL")


def chain() -> tuple[Revision, ...]:
    """The migrations of this release. Their names are enough; Alembic is loaded only to run them."""
    folder = Path(migrations.__file__).parent / "versions"
    return parse([file.stem for file in folder.glob("[0-9]*.py")])


def revision_of(connection: Connection) -> str | None:
    """None when the database has no tables of ours, or is so old that we may not read its revision."""
    if not connection.execute(_IS_THERE).scalar_one():
        return None
    try:
        with connection.begin_nested():
            found: str | None = connection.execute(_CURRENT).scalar()
    except ProgrammingError:  # not allowed: tables of before 0004
        return None
    return found
