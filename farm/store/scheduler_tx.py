"""What the leader may do in one transaction."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from farm.core.placement import Placed, Waiting
from farm.core.plan import Held
from farm.core.records import CheckpointRow, Heartbeat, LoraRow, QueueDepth
from farm.core.settle import NewOutcome, Settled, ShardRow
from farm.core.shard import ranges_of, size_of
from farm.store import rows, sql
from schemas.campaign import CampaignState, ResolvedCampaign
from schemas.event import EventKind
from schemas.report import Hello

_Event = tuple[CampaignId, EventKind, dict[str, object]]


class PostgresSchedulerTx:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        return self._connection.execute(statement, values).all()

    def now(self) -> datetime:
        return self._connection.execute(sql.NOW).scalar_one()  # type: ignore[no-any-return]  # timestamptz

    # looking

    def waiting(self, per_queue: int) -> tuple[list[Waiting], int]:
        found = self._all(sql.WAITING, per_queue=per_queue)
        return [Waiting(ShardId(row[0]), *row[1:6]) for row in found], found[0].total if found else 0

    def held(self) -> list[Held]:
        return [Held(ShardId(row[0]), Session(row[1]), Fence(row[2]), *row[3:]) for row in self._all(sql.HELD)]

    def depths(self) -> list[QueueDepth]:
        return [QueueDepth(*row) for row in self._all(sql.DEPTHS)]

    def resolved(self, campaign: CampaignId) -> ResolvedCampaign:
        return ResolvedCampaign.model_validate(
            self._connection.execute(sql.RESOLVED, {"campaign": campaign}).scalar_one()
        )

    def checkpoint(self, team: TeamId, digest: str) -> CheckpointRow:
        found = self._all(sql.CHECKPOINT, team=team, digest=digest)
        if not found:
            raise NotFound(f"The team has no checkpoint {digest[:12]}.")
        return rows.checkpoint(found[0])

    def loras(self, team: TeamId, digests: Sequence[str]) -> dict[str, LoraRow]:
        found = self._all(sql.LORAS, team=team, digests=list(digests))
        return {row.digest: rows.lora(row) for row in found}

    def pictures(self, team: TeamId, fingerprints: Sequence[str]) -> dict[str, int]:
        found = self._all(sql.PICTURES, team=team, fingerprints=[bytes.fromhex(f) for f in fingerprints])
        return {row[0]: row[1] for row in found}

    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(row[0] for row in self._all(sql.KEYS_IN_USE, keys=list(keys)))

    # renderer sessions

    def greet(self, hello: Hello, ttl: timedelta) -> None:
        values = hello.model_dump(include={"session", "name", "gpu", "node", "numerics"})
        self._connection.execute(sql.GREET, {**values, "ttl": ttl})
        self._connection.execute(sql.END_FORMER, {"name": hello.name, "session": hello.session})

    def heartbeat(self, beats: Sequence[Heartbeat], ttl: timedelta) -> None:
        fields = ("session", "state", "doing", "waiting", "checkpoint")
        values = {field: [getattr(beat, field) for beat in beats] for field in fields}
        self._connection.execute(sql.HEARTBEAT, {**values, "ttl": ttl})

    def end_absent(self, prefix: str, names: Sequence[RendererName]) -> None:
        self._connection.execute(sql.END_ABSENT, {"prefix": prefix, "names": list(names)})

    def end_sessions(self, sessions: Sequence[Session]) -> None:
        self._connection.execute(sql.END_SESSIONS, {"sessions": list(sessions)})

    # shards

    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        by_shard = {p.shard: p for p in placed}
        found = self._all(sql.TAKE, shards=list(by_shard), sessions=[p.session for p in by_shard.values()])
        return [(rows.shard(row), by_shard[ShardId(row.shard_id)]) for row in found]

    def lock(self, shards: Sequence[ShardId]) -> dict[ShardId, ShardRow]:
        return {ShardId(row.shard_id): rows.shard(row) for row in self._all(sql.LOCK, shards=list(shards))}

    def put_back(self, shard: ShardRow, *, lost: int) -> None:
        self._connection.execute(sql.PUT_BACK, {"shard": shard.id, "fence": shard.fence, "lost": lost})

    def learn(self, team: TeamId, engine_key: str, *, step_seconds: float, renders: int) -> None:
        values = {"team": team, "engine_key": engine_key, "seconds": step_seconds, "renders": renders}
        self._connection.execute(sql.LEARN, values)

    def write(self, settled: Sequence[Settled]) -> list[str]:
        outcomes = [outcome for one in settled for outcome in one.outcomes]
        pictures, unwanted = self._add_pictures([o for o in outcomes if o.picture is not None])
        if outcomes:
            self._connection.execute(sql.ADD_OUTCOMES, _as_json(_outcome_columns(outcomes, pictures)))
        self._add_attempts(settled)
        self._connection.execute(sql.SHRINK, _shard_columns(settled))
        for one in settled:
            for child in one.children:
                self._add_child(one.shard, child)
        events = _settled_events(settled)
        emptied = {one.shard.campaign for one in settled if not one.todo}
        self._finish(sorted(emptied), events)
        return unwanted

    def finish_cancelled(self) -> int:
        campaigns = [CampaignId(row[0]) for row in self._all(sql.CANCELLING)]
        if not campaigns:
            return 0
        self._connection.execute(sql.CANCEL_READY, {"campaigns": campaigns})
        return self._finish(campaigns, [])

    # parts

    def _add_pictures(self, outcomes: Sequence[NewOutcome]) -> tuple[dict[tuple[TeamId, str], int], list[str]]:
        """Picture ids by (team, fingerprint), and the keys of objects that lost to an earlier one."""
        if not outcomes:
            return {}, []
        made = [(o.team, o.fingerprint, o.picture) for o in outcomes if o.picture is not None]
        values = {
            "team": [team for team, _, _ in made],
            "fingerprint": [fingerprint for _, fingerprint, _ in made],
            "sha256": [picture.sha256 for _, _, picture in made],
            **{name: [getattr(p, name) for _, _, p in made] for name in ("key", "bytes", "width", "height", "format")},
        }
        found = self._connection.execute(sql.ADD_PICTURES, _as_json(values)).all()
        ids = {(TeamId(row[0]), bytes(row[1]).hex()): row[3] for row in found}
        return ids, [row[2] for row in found if not row[4]]

    def _add_attempts(self, settled: Sequence[Settled]) -> None:
        tries = [t for one in settled for t in one.failed_tries]
        if tries:
            values = {
                "shards": [t.shard for t in tries],
                "ordinal": [t.ordinal for t in tries],
                "kind": [str(t.failure.kind) for t in tries],
                "code": [t.failure.code for t in tries],
                "detail": [t.failure.detail for t in tries],
            }
            self._connection.execute(sql.ADD_ATTEMPTS, values)

    def _add_child(self, parent: ShardRow, child: Any) -> None:
        values = {
            "shard": parent.id,
            "state": child.state,
            "ready_at": child.ready_at,
            "tries": child.tries,
            "lost": child.lost,
            "todo": rows.multirange(child.todo),
            "renders": size_of(child.todo),
        }
        self._connection.execute(sql.ADD_CHILD, values)

    def _finish(self, campaigns: Sequence[CampaignId], events: list[tuple[TeamId, _Event]]) -> int:
        """Ends the campaigns that are through, and writes every event of the transaction, team by team."""
        ended = self._all(sql.FINISH, campaigns=list(campaigns)) if campaigns else []
        for team, campaign, state in ended:
            data: dict[str, object] = {"state": str(CampaignState(state))}
            events.append((TeamId(team), (CampaignId(campaign), EventKind.CAMPAIGN_STATE, data)))
        by_team: dict[TeamId, list[_Event]] = defaultdict(list)
        for team, event in events:
            by_team[team].append(event)
        for team in sorted(by_team):
            rows.add_events(self._connection, team, by_team[team])
        return len(ended)


def _as_json(columns: Mapping[str, object]) -> dict[str, str]:
    """psycopg writes out arrays in Python, element by element; a list as JSON costs a tenth of it."""
    return {name: json.dumps(values) for name, values in columns.items()}


def _outcome_columns(outcomes: Sequence[NewOutcome], pictures: dict[tuple[TeamId, str], int]) -> dict[str, object]:
    def picture(o: NewOutcome) -> int | None:
        return pictures[o.team, o.fingerprint] if o.picture is not None else o.picture_id

    return {
        "team": [o.team for o in outcomes],
        "campaign": [o.campaign for o in outcomes],
        "ordinal": [o.ordinal for o in outcomes],
        "outcome": ["succeeded" if o.succeeded else "failed" for o in outcomes],
        "picture": [picture(o) for o in outcomes],
        "reused": [o.picture_id is not None for o in outcomes],
        "tries": [o.tries for o in outcomes],
        "gpu_seconds": [o.gpu_seconds for o in outcomes],
        "renderer": [o.renderer for o in outcomes],
        "numerics": [o.numerics for o in outcomes],
        "code": [o.failure.code if o.failure else None for o in outcomes],
        "detail": [o.failure.detail if o.failure else None for o in outcomes],
    }


def _shard_columns(settled: Sequence[Settled]) -> dict[str, object]:
    return {
        "shards": [one.shard.id for one in settled],
        "todo": [rows.multirange(one.todo) for one in settled],
        "renders": [size_of(one.todo) for one in settled],
        "succeeded": [sum(o.succeeded for o in one.outcomes) for one in settled],
        "failed": [sum(not o.succeeded for o in one.outcomes) for one in settled],
        "reused": [sum(o.picture_id is not None for o in one.outcomes) for one in settled],
    }


def _settled_events(settled: Sequence[Settled]) -> list[tuple[TeamId, _Event]]:
    """One event a campaign, however many renders: a million renders must not be a million events."""
    by_campaign: dict[tuple[TeamId, CampaignId], list[NewOutcome]] = defaultdict(list)
    for one in settled:
        if one.outcomes:
            by_campaign[one.shard.team, one.shard.campaign].extend(one.outcomes)
    return list(_events(by_campaign))


def _events(
    by_campaign: dict[tuple[TeamId, CampaignId], list[NewOutcome]],
) -> Iterator[tuple[TeamId, _Event]]:
    for (team, campaign), outcomes in sorted(by_campaign.items()):
        data: dict[str, object] = {
            name: [list(part) for part in ranges_of([o.ordinal for o in outcomes if o.succeeded == good])]
            for name, good in (("succeeded", True), ("failed", False))
        }
        yield team, (campaign, EventKind.RENDERS_SETTLED, data)
