"""Alembic's entry: the caller passes an open connection, or a URL in the configuration."""

from alembic import context
from sqlalchemy import Connection, create_engine

from migrations import LOCK


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("alembic needs sqlalchemy.url; `farm migrate` passes it")
    with create_engine(url).connect() as own:
        _migrate(own)
        own.commit()
