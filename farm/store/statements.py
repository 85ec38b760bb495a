"""What every transaction of ours is made of."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from farm.core.ids import CampaignId, TeamId
from farm.store import rows, settle_sql
from farm.store.rows import NewEvent
from schemas.event import EventKind


class Statements:
    """Runs statements on one connection, inside the transaction that somebody else began and will end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        return self._connection.execute(statement, values).all()

    def _first(self, statement: Any, **values: object) -> Any | None:
        return self._connection.execute(statement, values).first()

    def _run(self, statement: Any, **values: object) -> int:
        """How many rows it touched."""
        return self._connection.execute(statement, values).rowcount


class LeaderStatements(Statements):
    """What locks rows of teams (charges, events) is kept until `flush`, and with it what was learned.

    So campaigns are locked before teams, in whatever order the leader does things, and of each table all is written
    at once.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._events: dict[TeamId, list[NewEvent]] = defaultdict(list)
        self._charges: dict[tuple[TeamId, CampaignId], tuple[float, float]] = {}
        self._learned: dict[tuple[TeamId, str, str], tuple[float, float, int]] = {}

    def _tell(self, team: TeamId, campaign: CampaignId, kind: EventKind, data: dict[str, object]) -> None:
        self._events[team].append((campaign, kind, data))

    def _charge(self, team: TeamId, campaign: CampaignId, gpu_seconds: float, money: float) -> None:
        before = self._charges.get((team, campaign), (0.0, 0.0))
        self._charges[team, campaign] = (before[0] + gpu_seconds, before[1] + money)

    def _learn(self, key: tuple[TeamId, str, str], step_seconds: float, squares: float, renders: int) -> None:
        if key in self._learned:  # one statement must not change a row twice
            self._write_learned()
        self._learned[key] = (step_seconds, squares, renders)

    def _write_learned(self) -> None:
        if self._learned:
            found = [(*key, *cost) for key, cost in sorted(self._learned.items())]
            names = ("team", "engine_key", "gpu", "step_seconds", "squares", "renders")
            self._run(settle_sql.LEARN, **{name: [row[n] for row in found] for n, name in enumerate(names)})
        self._learned.clear()

    def flush(self) -> None:
        """Last in the transaction."""
        self._write_learned()
        if self._charges:
            charged = sorted(self._charges.items())
            self._run(
                settle_sql.CHARGE,
                team=[team for (team, _), _ in charged],
                campaign=[campaign for (_, campaign), _ in charged],
                gpu_seconds=[gpu_seconds for _, (gpu_seconds, _) in charged],
                money=[money for _, (_, money) in charged],
            )
        for team in sorted(self._events):
            rows.add_events(self._connection, team, self._events[team])
        self._charges.clear()
        self._events.clear()
