"""Alembic migrations: expand first, contract a release later."""

LOCK = 0x68616C66746F6E65  # "halftone": two migrations at once wait for one another
