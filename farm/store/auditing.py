"""What the audit reads, as the owner of the tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from farm.core.ids import CampaignId, Ordinal, TeamId
from farm.core.records import Ledger, PictureFile, TriesRow
from farm.core.shard import Ranges
from farm.store import rows, sql
from farm.store.postgres import connect, store_errors
from farm.store.scheduler_tx import PostgresSchedulerTx
from schemas.campaign import CampaignState

PATIENT = text("SET LOCAL statement_timeout = '15min'")
LOST = text("SELECT count(*) FROM picture WHERE lost_at IS NOT NULL")

# The fingerprint is how a picture is found again, so another one takes its place, which no recipe has.
FORGET = text("""
UPDATE picture SET lost_at = now(), fingerprint = sha256(convert_to('lost picture ' || picture_id, 'UTF8'))
 WHERE key = ANY(CAST(:keys AS text[])) AND lost_at IS NULL
""")
LAST_PICTURE = text("SELECT coalesce(max(picture_id), 0) FROM picture")

# One that is pruned, or may be by now, has lost outcomes rightly.
CAMPAIGNS = text("""
SELECT c.campaign_id, c.team_id, c.state, c.renders, c.created_at
  FROM campaign c JOIN team t USING (team_id)
 WHERE c.campaign_id > :after AND c.pruned_at IS NULL
   AND (c.finished_at IS NULL OR t.retention_days IS NULL
        OR c.finished_at > clock_timestamp() - make_interval(days => t.retention_days))
 ORDER BY c.campaign_id LIMIT :limit
""")

OUTCOMES = text("""
SELECT outcome, range_agg(int8range(ordinal, ordinal + 1)), count(*), count(*) FILTER (WHERE team_id <> :team)
  FROM outcome WHERE campaign_id = :campaign GROUP BY outcome
""")

TO_DO = text("""
SELECT state = 'cancelled', range_agg(todo), sum(size)::bigint
  FROM shard, LATERAL (SELECT sum(upper(part) - lower(part)) AS size FROM unnest(todo) AS part) AS sized
 WHERE campaign_id = :campaign AND state <> 'done' AND NOT isempty(todo) GROUP BY 1
""")

COUNTED = text("SELECT coalesce(sum(succeeded + failed), 0) FROM shard WHERE campaign_id = :campaign")

TOLD = text("""
SELECT told.outcome, range_agg(int8range((part->>0)::bigint, (part->>1)::bigint)),
       sum((part->>1)::bigint - (part->>0)::bigint)::bigint
  FROM event, (VALUES ('succeeded'), ('failed')) AS told (outcome), jsonb_array_elements(data->told.outcome) AS part
 WHERE campaign_id = :campaign AND kind = 'renders.settled' GROUP BY told.outcome
""")

# What a quarantine forgave counted until then.
TRIES = text("""
WITH failed AS (
  SELECT ordinal, count(*) FILTER (WHERE NOT forgiven) AS counted, count(*) FILTER (WHERE forgiven) AS forgiven
    FROM attempt WHERE campaign_id = :campaign AND ordinal IS NOT NULL GROUP BY ordinal)
SELECT ordinal, o.outcome = 'succeeded', o.tries, coalesce(counted, 0), coalesce(forgiven, 0)
  FROM outcome o LEFT JOIN failed USING (ordinal)
 WHERE o.campaign_id = :campaign AND NOT o.reused
   AND o.tries <> (o.outcome = 'succeeded')::int + coalesce(counted, 0)
""")

HOMELESS = text("""
SELECT campaign_id, count(*) FROM outcome o
 WHERE NOT EXISTS (SELECT FROM campaign c WHERE c.campaign_id = o.campaign_id) GROUP BY campaign_id
""")

# Every partition must have it: a table that was attached by hand may not.
WITHOUT_KEY = text("""
SELECT t.relname FROM pg_class t
 WHERE (t.oid = 'outcome'::regclass
        OR t.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outcome'::regclass))
   AND NOT EXISTS (
     SELECT FROM pg_index i
      WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
              WHERE a.attrelid = t.oid AND a.attnum = ANY(i.indkey)) = ARRAY['campaign_id', 'ordinal'])
 ORDER BY t.relname
""")

BEYOND = text("SELECT count(*) FROM (SELECT FROM outcome_beyond LIMIT 1000) AS first_ones")

PICTURES = text("""
SELECT picture_id, key, encode(sha256, 'hex'), bytes, renditions FROM picture
 WHERE picture_id > :after AND picture_id <= :last AND lost_at IS NULL ORDER BY picture_id LIMIT :limit
""")
SAMPLE = text("""
SELECT picture_id, key, encode(sha256, 'hex'), bytes, renditions FROM picture
 WHERE picture_id <= :last AND lost_at IS NULL ORDER BY random() LIMIT :limit
""")
TOMBSTONES = text("SELECT key, found_at FROM tombstone WHERE key = ANY(CAST(:keys AS text[]))")

# A lost lease is on record for its whole shard, and which ordinals that had is known no more: one explains any of its
# campaign's.
UNEXPLAINED = text("""
SELECT g.key FROM unnest(CAST(:keys AS text[]), CAST(:campaigns AS bigint[]), CAST(:ordinals AS bigint[]))
                  AS g (key, campaign_id, ordinal)
  JOIN outcome o USING (campaign_id, ordinal) JOIN picture p USING (picture_id)
 WHERE p.key <> g.key AND p.key LIKE 'outputs/%/' || g.campaign_id || '/' || g.ordinal || '-%' AND NOT o.reused
   AND NOT EXISTS (SELECT FROM attempt a WHERE a.campaign_id = g.campaign_id
                                           AND (a.ordinal IS NULL OR a.ordinal = g.ordinal))
   AND NOT EXISTS (SELECT FROM shard s WHERE s.campaign_id = g.campaign_id AND s.lost > 0)
""")


class AuditTx:
    """One look at everything, as it was at one moment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.now: datetime = connection.execute(sql.NOW).scalar_one()
        self.last_picture: int = connection.execute(LAST_PICTURE).scalar_one()

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        return self._connection.execute(statement, values).all()

    def ledgers(self) -> Iterator[tuple[Ledger, datetime]]:
        """Every campaign that is not pruned, and when it was submitted."""
        after = 0
        while page := self._all(CAMPAIGNS, after=after, limit=1_000):
            for row in page:
                yield self._ledger(row), row.created_at
            after = page[-1].campaign_id

    def tries(self, campaign: CampaignId) -> list[TriesRow]:
        """Outcomes whose tries are not the failed ones on record that count, and their success."""
        return [TriesRow(campaign, Ordinal(row[0]), *row[1:]) for row in self._all(TRIES, campaign=campaign)]

    def homeless(self) -> dict[CampaignId, int]:
        """Outcomes of campaigns that do not exist."""
        return {CampaignId(row[0]): row[1] for row in self._all(HOMELESS)}

    def without_key(self) -> list[str]:
        """Tables of outcomes in which a render could have two."""
        return [row[0] for row in self._all(WITHOUT_KEY)]

    def beyond(self) -> int:
        """Outcomes outside the partitions that were made for them, a thousand at most."""
        return int(self._connection.execute(BEYOND).scalar_one())

    def _ledger(self, row: Any) -> Ledger:
        campaign = row.campaign_id
        outcomes = {r[0]: r for r in self._all(OUTCOMES, campaign=campaign, team=row.team_id)}
        to_do = {r[0]: r for r in self._all(TO_DO, campaign=campaign)}
        told = {r[0]: r for r in self._all(TOLD, campaign=campaign)}
        return Ledger(
            campaign=CampaignId(campaign),
            team=TeamId(row.team_id),
            state=CampaignState(row.state),
            renders=row.renders,
            succeeded=_ranges(outcomes, "succeeded"),
            failed=_ranges(outcomes, "failed"),
            outcomes=sum(r[2] for r in outcomes.values()),
            strays=sum(r[3] for r in outcomes.values()),
            counted=self._connection.execute(COUNTED, {"campaign": campaign}).scalar_one(),
            open=_ranges(to_do, False),
            open_renders=to_do[False][2] if False in to_do else 0,
            cancelled=_ranges(to_do, True),
            cancelled_renders=to_do[True][2] if True in to_do else 0,
            told_succeeded=_ranges(told, "succeeded"),
            told_failed=_ranges(told, "failed"),
            told=sum(r[2] for r in told.values()),
        )


def _ranges(found: dict[Any, Any], name: object) -> Ranges:
    return rows.ranges(found[name][1]) if name in found else ()


def _file(row: Any) -> PictureFile:
    values = [*row[:4], rows.renditions(row[4])]
    return PictureFile(*values)


class AuditStore:
    """Reads as the owner of the tables, beside the farm's own processes. Every method raises `StoreDown`."""

    def __init__(self, owner_url: str) -> None:
        self._engine = connect(owner_url, pool=2)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def snapshot(self) -> Iterator[AuditTx]:
        """REPEATABLE READ: whatever is settled meanwhile, it is not seen."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with store_errors(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            connection.execute(PATIENT)
            yield AuditTx(connection)

    @contextmanager
    def begin(self) -> Iterator[PostgresSchedulerTx]:
        """What a leader may do in one transaction, for an operator who knows why."""
        with store_errors(), self._engine.begin() as connection:
            tx = PostgresSchedulerTx(connection)
            yield tx
            tx.flush()

    def pictures(self, *, after: int, last: int, limit: int) -> list[PictureFile]:
        """By id, from *after* (not included) to *last*."""
        return [_file(row) for row in self._all(PICTURES, after=after, last=last, limit=limit)]

    def sample(self, *, last: int, limit: int) -> list[PictureFile]:
        """So many pictures, drawn at random."""
        return [_file(row) for row in self._all(SAMPLE, last=last, limit=limit)]

    def forget(self, keys: Sequence[str]) -> int:
        """From now on no render takes these pictures over. Outcomes stay as they are. Returns how many were new."""
        with store_errors(), self._engine.begin() as connection:
            return connection.execute(FORGET, {"keys": sorted(keys)}).rowcount

    def lost(self) -> int:
        """How many were ever forgotten."""
        return int(self._all(LOST)[0][0])

    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(row[0] for row in self._all(sql.KEYS_IN_USE, keys=list(keys)))

    def tombstones_of(self, keys: Sequence[str]) -> dict[str, datetime]:
        """Since when it is known that nothing refers to each."""
        return {row[0]: row[1] for row in self._all(TOMBSTONES, keys=list(keys))}

    def unexplained(self, pictures: Sequence[tuple[str, CampaignId, Ordinal]]) -> frozenset[str]:
        """Which of these objects are second pictures of a render that had no reason to be rendered again."""
        values = {
            "keys": [key for key, _, _ in pictures],
            "campaigns": [campaign for _, campaign, _ in pictures],
            "ordinals": [ordinal for _, _, ordinal in pictures],
        }
        return frozenset(row[0] for row in self._all(UNEXPLAINED, **values))

    def _all(self, statement: Any, **values: object) -> Sequence[Any]:
        with store_errors(), self._engine.begin() as connection:
            connection.execute(PATIENT)
            return connection.execute(statement, values).all()
