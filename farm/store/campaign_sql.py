"""The API's statements about campaigns. Each names its team, whatever row-level security adds later."""

from sqlalchemy import text

from farm.store.sql import LANE

_COLUMNS = """campaign_id, team_id, name, submit_hash, state, renders, priority, parent, created_at, finished_at,
       deadline, budget, lane, gpu, off_peak, position, paused_by, warnings, quote"""
_CAMPAIGN = f"SELECT {_COLUMNS} FROM campaign WHERE team_id = :team"  # noqa: S608  (a column list)
CAMPAIGN = text(f"{_CAMPAIGN} AND campaign_id = :campaign")
CAMPAIGN_BY_SUBMIT_KEY = text(f"{_CAMPAIGN} AND submit_key = :submit_key")
CAMPAIGNS = text(f"{_CAMPAIGN} AND campaign_id < :before ORDER BY campaign_id DESC LIMIT :limit")

ADD_CAMPAIGN = text(f"""
INSERT INTO campaign (campaign_id, team_id, name, submit_key, submit_hash, spec, resolved, renders, priority, parent,
                      deadline, budget, lane, gpu, off_peak, state, quote, position)
VALUES (:id, :team, :name, :submit_key, :submit_hash, CAST(:spec AS jsonb), CAST(:resolved AS jsonb), :renders,
        :priority, :parent, :deadline, CAST(:budget AS jsonb), :lane, :gpu, :off_peak, :state, CAST(:quote AS jsonb),
        extract(epoch FROM now()))
ON CONFLICT (team_id, submit_key) DO NOTHING
RETURNING {_COLUMNS}
""")  # noqa: S608
ADD_SHARDS = text("""
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, state, todo, place, renders, seconds,
                   step_seconds)
SELECT :team, :campaign, g.engine_key, g.checkpoint, :priority, g.state, CAST(g.todo AS int8multirange),
       lower(CAST(g.todo AS int8multirange)), CAST(g.renders AS int), CAST(g.seconds AS real),
       CAST(g.step_seconds AS float8)
  FROM ROWS FROM (
         json_array_elements_text(CAST(:todo AS json)),
         json_array_elements_text(CAST(:renders AS json)),
         json_array_elements_text(CAST(:engine_key AS json)),
         json_array_elements_text(CAST(:checkpoint AS json)),
         json_array_elements_text(CAST(:seconds AS json)),
         json_array_elements_text(CAST(:step_seconds AS json)),
         json_array_elements_text(CAST(:state AS json)))
       WITH ORDINALITY AS g (todo, renders, engine_key, checkpoint, seconds, step_seconds, state, number)
 ORDER BY g.number
""")

# The proof of the parent is of no use once its child is there.
SUPERSEDE = text("""
UPDATE campaign SET state = 'cancelling' WHERE team_id = :team AND campaign_id = :campaign
   AND state IN ('proofing', 'awaiting_approval') RETURNING 1
""")

SPEC = text("SELECT spec FROM campaign WHERE team_id = :team AND campaign_id = :campaign")
RESOLVED = text("SELECT resolved FROM campaign WHERE team_id = :team AND campaign_id = :campaign")

LOCK_CAMPAIGN = text("SELECT state FROM campaign WHERE team_id = :team AND campaign_id = :campaign FOR UPDATE")
MOVE = text("""
UPDATE campaign SET state = :to, paused_by = :paused_by WHERE team_id = :team AND campaign_id = :campaign
""")
# SKIP LOCKED: the scheduler locks shards first and campaigns after, we the other way round. What is skipped here, it
# cancels at its next tick.
CANCEL_OPEN = text("""
UPDATE shard SET state = 'cancelled' WHERE shard_id IN (
  SELECT shard_id FROM shard WHERE campaign_id = :campaign AND state IN ('ready', 'held') FOR UPDATE SKIP LOCKED)
""")
# The scheduler never locks what is held, unless the campaign is being cancelled.
APPROVE_HELD = text("""
UPDATE shard SET state = 'ready', ready_at = clock_timestamp() WHERE campaign_id = :campaign AND state = 'held'
""")
HAS_HELD = text("""
SELECT FROM shard WHERE team_id = :team AND campaign_id = :campaign AND state = 'held' LIMIT 1
""")

AMEND = text("""
UPDATE campaign
   SET priority = coalesce(CAST(:priority AS smallint), priority),
       deadline = coalesce(CAST(:deadline AS timestamptz), deadline), budget = coalesce(CAST(:budget AS jsonb), budget)
 WHERE team_id = :team AND campaign_id = :campaign AND state NOT IN ('cancelled', 'done') RETURNING 1
""")
REPOSITION = text("""
UPDATE campaign SET position = :position
 WHERE team_id = :team AND campaign_id = :campaign AND state NOT IN ('cancelled', 'done') RETURNING 1
""")
QUEUE = text(f"""
SELECT c.campaign_id, c.state, {LANE} AS lane, c.priority, c.position, c.deadline, c.off_peak, ready.renders,
       ready.seconds, leased.shards
  FROM campaign c
       CROSS JOIN LATERAL (
         SELECT coalesce(sum(s.renders), 0)::bigint AS renders,
                coalesce(sum(s.renders * s.seconds), 0)::float8 AS seconds
           FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'ready') AS ready
       CROSS JOIN LATERAL (
         SELECT count(*) AS shards FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'leased') AS leased
 WHERE c.team_id = :team AND c.state IN ('proofing', 'awaiting_approval', 'active', 'paused')
 ORDER BY {LANE} DESC, c.priority DESC, c.position, c.campaign_id
""")  # noqa: S608  ("interactive" sorts after "bulk")

COUNTS = text("""
SELECT campaign_id,
       coalesce(sum(renders) FILTER (WHERE state = 'leased'), 0) AS running,
       sum(succeeded) AS succeeded, sum(failed) AS failed,
       coalesce(sum(renders) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
       sum(reused) AS reused,
       coalesce(sum(renders) FILTER (WHERE state IN ('ready', 'held')), 0) AS queued
  FROM shard WHERE team_id = :team AND campaign_id = ANY(CAST(:campaigns AS bigint[])) GROUP BY campaign_id
""")
UNFINISHED = text("""
SELECT coalesce(sum(s.renders), 0) FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.team_id = :team AND s.state IN ('ready', 'leased', 'held')
   AND c.state IN ('active', 'paused', 'proofing', 'awaiting_approval')
""")

_OUTCOME = """SELECT o.campaign_id, o.ordinal, o.outcome, p.key, encode(p.sha256, 'hex') AS sha256, p.bytes, p.width,
       p.height, p.format, o.reused, o.code, o.detail, o.finished_at, o.numerics, p.renditions, p.measured
  FROM outcome o LEFT JOIN picture p USING (picture_id)
 WHERE o.team_id = :team AND o.campaign_id = :campaign"""
OUTCOMES = text(f"{_OUTCOME} AND o.ordinal >= :lo AND o.ordinal < :hi ORDER BY o.ordinal")
OUTCOMES_AFTER = text(f"{_OUTCOME} AND o.outcome = :outcome AND o.ordinal > :after ORDER BY o.ordinal LIMIT :limit")
OPEN_RANGES = text("""
SELECT greatest(lower(part), :lo) AS lo, least(upper(part), :hi) AS hi, s.state
  FROM shard s, unnest(s.todo * int8multirange(int8range(:lo, :hi))) AS part
 WHERE s.team_id = :team AND s.campaign_id = :campaign AND s.state <> 'done'
   AND s.todo && int8multirange(int8range(:lo, :hi))
 ORDER BY 1
""")

EVENTS = text("""
SELECT event_id, kind, campaign_id, data, at FROM event
 WHERE team_id = :team AND event_id > :after AND (CAST(:campaign AS bigint) IS NULL OR campaign_id = :campaign)
 ORDER BY event_id LIMIT :limit
""")
LAST_EVENT = text("SELECT event_id FROM team WHERE team_id = :team")

WARNINGS = text("""
SELECT w.code, said.detail
  FROM campaign c CROSS JOIN LATERAL unnest(c.warnings) WITH ORDINALITY AS w (code, number)
       CROSS JOIN LATERAL (
         SELECT e.data ->> 'detail' AS detail FROM event e
          WHERE e.campaign_id = c.campaign_id AND e.kind = 'campaign.warning' AND e.data ->> 'code' = w.code
          ORDER BY e.event_id DESC LIMIT 1) AS said
 WHERE c.team_id = :team AND c.campaign_id = :campaign
 ORDER BY w.number
""")

# what was spent, what waits, and why

SPENT = text("""
SELECT campaign_id, sum(gpu_seconds), sum(money) FROM spend
 WHERE team_id = :team AND campaign_id = ANY(CAST(:campaigns AS bigint[])) GROUP BY campaign_id
""")
TEAM_SPENT = text("""
SELECT coalesce(sum(gpu_seconds), 0), coalesce(sum(money), 0) FROM spend
 WHERE team_id = :team AND month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
""")
KNOWN = text("""
SELECT count(*) FROM picture WHERE team_id = :team AND fingerprint = ANY(CAST(:fingerprints AS bytea[]))
""")

# Of other teams only numbers: whose they are is not told.
STANDING = text("""
SELECT t.weight, t.vtime, coalesce(sum(open.seconds), 0)::float8, (t.team_id = :team)::int
  FROM team t LEFT JOIN (
         SELECT s.team_id, s.renders * s.seconds AS seconds FROM shard s JOIN campaign c USING (campaign_id)
          WHERE s.state = 'ready' AND c.state IN ('active', 'proofing')
         UNION ALL
         SELECT s.team_id, s.renders * s.seconds FROM shard s WHERE s.state = 'leased') AS open USING (team_id)
 WHERE t.team_id = :team OR open.team_id IS NOT NULL
 GROUP BY t.team_id ORDER BY (t.team_id = :team) DESC, t.vtime, t.weight, 3
""")

BACKING_OFF = text("""
SELECT min(ready_at), count(*) FROM shard
 WHERE team_id = :team AND campaign_id = :campaign AND state = 'ready' AND ready_at > clock_timestamp()
""")
RENDERERS_USED = text("""
SELECT count(DISTINCT session), count(DISTINCT session) FILTER (WHERE campaign_id = :campaign) FROM shard
 WHERE state = 'leased' AND team_id = :team
""")
OTHERS_WAITING = text("""
SELECT count(DISTINCT c.team_id) FROM campaign c CROSS JOIN LATERAL (
         SELECT FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'ready' LIMIT 1) AS any_ready
 WHERE c.state IN ('active', 'proofing') AND c.team_id <> :team
""")
WEIGHTS = text("""
SELECT digest FROM checkpoint WHERE team_id = :team AND digest = ANY(CAST(:digests AS text[]))
UNION SELECT digest FROM lora WHERE team_id = :team AND digest = ANY(CAST(:digests AS text[]))
""")
