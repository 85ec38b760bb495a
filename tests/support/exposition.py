"""A farm's own metrics, filled with figures that no machine without a GPU has, and served as the farm serves them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from farm.telemetry import ApiMetrics, SchedulerMetrics
from ops.docs import metrics_of
from tests.support.prometheus import Target

RENDERER, FLEET = "farm/spot/1/0", "spot"

_LABELS = {
    "renderer": (RENDERER,),
    "fleet": (FLEET,),
    "team": ("first",),
    "status": ("200", "503"),
    "state": ("ready", "busy", "idle", "most", "active"),
    "doing": ("denoise", "load", "swap", "idle"),
    "reason": ("power", "thermal", "hardware"),
    "kind": ("corrected", "uncorrected", "checkpoint", "depot"),
    "outcome": ("succeeded", "failed", "reused"),
    "why": ("node",),
    "lane": ("interactive", "bulk"),
    "code": ("store_down", "fleet_down"),
}


@contextmanager
def exposed() -> Iterator[Sequence[Target]]:
    """Every counter goes up from scrape to scrape, every gauge has a value."""
    scheduler, api, over = SchedulerMetrics(), ApiMetrics(), threading.Event()
    scheduler.lead(1)

    def go_on() -> None:
        while not over.wait(0.2):
            _count(scheduler)
            _count(api)

    counting = threading.Thread(target=go_on)
    servers = [start_http_server(0, "127.0.0.1", owner.registry) for owner in (api, scheduler)]
    counting.start()
    try:
        names = ("api", "scheduler")
        yield [Target(name, int(server.server_port)) for name, (server, _) in zip(names, servers, strict=True)]
    finally:
        over.set()
        counting.join()
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()


def _count(owner: ApiMetrics | SchedulerMetrics) -> None:
    for metric in metrics_of(owner):
        names = metric._labelnames
        choices = [_LABELS.get(name, ("other",)) for name in names]
        for index in range(max((len(values) for values in choices), default=1)):
            labels = [values[index % len(values)] for values in choices]
            one = metric.labels(*labels) if labels else metric
            match one:
                case Counter():
                    one.inc()
                case Gauge():
                    one.set(0.5)
                case Histogram():
                    one.observe(0.2)
