"""The store's twin in memory: the same promises, for tests and simulations.

One lock stands for the database: a transaction holds it from beginning to end, so transactions are serial, and what
one wrote is taken back when it raises.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from farm.core.errors import StoreDown
from farm.core.ids import CampaignId, KeyId, TeamId
from farm.core.records import (
    KeyRow,
    OutcomeRow,
    RendererRow,
    TeamRow,
)
from farm.store.memory_tx import MemoryTx, Team, now
from schemas.campaign import CampaignState
from schemas.event import EventKind


class MemoryStore:
    """`farm.ports.ApiStore` in memory. What the scheduler would do to it are methods of its own, further down."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._teams: dict[TeamId, Team] = {}
        self._keys: dict[bytes, KeyRow] = {}
        self._seen: dict[TeamId, int] = defaultdict(int)
        self._renderers: dict[str, RendererRow] = {}
        self.down = False

    def ready(self) -> None:
        if self.down:
            raise StoreDown("PostgreSQL does not answer.")

    @contextmanager
    def as_team(self, team: TeamId) -> Iterator[MemoryTx]:
        self.ready()
        with self._lock:
            before = self._teams[team].copy()
            try:
                yield MemoryTx(self._teams[team], list(self._renderers.values()))
            except BaseException:
                self._teams[team] = before
                raise
            self._news.notify_all()

    def key_owner(self, digest: bytes) -> KeyRow | None:
        self.ready()
        with self._lock:
            return self._keys.get(digest)

    def wait(self, timeout: timedelta) -> frozenset[TeamId]:
        self.ready()
        with self._news:
            self._news.wait_for(self._with_news, timeout.total_seconds())
            teams = self._with_news()
            for team in teams:
                self._seen[team] = self._teams[team].events[-1].id
            return teams

    def _with_news(self) -> frozenset[TeamId]:
        return frozenset(t for t, team in self._teams.items() if team.events and team.events[-1].id > self._seen[t])

    def close(self) -> None:
        """Nothing is held."""

    # what an administrator and the scheduler do
    def add_team(self, team: TeamRow) -> None:
        with self._lock:
            self._teams[team.id] = Team(team)

    def add_key(self, team: TeamId, digest: bytes, name: str = "key") -> None:
        with self._lock:
            self._keys[digest] = KeyRow(KeyId(len(self._keys) + 1), team, name, now())

    def revoke_key(self, digest: bytes) -> None:
        with self._lock:
            self._keys.pop(digest, None)

    def put_renderer(self, renderer: RendererRow) -> None:
        with self._lock:
            self._renderers[renderer.name] = renderer

    def lease(self, team: TeamId, campaign: CampaignId, shards: int = 1) -> None:
        """Marks the first *shards* ready shards as leased."""
        with self._lock:
            old = self._teams[team].campaigns[campaign]
            ready = [s for s in old.shards if s.state == "ready"][:shards]
            new = tuple(replace(s, state="leased") if s in ready else s for s in old.shards)
            self._teams[team].campaigns[campaign] = replace(old, shards=new)

    def settle(self, team: TeamId, outcomes: Sequence[OutcomeRow]) -> None:
        """Writes outcomes of one campaign, and ends it when they were the last. The first outcome of a render stays."""
        with self.as_team(team) as tx:
            campaign = outcomes[0].campaign
            old = self._teams[team].campaigns[campaign]
            new = replace(old, outcomes={o.ordinal: o for o in outcomes} | old.outcomes)
            self._teams[team].campaigns[campaign] = new
            tx.add_event(EventKind.RENDERS_SETTLED, campaign, {"renders": len(new.outcomes) - len(old.outcomes)})
            if len(new.outcomes) == new.row.renders:
                tx.move(campaign, frm=[CampaignState.ACTIVE, CampaignState.PAUSED], to=CampaignState.DONE)
