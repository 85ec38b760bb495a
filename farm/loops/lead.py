"""Leading by a lease: one scheduler decides, the others stand by."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from farm.core.errors import FarmError, LeadershipLost
from farm.core.lease import Leadership
from farm.ports import SchedulerStore
from farm.telemetry import SchedulerMetrics

_log = structlog.get_logger()


class Lead:
    """Takes the lead when it is free, keeps it while it can. The epoch in the database has the last word."""

    def __init__(
        self,
        *,
        holder: str,
        store: SchedulerStore,
        ttl: timedelta,
        metrics: SchedulerMetrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._holder, self._store, self._ttl = holder, store, ttl
        self._metrics, self._monotonic = metrics, monotonic
        self._held: Leadership | None = None
        self._since = self._next_renewal = self._until = 0.0

    @property
    def held(self) -> Leadership | None:
        return self._held

    @property
    def mine(self) -> Leadership:
        """Raises `LeadershipLost` when there is none."""
        if self._held is None:
            raise LeadershipLost("This scheduler does not lead.")
        return self._held

    def led_for(self, time: timedelta) -> bool:
        """Whether it has led for longer than *time*."""
        return self._held is not None and self._monotonic() - self._since > time.total_seconds()

    def keep(self) -> bool:
        """Elects or renews when it is due; whether this scheduler leads now."""
        asked = self._monotonic()
        if self._held is None:
            self._held = self._store.elect(self._holder, self._ttl)
            if self._held is not None:
                self._since, self._until = self._monotonic(), asked + self._ttl.total_seconds()
                self._metrics.lead(self._held.epoch, self.surely)
                _log.info("leading", epoch=self._held.epoch, holder=self._holder)
                self._due()
        elif asked >= self._next_renewal:
            if self._store.renew(self._held, self._ttl):
                self._until = asked + self._ttl.total_seconds()
            else:
                _log.warning("leadership_expired", epoch=self._held.epoch)
                self.drop()
            self._due()
        return self._held is not None

    def surely(self) -> bool:
        """Whether nobody else can lead yet. For any thread: this one may hang in a call, or not reach the database."""
        return self._held is not None and self._monotonic() < self._until

    def drop(self) -> None:
        """It is over; the database knows already, or will when the time is out."""
        self._held = None
        self._metrics.step_down()

    def resign(self) -> None:
        """Another may lead at once."""
        if self._held is not None:
            try:
                self._store.resign(self._held)
            except FarmError as error:
                _log.warning("resign_failed", detail=error.detail)
            self.drop()

    def _due(self) -> None:
        self._next_renewal = self._monotonic() + self._ttl.total_seconds() / 3
