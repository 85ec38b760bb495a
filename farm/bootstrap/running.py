"""Parts become processes: `farm api`, `farm scheduler`.

Each answers /healthz from its first second on, also while it waits for tables or for Ray, and /readyz when it works.
"""

import gc
import secrets
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from farm.bootstrap.answering import answering, application
from farm.bootstrap.services import (
    SystemClock,
    depot_of,
    kinds_of,
    pace_of,
    read,
    renderer_settings,
    store_of,
    upkeep_of,
)
from farm.bootstrap.waiting import behind, join, reach, wait_for_schema
from farm.config import ApiSettings, SchedulerSettings
from farm.telemetry import ApiMetrics, SchedulerMetrics, configure_logging

if TYPE_CHECKING:
    from farm.loops.pulse import Pulse
    from farm.loops.scheduler import Scheduler
    from farm.store.postgres import PostgresStore

_TURN = timedelta(seconds=60)
"""A scheduler whose turn takes longer counts as hanging; a turn takes less than a second."""

_SLOW = timedelta(seconds=15)
"""And so long without a turn, it is not ready: a call into Ray waits while Ray's head is away."""

_JOINING = timedelta(minutes=2)
"""What Ray takes at most to say that there is no cluster, on a slow disk."""


def run_api() -> None:
    """Serves until SIGTERM or SIGINT."""
    from farm.api.app import create_app, server

    settings, metrics = read(ApiSettings), ApiMetrics()
    configure_logging()
    store = store_of(settings.api_database_url, metrics.parts)
    try:
        if behind(store) is not None and not _waited(settings, store, metrics):
            return
        app = create_app(settings, store, depot_of(settings, metrics.parts), SystemClock(), metrics)
        server(app, host=settings.api_host, port=settings.api_port).run()
    finally:
        store.close()


def _waited(settings: ApiSettings, store: "PostgresStore", metrics: ApiMetrics) -> bool:
    """Waits for the tables, and answers meanwhile in the API's place; False when it was stopped."""
    from farm.loops.loop import stop_on_signals

    stopping = threading.Event()
    restore = stop_on_signals(stopping)
    try:
        app = application({"/healthz": lambda: (), "/readyz": partial(_not_yet, store)}, metrics.registry)
        with answering(settings.api_host, settings.api_port, app, settings="FARM_API_HOST and FARM_API_PORT"):
            wait_for_schema(store, settings.schema_wait, stopping)
    finally:
        restore()  # a signal that comes before the API has handlers of its own ends the process at once
    return not stopping.is_set()


def _not_yet(store: "PostgresStore") -> Iterator[str]:
    """Never ready: it is not the API that answers."""
    yield from _schema_faults(store)
    yield "The API waits for its tables, and does not serve yet."


def _schema_faults(store: "PostgresStore") -> Iterator[str]:
    fault = behind(store)
    if fault is not None:
        yield fault.detail


def run_scheduler() -> None:
    """Leads or stands by until SIGTERM or SIGINT."""
    from farm.loops.loop import stop_on_signals
    from farm.loops.pulse import Pulse, watch

    settings, metrics = read(SchedulerSettings), SchedulerMetrics()
    configure_logging()
    pace_of(settings), upkeep_of(settings)  # a setting that is wrong is told at once
    stopping, joined = threading.Event(), threading.Event()
    pulse = Pulse(limit=_JOINING + settings.fleet_patience, on_turn=metrics.turned_at.set_to_current_time)
    store = store_of(settings.scheduler_database_url, metrics.parts, pool=4)
    app = application(
        {"/healthz": partial(_alive, pulse, joined), "/readyz": partial(_ready, pulse, joined, store)}, metrics.registry
    )
    where = "FARM_METRICS_HOST and FARM_METRICS_PORT"
    with answering(settings.metrics_host, settings.metrics_port, app, settings=where):
        stop_on_signals(stopping)
        watch(pulse)
        try:
            wait_for_schema(store, settings.schema_wait, stopping, pulse.beat)
            if not stopping.is_set():
                _join(settings, stopping, pulse)
                stop_on_signals(stopping)  # Ray sets handlers of its own
            if not stopping.is_set():
                joined.set()
                _schedule(settings, store, metrics, stopping, pulse)
        finally:
            store.close()


def _alive(pulse: "Pulse", joined: threading.Event) -> Iterator[str]:
    yield from _silent(pulse, _TURN if joined.is_set() else _JOINING)


def _silent(pulse: "Pulse", limit: timedelta) -> Iterator[str]:
    silent = pulse.silent
    if silent > limit.total_seconds():
        yield f"The loop has not come round for {silent:.0f} seconds."


def _ready(pulse: "Pulse", joined: threading.Event, store: "PostgresStore") -> Iterator[str]:
    yield from _schema_faults(store)
    if not joined.is_set():
        yield "Ray is not joined yet."
    elif pulse.trouble is not None:
        yield pulse.trouble.detail
    else:
        yield from _silent(pulse, _SLOW)


def _join(settings: SchedulerSettings, stopping: threading.Event, pulse: "Pulse") -> None:
    from farm.fleet.ray_fleet import connect

    def enter() -> None:
        reach(settings.ray_address)
        connect(settings.ray_address, settings.ray_namespace)

    join(enter, settings.fleet_patience, stopping, pulse.beat)
    pulse.beat()


def _schedule(
    settings: SchedulerSettings,
    store: "PostgresStore",
    metrics: SchedulerMetrics,
    stopping: threading.Event,
    pulse: "Pulse",
) -> None:
    from farm.loops.janitor import Janitor, beside
    from farm.loops.loop import run

    scheduler = _scheduler(settings, store, metrics)
    janitor = Janitor(
        store=store,
        depot=depot_of(settings, metrics.parts),
        upkeep=upkeep_of(settings),
        leadership=lambda: scheduler.leadership,
        metrics=metrics,
        idle=stopping.wait,
    )
    gc.collect()
    gc.freeze()  # what was imported stays: each full collection would look at all of it, 50 ms of a scheduler's time
    cleaning = beside(janitor, stopping)
    try:
        run(scheduler, stopping, pulse, patience=settings.fleet_patience)
    finally:
        stopping.set()
        cleaning.join(10)


def _scheduler(settings: SchedulerSettings, store: "PostgresStore", metrics: SchedulerMetrics) -> "Scheduler":
    from farm.fleet.ray_fleet import RayFleet
    from farm.loops.scheduler import Scheduler

    return Scheduler(
        holder=f"{socket.gethostname()}-{secrets.token_hex(4)}",
        store=store,
        fleet=RayFleet(fleets=kinds_of(settings), settings=partial(renderer_settings, settings)),
        depot=depot_of(settings, metrics.parts),
        pace=pace_of(settings),
        metrics=metrics,
        token=partial(secrets.token_hex, 16),
    )
