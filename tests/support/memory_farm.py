"""The verbs of `Farm` for the store's twin in memory."""

from dataclasses import dataclass, replace
from datetime import timedelta

from farm.core.ids import TeamId
from farm.core.records import TeamRow
from farm.store.memory import MemoryStore
from schemas.campaign import Budget
from tests.support.store_farm import OURS, THEIRS, TTL, Farm


@dataclass
class MemoryFarm(Farm):
    memory: MemoryStore

    def later(self, **time: int) -> None:
        """What has happened moves back; sessions and the leader live on, as on the other side."""
        ago = timedelta(**time) if time else timedelta(hours=1)
        with self.memory.change() as state:
            for shard in list(state.shards.rows.values()):
                state.shards.put(shard.id, shard._replace(ready_at=shard.ready_at - ago))
            for found in list(state.campaigns.rows.values()):
                ended = found.row.finished_at
                row = replace(found.row, finished_at=ended and ended - ago)
                state.campaigns.put(found.row.id, found._replace(row=row))
            for key, event in list(state.events.rows.items()):
                state.events.put(key, replace(event, at=event.at - ago))
            for attempt in list(state.attempts.rows.values()):
                state.attempts.put(attempt.id, attempt._replace(at=attempt.at - ago))
            for session in list(state.sessions.rows.values()):
                ended = session.ended_at
                state.sessions.put(session.session, session._replace(ended_at=ended and ended - ago))

    def limit(self, team: TeamId, *, budget: Budget | None = None, retention_days: int | None = None) -> None:
        row = self.memory.state.team(team).row
        self.memory.set_limits(replace(row, budget=budget, retention_days=retention_days))


def memory_farm() -> MemoryFarm:
    store = MemoryStore()
    for team, name in ((OURS, "ours"), (THEIRS, "theirs")):
        store.add_team(TeamRow(team, name, 5_000_000))
    leadership = store.elect("first", TTL)
    if leadership is None:
        raise RuntimeError("Nobody else stands.")
    return MemoryFarm(store, store, "", leadership, store)
