"""The depot as the scheduler sees it: asked beside the loop, so that a store that hangs costs no heartbeat."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from farm.core.errors import DepotDown
from farm.core.garbage import folder_of
from farm.ports import Depot
from farm.telemetry import SchedulerMetrics
from schemas.report import Published

_log = structlog.get_logger()


class DepotWatch:
    """One thread: checks and deletions wait for one another, the scheduler for neither."""

    def __init__(self, depot: Depot, metrics: SchedulerMetrics, *, patience: float = 1.0) -> None:
        """*patience*: seconds that an answer is waited for, once; until it comes the depot counts as down."""
        self._depot, self._metrics, self._patience = depot, metrics, patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="depot")
        self._asked: Future[bool] | None = None

    def answers(self) -> bool:
        """While it does not, shards wait: a render whose picture cannot be kept is GPU time thrown away."""
        patience = 0.0  # for an answer that was waited for before
        if self._asked is None:
            self._asked, patience = self._thread.submit(self._ready), self._patience
        try:
            verdict = self._asked.result(patience)
        except TimeoutError:
            _log.warning("depot_hangs")
            return False
        self._asked = None
        return verdict

    def drop(self, pictures: Sequence[Published]) -> None:
        """Deletes pictures that nothing refers to, with what lies beside them."""
        if pictures:
            self._thread.submit(self._delete, list(pictures))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> bool:
        try:
            self._depot.ready()
        except DepotDown as error:
            self._metrics.unavailable.labels(error.code).inc()
            _log.warning("depot_down", detail=error.detail)
            return False
        return True

    def _delete(self, pictures: Sequence[Published]) -> None:
        try:
            self._depot.delete([key for one in pictures for key in folder_of(one.key, one.renditions)])
            self._metrics.upkeep.unwanted.inc(len(pictures))
        except DepotDown as error:
            _log.warning("unwanted_pictures_stay", count=len(pictures), detail=error.detail)
