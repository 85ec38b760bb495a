"""The API's statements. Each names its team, whatever row-level security adds later."""

from sqlalchemy import text

KEY_OWNER = text("SELECT key_id, team_id, name, created_at FROM api_key WHERE digest = :digest AND revoked_at IS NULL")

TEAM = text("SELECT team_id, name, max_renders FROM team WHERE team_id = :team")

ADD_TEAM = text("""
INSERT INTO team (team_id, name) VALUES (:team, :name) ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING team_id
""")
ADD_KEY = text("INSERT INTO api_key (key_id, team_id, name, digest) VALUES (:key, :team, :name, :digest)")

ADD_SOURCE = text("""
INSERT INTO source (team_id, sha256, name, bytes, width, height, format, created_at)
VALUES (:team, :sha256, :name, :bytes, :width, :height, :format, :created_at) ON CONFLICT DO NOTHING RETURNING 1
""")
_SOURCE = "SELECT sha256, name, bytes, width, height, format, created_at FROM source WHERE team_id = :team"
SOURCES_BY_SHA = text(f"{_SOURCE} AND sha256 = ANY(CAST(:digests AS text[]))")
SOURCES = text(f"{_SOURCE} AND sha256 > :after ORDER BY sha256 LIMIT :limit")

ADD_CHECKPOINT = text("""
INSERT INTO checkpoint (checkpoint_id, team_id, name, digest, layout, prefix, files, created_at)
VALUES (:id, :team, :name, :digest, :layout, :prefix, CAST(:files AS jsonb), :created_at)
ON CONFLICT (team_id, name) DO UPDATE SET name = excluded.name RETURNING digest
""")
CHECKPOINTS = text("""
SELECT checkpoint_id, name, digest, layout, prefix, files, created_at FROM checkpoint WHERE team_id = :team
 ORDER BY checkpoint_id
""")

ADD_LORA = text("""
INSERT INTO lora (lora_id, team_id, name, digest, key, bytes, base, base_name, targets, rank, trigger_words, licence,
                  expires_at, created_at)
VALUES (:id, :team, :name, :digest, :key, :bytes, :base, :base_name, :targets, :rank, CAST(:trigger_words AS text[]),
        :licence, :expires_at, :created_at)
ON CONFLICT (team_id, name) DO UPDATE SET name = excluded.name RETURNING digest
""")
LORAS = text("""
SELECT lora_id, name, digest, key, bytes, base, base_name, targets, rank, trigger_words, licence, expires_at, created_at
  FROM lora WHERE team_id = :team ORDER BY lora_id
""")

# Two who add a version at once: the second waits here, then counts on from the first.
LOCK_STYLE = text("SELECT pg_advisory_xact_lock(:team, hashtext(:name))")
ADD_STYLE = text("""
INSERT INTO style (style_id, team_id, name, version, spec, created_at)
VALUES (:id, :team, :name, :version, CAST(:spec AS jsonb), :created_at)
""")
STYLES = text("""
SELECT DISTINCT ON (name) style_id, name, version, spec, created_at FROM style
 WHERE team_id = :team ORDER BY name, version DESC
""")
STYLE_VERSIONS = text("""
SELECT style_id, name, version, spec, created_at FROM style WHERE team_id = :team AND name = :name ORDER BY version DESC
""")

_CAMPAIGN = """SELECT campaign_id, team_id, name, submit_hash, state, renders, priority, parent, created_at, finished_at
  FROM campaign WHERE team_id = :team"""
CAMPAIGN = text(f"{_CAMPAIGN} AND campaign_id = :campaign")
CAMPAIGN_BY_SUBMIT_KEY = text(f"{_CAMPAIGN} AND submit_key = :submit_key")
CAMPAIGNS = text(f"{_CAMPAIGN} AND campaign_id < :before ORDER BY campaign_id DESC LIMIT :limit")

ADD_CAMPAIGN = text("""
INSERT INTO campaign (campaign_id, team_id, name, submit_key, submit_hash, spec, resolved, renders, priority, parent)
VALUES (:id, :team, :name, :submit_key, :submit_hash, CAST(:spec AS jsonb), CAST(:resolved AS jsonb), :renders,
        :priority, :parent)
ON CONFLICT (team_id, submit_key) DO NOTHING
RETURNING campaign_id, team_id, name, submit_hash, state, renders, priority, parent, created_at, finished_at
""")
ADD_SHARDS = text("""
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, renders, seconds)
SELECT :team, :campaign, g.engine_key, g.checkpoint, :priority, int8multirange(int8range(g.lo, g.hi)), g.hi - g.lo,
       g.seconds
  FROM unnest(CAST(:lo AS bigint[]), CAST(:hi AS bigint[]), CAST(:engine_key AS text[]), CAST(:checkpoint AS text[]),
              CAST(:seconds AS real[])) WITH ORDINALITY AS g (lo, hi, engine_key, checkpoint, seconds, place)
 ORDER BY g.place
""")

SPEC = text("SELECT spec FROM campaign WHERE team_id = :team AND campaign_id = :campaign")
RESOLVED = text("SELECT resolved FROM campaign WHERE team_id = :team AND campaign_id = :campaign")

MOVE = text("""
UPDATE campaign SET state = :to WHERE team_id = :team AND campaign_id = :campaign
   AND state = ANY(CAST(:frm AS text[])) RETURNING 1
""")
# SKIP LOCKED: the scheduler locks shards first and campaigns after, we the other way round. What is skipped here, it
# cancels at its next tick.
CANCEL_READY = text("""
UPDATE shard SET state = 'cancelled' WHERE shard_id IN (
  SELECT shard_id FROM shard WHERE campaign_id = :campaign AND state = 'ready' FOR UPDATE SKIP LOCKED)
""")

COUNTS = text("""
SELECT campaign_id,
       coalesce(sum(renders) FILTER (WHERE state = 'leased'), 0) AS running,
       sum(succeeded) AS succeeded, sum(failed) AS failed,
       coalesce(sum(renders) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
       sum(reused) AS reused,
       coalesce(sum(renders) FILTER (WHERE state = 'ready'), 0) AS queued
  FROM shard WHERE team_id = :team AND campaign_id = ANY(CAST(:campaigns AS bigint[])) GROUP BY campaign_id
""")
UNFINISHED = text("""
SELECT coalesce(sum(s.renders), 0) FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.team_id = :team AND s.state IN ('ready', 'leased') AND c.state IN ('active', 'paused')
""")
STEP_SECONDS = text("SELECT engine_key, step_seconds::float8 FROM engine_cost WHERE team_id = :team")

_OUTCOME = """SELECT o.campaign_id, o.ordinal, o.outcome, p.key, encode(p.sha256, 'hex') AS sha256, p.bytes, p.width,
       p.height, p.format, o.reused, o.code, o.detail, o.finished_at
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

RENDERERS = text("""
SELECT r.name, r.session::text, CASE WHEN r.expires_at < clock_timestamp() THEN 'lost' ELSE r.state END AS state,
       r.doing, r.gpu, r.node, r.numerics,
       (SELECT count(*) FROM shard s WHERE s.session = r.session AND s.state = 'leased') AS shards,
       r.waiting, r.checkpoint, r.seen_at
  FROM renderer r WHERE r.ended_at IS NULL ORDER BY r.name, r.seen_at
""")
