"""Queues, shares and purses as the scheduler sees them, and what it does to campaigns and teams for their sake."""

from sqlalchemy import text

from farm.store.sql import LANE

# A loose index scan: in the index `shard_queue` from one engine key of an open campaign to the next, and of each only
# the first few shards. What it costs grows with the number of queues, not with that of the ready shards; and of one
# campaign it looks at so many at a time, or one with very many weights would hold up everybody.
QUEUES = text(f"""
WITH RECURSIVE keys AS (
  SELECT c.campaign_id, first.engine_key, 1 AS number
    FROM campaign c CROSS JOIN LATERAL (
           SELECT s.engine_key FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'ready'
            ORDER BY s.engine_key LIMIT 1) AS first
   WHERE c.state IN ('active', 'proofing')
  UNION ALL
  SELECT k.campaign_id, next.engine_key, k.number + 1
    FROM keys k CROSS JOIN LATERAL (
           SELECT s.engine_key FROM shard s
            WHERE s.campaign_id = k.campaign_id AND s.state = 'ready' AND s.engine_key > k.engine_key
            ORDER BY s.engine_key LIMIT 1) AS next
   WHERE k.number < :per_campaign)
SELECT c.team_id, k.campaign_id, k.engine_key, head.checkpoint, {LANE} AS lane, c.priority, c.position, c.deadline,
       c.gpu, c.off_peak, head.shard_id, head.seconds, head.waited, head.avoid, head.lost, head.renders,
       head.step_seconds
  FROM keys k JOIN campaign c USING (campaign_id) CROSS JOIN LATERAL (
         SELECT s.shard_id, s.checkpoint, (s.seconds * s.renders)::float8 AS seconds, s.place, s.avoid, s.lost,
                s.renders, s.step_seconds, extract(epoch FROM clock_timestamp() - s.ready_at)::float8 AS waited
           FROM shard s
          WHERE s.campaign_id = k.campaign_id AND s.state = 'ready' AND s.engine_key = k.engine_key
            AND s.ready_at <= clock_timestamp()
          ORDER BY s.place, s.shard_id LIMIT :per_queue) AS head
 ORDER BY k.campaign_id, k.engine_key, head.place, head.shard_id
""")  # noqa: S608  (the only thing put in is the expression above)

BACKLOG = text("""
SELECT s.campaign_id, s.engine_key, count(*), sum(s.renders), sum(s.renders * s.seconds)::float8, max(s.step_seconds)
  FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.state = 'ready' AND c.state IN ('active', 'proofing') GROUP BY s.campaign_id, s.engine_key
""")

HELD_BACK = text("""
SELECT s.campaign_id, s.engine_key, count(*), sum(s.renders), sum(s.renders * s.seconds)::float8, max(s.step_seconds)
  FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.state = 'held' AND c.state IN ('proofing', 'awaiting_approval') GROUP BY s.campaign_id, s.engine_key
""")

# LATERAL and LIMIT 1: one look into the index for each open campaign; as EXISTS it might become a join with all shards.
TEAMS = text("""
WITH here AS (
  SELECT c.team_id FROM campaign c CROSS JOIN LATERAL (
           SELECT FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'ready' LIMIT 1) AS any_ready
   WHERE c.state IN ('active', 'proofing')
  UNION SELECT s.team_id FROM shard s WHERE s.state = 'leased'
  UNION SELECT t.team_id FROM team t WHERE t.backlogged)
SELECT t.team_id, t.weight, t.vtime, t.backlogged, t.quota, t.burst FROM team t JOIN here USING (team_id)
 ORDER BY t.team_id
""")

TEAM_NAMES = text("SELECT team_id, name FROM team WHERE team_id = ANY(CAST(:teams AS bigint[]))")

CAMPAIGN_STATES = text("""
SELECT state, count(*) FROM campaign WHERE state IN ('active', 'proofing', 'awaiting_approval', 'paused')
 GROUP BY state
""")

DATABASE_BYTES = text("SELECT pg_database_size(current_database())")

_PURSE = """c.state IN ('active', 'proofing', 'awaiting_approval')
    OR (c.state = 'paused' AND c.paused_by IN ('budget', 'team_budget'))"""

PURSES = text(f"""
SELECT c.campaign_id, c.team_id, c.state, c.paused_by, {LANE} AS lane, c.priority, c.position,
       coalesce(spent.gpu_seconds, 0) AS gpu_seconds, coalesce(spent.money, 0) AS money, c.budget, c.deadline,
       c.off_peak, c.warnings, c.gpu
  FROM campaign c LEFT JOIN LATERAL (
         SELECT sum(gpu_seconds) AS gpu_seconds, sum(money) AS money FROM spend WHERE campaign_id = c.campaign_id
       ) AS spent ON true
 WHERE {_PURSE} ORDER BY c.campaign_id
""")  # noqa: S608

TEAM_PURSES = text(f"""
SELECT t.team_id, t.budget, coalesce(spent.gpu_seconds, 0), coalesce(spent.money, 0)
  FROM team t LEFT JOIN LATERAL (
         SELECT sum(gpu_seconds) AS gpu_seconds, sum(money) AS money FROM spend
          WHERE team_id = t.team_id AND month = date_trunc('month', now() AT TIME ZONE 'UTC')::date) AS spent ON true
 WHERE t.budget IS NOT NULL AND t.team_id IN (SELECT c.team_id FROM campaign c WHERE {_PURSE})
 ORDER BY t.team_id
""")  # noqa: S608

_COSTS = "engine_key, gpu, step_seconds, sqrt(greatest(0, squares - step_seconds * step_seconds)) AS spread, renders"
ALL_COSTS = text(f"SELECT team_id, {_COSTS} FROM render_cost ORDER BY team_id, engine_key, gpu")  # noqa: S608
TEAM_COSTS = text(f"SELECT {_COSTS} FROM render_cost WHERE team_id = :team ORDER BY engine_key, gpu")  # noqa: S608
LOAD_COSTS = text("SELECT gpu, kind, seconds, loads FROM load_cost ORDER BY gpu, kind")
PRICES = text("SELECT gpu, per_hour FROM price ORDER BY gpu")

PAUSE = text("""
UPDATE campaign SET state = 'paused', paused_by = :by
 WHERE campaign_id = :campaign
   AND (state IN ('active', 'proofing')
        OR (state = 'paused' AND paused_by IN ('budget', 'team_budget') AND paused_by <> :by))
RETURNING team_id, state
""")
RESUME = text("""
UPDATE campaign c SET paused_by = NULL,
       state = CASE WHEN EXISTS (SELECT FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state = 'held')
                    THEN 'proofing' ELSE 'active' END
 WHERE campaign_id = :campaign AND state = 'paused' AND paused_by IN ('budget', 'team_budget') RETURNING team_id, state
""")
WARN = text("""
UPDATE campaign SET warnings = array_append(warnings, :code)
 WHERE campaign_id = :campaign AND state NOT IN ('cancelled', 'done') AND NOT :code = ANY(warnings) RETURNING team_id
""")
UNWARN = text("""
UPDATE campaign SET warnings = array_remove(warnings, :code) WHERE campaign_id = :campaign AND :code = ANY(warnings)
""")

REJOIN = text("""
UPDATE team t SET backlogged = true, vtime = g.vtime
  FROM unnest(CAST(:teams AS bigint[]), CAST(:vtimes AS float8[])) AS g (team_id, vtime) WHERE t.team_id = g.team_id
""")
REST = text("UPDATE team SET backlogged = false WHERE team_id = ANY(CAST(:teams AS bigint[]))")

SHOW_FARM = text("""
INSERT INTO farm_view (name, value, at) VALUES ('farm', CAST(:value AS jsonb), clock_timestamp())
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at
""")
FARM_VIEW = text("""
SELECT v.value, coalesce(v.at, 'epoch') AS at, coalesce(l.expires_at > clock_timestamp(), false) AS leading
  FROM (VALUES (1)) AS one LEFT JOIN farm_view v ON v.name = 'farm' LEFT JOIN leader l ON l.name = 'scheduler'
""")
