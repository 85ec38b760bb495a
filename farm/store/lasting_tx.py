"""What the leader takes away, so that the farm lasts."""

from collections.abc import Sequence
from datetime import timedelta

from farm.core.garbage import folder_of
from farm.core.ids import CampaignId, TeamId
from farm.core.records import Tombstone
from farm.store import lasting_sql, rows
from farm.store.statements import Statements


class Lasting(Statements):
    def doomed(self, keys: Sequence[str], reason: str) -> None:
        if keys:
            self._run(lasting_sql.DOOMED, keys=list(keys), reason=reason)

    def tombstones(self, older: timedelta, limit: int) -> list[Tombstone]:
        return [Tombstone(*row) for row in self._all(lasting_sql.TOMBSTONES, older=older, limit=limit)]

    def spare(self, keys: Sequence[str]) -> None:
        self._run(lasting_sql.SPARE, keys=list(keys))

    def picture_count(self) -> int:
        return int(self._all(lasting_sql.PICTURE_COUNT)[0][0])

    def prunable(self, limit: int) -> list[tuple[TeamId, CampaignId]]:
        return [(TeamId(row[0]), CampaignId(row[1])) for row in self._all(lasting_sql.PRUNABLE, limit=limit)]

    def prune(self, campaign: CampaignId, limit: int) -> tuple[int, list[str]]:
        gone = self._all(lasting_sql.PRUNE_OUTCOMES, campaign=campaign, limit=limit)
        pictures = sorted({row[0] for row in gone if row[0] is not None})
        locked = [row[0] for row in self._all(lasting_sql.LOCK_PICTURES, pictures=pictures)] if pictures else []
        gone_pictures = self._all(lasting_sql.PRUNE_PICTURES, pictures=locked) if locked else []
        self._run(lasting_sql.PRUNED, campaign=campaign)
        return len(gone), sorted(key for row in gone_pictures for key in folder_of(row[0], rows.renditions(row[1])))

    def sweep(self, *, events: timedelta, attempts: timedelta, sessions: timedelta, limit: int) -> dict[str, int]:
        return {
            "events": self._run(lasting_sql.SWEEP_EVENTS, older=events, limit=limit),
            "attempts": self._run(lasting_sql.SWEEP_ATTEMPTS, older=attempts, limit=limit),
            "sessions": self._run(lasting_sql.SWEEP_SESSIONS, older=sessions, limit=limit),
        }
