"""Two stores that shall do the same: how to make them anew, and how to move their time on.

PostgreSQL's clock cannot be set, so its time moves on by moving every moment in its tables back.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import psycopg

from farm.core.ids import RendererName, TeamId
from farm.core.records import TeamRow
from farm.ports import ApiStore, SchedulerStore
from farm.store.memory import MemoryStore
from farm.store.operators import hold_renderer, release_renderer
from tests.support.parts import Database

TEAMS = (TeamId(1), TeamId(2))
HOUR = timedelta(hours=1)
BEGIN = datetime(2027, 1, 3, tzinfo=UTC)
"""Of the twin's time: early in a month, so that hours may pass without another month."""

MONTH = timedelta(days=31)
TABLES = [
    "event",
    "attempt",
    "outcome",
    "picture",
    "shard",
    "campaign",
    "style",
    "lora",
    "checkpoint",
    "source",
    "api_key",
    "spend",
    "render_cost",
    "load_cost",
    "price",
    "renderer_health",
    "farm_view",
    "tombstone",
    "leader",
    "renderer",
    "team",
]


class Backstage(Protocol):
    """What operators and time do to a store."""

    def pass_(self, hours: int) -> None: ...

    def next_month(self) -> None: ...

    def set_team(self, team: TeamRow) -> None: ...

    def set_price(self, gpu: str, per_hour: float) -> None: ...

    def hold(self, name: RendererName, why: str) -> None: ...

    def let_go(self, name: RendererName) -> None: ...


class MemoryBackstage:
    def __init__(self) -> None:
        self._ahead = BEGIN - datetime.now(UTC)
        self.store = MemoryStore(clock=lambda: datetime.now(UTC) + self._ahead)
        for team in TEAMS:
            self.store.add_team(team_row(team))
        self.set_team = self.store.set_limits
        self.set_price = self.store.set_price
        self.hold = self.store.hold_renderer
        self.let_go = self.store.release_renderer

    def pass_(self, hours: int) -> None:
        self._ahead += hours * HOUR

    def next_month(self) -> None:
        self._ahead += MONTH


class PostgresBackstage:
    def __init__(self, database: Database) -> None:
        self._owner = database.owner
        self._connection = psycopg.connect(database.superuser, autocommit=True)
        # The rows of these tables refer to one another; what is deleted here is deleted everywhere.
        self._run("SET session_replication_role = replica")
        self._moments = self._moments_of_tables()
        self._run(";".join(f"DELETE FROM {table}" for table in TABLES))
        self._run("ALTER TABLE shard ALTER COLUMN shard_id RESTART")
        for team in TEAMS:
            self._run("INSERT INTO team (team_id, name) VALUES (%s, %s)", team, f"team {team}")
            self.set_team(team_row(team))

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str, *values: object) -> None:
        self._connection.execute(statement.encode(), values or None)

    def _moments_of_tables(self) -> dict[str, list[str]]:
        """Columns that hold a moment which the database itself has set."""
        found = self._connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND data_type = 'timestamp with time zone' AND table_name = ANY(%s) "
            "AND (table_name, column_name) NOT IN (('campaign', 'deadline'), ('lora', 'expires_at'))",
            [TABLES],
        ).fetchall()
        return {table: [column for owner, column in found if owner == table] for table in {row[0] for row in found}}

    def pass_(self, hours: int) -> None:
        self._shift(hours * HOUR)

    def next_month(self) -> None:
        self._shift(MONTH)
        self._run("UPDATE spend SET month = month - interval '1 month'")

    def _shift(self, by: timedelta) -> None:
        seconds = f"{by.total_seconds():.0f}"
        moved = {
            table: [f"{c} = {c} - interval '{seconds} s'" for c in found] for table, found in self._moments.items()
        }
        moved["campaign"].append(f"position = position - {seconds}")
        self._run(";".join(f"UPDATE {table} SET {', '.join(found)}" for table, found in moved.items()))

    def set_team(self, team: TeamRow) -> None:
        self._run(
            "UPDATE team SET max_renders = %s, weight = %s, quota = %s, burst = %s, budget = %s, retention_days = %s "
            "WHERE team_id = %s",
            team.max_renders,
            team.weight,
            team.quota,
            team.burst,
            None if team.budget is None else team.budget.model_dump_json(),
            team.retention_days,
            team.id,
        )

    def set_price(self, gpu: str, per_hour: float) -> None:
        self._run(
            "INSERT INTO price VALUES (%s, %s) ON CONFLICT (gpu) DO UPDATE SET per_hour = excluded.per_hour",
            gpu,
            per_hour,
        )

    def hold(self, name: RendererName, why: str) -> None:
        hold_renderer(self._owner, name, why)

    def let_go(self, name: RendererName) -> None:
        release_renderer(self._owner, name)


def team_row(team: TeamId, **changes: Any) -> TeamRow:
    return TeamRow(team, f"team {team}", 1000, **changes)


@dataclass
class Side:
    """One of the two stores."""

    api: ApiStore
    store: SchedulerStore
    backstage: Backstage


def memory_side() -> tuple[Side, MemoryStore]:
    backstage = MemoryBackstage()
    return Side(backstage.store, backstage.store, backstage), backstage.store
