"""What a service waits for before it begins."""

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from farm.core.errors import FarmError, FleetDown, Refused, Unavailable
from farm.core.migration import Revision, missing

if TYPE_CHECKING:
    from farm.store.postgres import PostgresStore

_log = structlog.get_logger("farm")
_LOOK_EVERY = 1.0
_JOIN_EVERY = 2.0


def behind(store: "PostgresStore") -> FarmError | None:
    """Why this release cannot work with the database as it is; None when it can. A later one's tables will do."""
    from farm.store.schema import chain

    try:
        current = store.revision()
    except Unavailable as error:
        return error
    lacks = missing(chain(), current)
    return None if lacks is None else _store_behind(lacks, current)


def _store_behind(lacks: Revision, current: str | None) -> Refused:
    at = "has no tables of ours, or none that say their revision" if current is None else f"is at {current}"
    return Refused(
        f"The database {at}; this release needs {lacks.name}. Run `farm migrate --only expand`.", code="store_behind"
    )


def wait_for_schema(
    store: "PostgresStore", patience: timedelta, stopping: threading.Event, tick: Callable[[], object] = lambda: None
) -> None:
    """Until the tables are there, or *stopping*. Raises what was missing to the last.

    So that migrations and processes may be started together, in any order. *tick* is called at every look.
    """
    deadline, said = time.monotonic() + patience.total_seconds(), False
    while (fault := behind(store)) is not None:
        if time.monotonic() >= deadline:
            raise fault
        if not said:
            _log.info("waiting_for_migration", code=fault.code, detail=fault.detail, patience=patience.total_seconds())
            said = True
        tick()
        if stopping.wait(_LOOK_EVERY):
            return
    tick()


def join(
    connect: Callable[[], None], patience: timedelta, stopping: threading.Event, tick: Callable[[], object]
) -> None:
    """Joins Ray, whose node beside this process may come up later than it. Raises `FleetDown` after *patience*."""
    deadline, said = time.monotonic() + patience.total_seconds(), False
    while not stopping.is_set():
        tick()
        try:
            connect()
            return
        except FleetDown as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                _log.info("waiting_for_ray", detail=error.detail, patience=patience.total_seconds())
                said = True
        stopping.wait(_JOIN_EVERY)


def reach(address: str) -> None:
    """Raises `FleetDown` when nobody listens there: Ray itself takes minutes to say so."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise FleetDown(f"Ray does not answer at {address}: {error.strerror or error}.") from error
