"""The scheduler's statements, and what both sides share. The API's are in `team_sql`.

Lock order, so that nobody waits in a circle: shards by id, then campaigns, then teams.
"""

from sqlalchemy import text

BE_TEAM = text("SELECT set_config('farm.team', :team, true)")

# FOR SHARE: a successor's takeover waits until this transaction is over, so no write of an old leader follows it.
BE_SCHEDULER = text("""
SELECT set_config('farm.role', 'scheduler', true) FROM leader
 WHERE name = 'scheduler' AND holder = :holder AND epoch = :epoch FOR SHARE
""")

ELECT = text("""
INSERT INTO leader (name, holder, epoch, expires_at)
VALUES ('scheduler', :holder, 1, clock_timestamp() + :ttl)
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, epoch = leader.epoch + 1, expires_at = excluded.expires_at
 WHERE leader.expires_at < clock_timestamp()
RETURNING epoch
""")

RENEW = text("""
UPDATE leader SET expires_at = clock_timestamp() + :ttl
 WHERE name = 'scheduler' AND holder = :holder AND epoch = :epoch AND expires_at > clock_timestamp()
RETURNING epoch
""")

RESIGN = text("""
UPDATE leader SET expires_at = clock_timestamp()
 WHERE name = 'scheduler' AND holder = :holder AND epoch = :epoch
""")

NOW = text("SELECT clock_timestamp()")

# The campaign is joined, not copied into the shard: pausing changes one row.
WAITING = text("""
SELECT shard_id, engine_key, checkpoint, priority, waited, gpu_seconds, total FROM (
  SELECT s.shard_id, s.engine_key, s.checkpoint, s.priority,
         extract(epoch FROM clock_timestamp() - s.ready_at)::float8 AS waited,
         (s.seconds * s.renders)::float8 AS gpu_seconds,
         row_number() OVER (PARTITION BY s.team_id, s.engine_key, s.priority ORDER BY s.shard_id) AS place,
         count(*) OVER () AS total
    FROM shard s JOIN campaign c USING (campaign_id)
   WHERE s.state = 'ready' AND s.ready_at <= clock_timestamp() AND c.state = 'active') AS queue
 WHERE place <= :per_queue
 ORDER BY shard_id
""")

HELD = text("""
SELECT s.shard_id, s.session::text, s.fence::text,
       extract(epoch FROM clock_timestamp() - s.leased_at)::float8 AS age,
       coalesce(r.expires_at < clock_timestamp(), true) AS expired, r.ended_at IS NOT NULL AS ended,
       c.state = 'cancelling' AS cancelled, s.engine_key, s.checkpoint, (s.seconds * s.renders)::float8
  FROM shard s JOIN campaign c USING (campaign_id) LEFT JOIN renderer r ON r.session = s.session
 WHERE s.state = 'leased'
 ORDER BY s.shard_id
""")

DEPTHS = text("""
SELECT s.state, count(*), coalesce(sum(s.renders), 0), coalesce(sum(s.renders * s.seconds), 0)::float8
  FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.state IN ('ready', 'leased') AND c.state <> 'paused' GROUP BY s.state
""")

_SHARD = """s.shard_id, s.team_id, s.campaign_id, s.engine_key, s.checkpoint, s.priority, s.state, s.fence::text,
       s.todo, s.tries, s.lost, s.seconds::float8, c.state IN ('cancelling', 'cancelled') AS cancelling"""

LOCK = text(f"""
SELECT {_SHARD} FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.shard_id = ANY(CAST(:shards AS bigint[])) ORDER BY s.shard_id FOR UPDATE OF s
""")  # noqa: S608  (the only thing put in is the column list above)

# The session must still be alive: a lease for a renderer that has been given up would be lost as soon as it is given.
TAKE = text(f"""
UPDATE shard s SET state = 'leased', fence = gen_random_uuid(), session = g.session, leased_at = clock_timestamp()
  FROM unnest(CAST(:shards AS bigint[]), CAST(:sessions AS uuid[])) AS g (shard_id, session)
  JOIN renderer r ON r.session = g.session AND r.ended_at IS NULL AND r.expires_at > clock_timestamp(), campaign c
 WHERE s.shard_id = g.shard_id AND s.state = 'ready' AND c.campaign_id = s.campaign_id AND c.state = 'active'
RETURNING {_SHARD}
""")  # noqa: S608

# Both FROM items see the table as it was before: `had` finds what another render of the fingerprint made earlier.
ADD_PICTURES = text("""
WITH given AS (
  SELECT CAST(team_id AS bigint) AS team_id, decode(fingerprint, 'hex') AS fingerprint, key,
         decode(sha256, 'hex') AS sha256, CAST(bytes AS bigint) AS bytes, CAST(width AS int) AS width,
         CAST(height AS int) AS height, format
    FROM ROWS FROM (json_array_elements_text(CAST(:team AS json)), json_array_elements_text(CAST(:fingerprint AS json)),
                    json_array_elements_text(CAST(:key AS json)), json_array_elements_text(CAST(:sha256 AS json)),
                    json_array_elements_text(CAST(:bytes AS json)), json_array_elements_text(CAST(:width AS json)),
                    json_array_elements_text(CAST(:height AS json)), json_array_elements_text(CAST(:format AS json)))
         AS g (team_id, fingerprint, key, sha256, bytes, width, height, format)),
added AS (
  INSERT INTO picture (team_id, fingerprint, key, sha256, bytes, width, height, format)
  SELECT * FROM given ORDER BY team_id, fingerprint
  ON CONFLICT (team_id, fingerprint) DO NOTHING
  RETURNING picture_id, team_id, fingerprint, key)
SELECT g.team_id, g.fingerprint, g.key, coalesce(added.picture_id, had.picture_id),
       coalesce(added.key, had.key) = g.key
  FROM given g
  LEFT JOIN added USING (team_id, fingerprint)
  LEFT JOIN picture had ON had.team_id = g.team_id AND had.fingerprint = g.fingerprint
""")

ADD_OUTCOMES = text("""
INSERT INTO outcome (team_id, campaign_id, ordinal, outcome, picture_id, reused, tries, gpu_seconds, renderer,
                     numerics, code, detail)
SELECT CAST(team AS bigint), CAST(campaign AS bigint), CAST(ordinal AS bigint), outcome, CAST(picture AS bigint),
       CAST(reused AS boolean), CAST(tries AS smallint), CAST(gpu_seconds AS real), renderer, numerics, code, detail
  FROM ROWS FROM (
         json_array_elements_text(CAST(:team AS json)),
         json_array_elements_text(CAST(:campaign AS json)),
         json_array_elements_text(CAST(:ordinal AS json)),
         json_array_elements_text(CAST(:outcome AS json)),
         json_array_elements_text(CAST(:picture AS json)),
         json_array_elements_text(CAST(:reused AS json)),
         json_array_elements_text(CAST(:tries AS json)),
         json_array_elements_text(CAST(:gpu_seconds AS json)),
         json_array_elements_text(CAST(:renderer AS json)),
         json_array_elements_text(CAST(:numerics AS json)),
         json_array_elements_text(CAST(:code AS json)),
         json_array_elements_text(CAST(:detail AS json)))
       AS g (team, campaign, ordinal, outcome, picture, reused, tries, gpu_seconds, renderer, numerics, code, detail)
ON CONFLICT DO NOTHING
""")

SHRINK = text("""
UPDATE shard s SET todo = CAST(g.todo AS int8multirange), renders = g.renders,
       succeeded = s.succeeded + g.succeeded, failed = s.failed + g.failed, reused = s.reused + g.reused,
       state = CASE WHEN g.renders = 0 THEN 'done' ELSE s.state END,
       session = CASE WHEN g.renders = 0 THEN NULL ELSE s.session END
  FROM unnest(CAST(:shards AS bigint[]), CAST(:todo AS text[]), CAST(:renders AS int[]), CAST(:succeeded AS int[]),
              CAST(:failed AS int[]), CAST(:reused AS int[])) AS g (shard_id, todo, renders, succeeded, failed, reused)
 WHERE s.shard_id = g.shard_id
""")

ADD_CHILD = text("""
INSERT INTO shard (team_id, campaign_id, parent, engine_key, checkpoint, priority, state, ready_at, tries, lost, todo,
                   renders, seconds)
SELECT team_id, campaign_id, shard_id, engine_key, checkpoint, priority, :state,
       coalesce(CAST(:ready_at AS timestamptz), clock_timestamp()), :tries, :lost, CAST(:todo AS int8multirange),
       :renders, seconds
  FROM shard WHERE shard_id = :shard
""")

ADD_ATTEMPTS = text("""
INSERT INTO attempt (team_id, campaign_id, shard_id, ordinal, fence, renderer, kind, code, detail)
SELECT s.team_id, s.campaign_id, s.shard_id, g.ordinal, s.fence, r.name, g.kind, g.code, g.detail
  FROM unnest(CAST(:shards AS bigint[]), CAST(:ordinal AS bigint[]), CAST(:kind AS text[]), CAST(:code AS text[]),
              CAST(:detail AS text[])) AS g (shard_id, ordinal, kind, code, detail)
  JOIN shard s USING (shard_id) LEFT JOIN renderer r ON r.session = s.session
""")

FINISH = text("""
UPDATE campaign c
   SET state = CASE WHEN state = 'cancelling' THEN 'cancelled' ELSE 'done' END, finished_at = clock_timestamp()
 WHERE campaign_id = ANY(CAST(:campaigns AS bigint[])) AND state IN ('active', 'paused', 'cancelling')
   AND NOT EXISTS (SELECT FROM shard s WHERE s.campaign_id = c.campaign_id AND s.state IN ('ready', 'leased'))
RETURNING team_id, campaign_id, state
""")

CANCELLING = text("SELECT campaign_id FROM campaign WHERE state = 'cancelling'")

# What the API had to skip because a transaction of ours held it.
CANCEL_READY = text("""
UPDATE shard SET state = 'cancelled' WHERE campaign_id = ANY(CAST(:campaigns AS bigint[])) AND state = 'ready'
""")

PUT_BACK = text("""
UPDATE shard s
   SET state = CASE WHEN c.state = 'cancelling' THEN 'cancelled' ELSE 'ready' END, session = NULL, lost = :lost,
       ready_at = clock_timestamp()
  FROM campaign c
 WHERE s.shard_id = :shard AND c.campaign_id = s.campaign_id AND s.state = 'leased' AND s.fence = CAST(:fence AS uuid)
""")

# The row lock on the team is held until commit, so ids come in commit order: a reader that has seen 17 misses nothing.
ADD_EVENTS = text("""
WITH moved AS (
  UPDATE team SET event_id = event_id + :count WHERE team_id = :team RETURNING event_id - :count AS before)
INSERT INTO event (team_id, event_id, campaign_id, kind, data)
SELECT :team, moved.before + g.place, g.campaign_id, g.kind, CAST(g.data AS jsonb)
  FROM moved, unnest(CAST(:campaign AS bigint[]), CAST(:kind AS text[]), CAST(:data AS text[]))
              WITH ORDINALITY AS g (campaign_id, kind, data, place)
""")

NOTIFY = text("SELECT pg_notify('farm_event', :team)")

LEARN = text("""
INSERT INTO engine_cost (team_id, engine_key, step_seconds, renders) VALUES (:team, :engine_key, :seconds, :renders)
ON CONFLICT (team_id, engine_key) DO UPDATE
   SET step_seconds = (engine_cost.step_seconds * least(engine_cost.renders, 200) + excluded.step_seconds * :renders)
                      / (least(engine_cost.renders, 200) + :renders),  -- the last few hundred count
       renders = engine_cost.renders + :renders
""")

RESOLVED = text("SELECT resolved FROM campaign WHERE campaign_id = :campaign")
CHECKPOINT = text("""
SELECT checkpoint_id, name, digest, layout, prefix, files, created_at FROM checkpoint
 WHERE team_id = :team AND digest = :digest ORDER BY checkpoint_id LIMIT 1
""")
LORAS = text("""
SELECT DISTINCT ON (digest) lora_id, name, digest, key, bytes, base, base_name, targets, rank, trigger_words, licence,
       expires_at, created_at FROM lora
 WHERE team_id = :team AND digest = ANY(CAST(:digests AS text[])) ORDER BY digest, lora_id
""")
PICTURES = text("""
SELECT encode(fingerprint, 'hex'), picture_id FROM picture
 WHERE team_id = :team AND fingerprint = ANY(CAST(:fingerprints AS bytea[]))
""")
KEYS_IN_USE = text("SELECT key FROM picture WHERE key = ANY(CAST(:keys AS text[]))")

# A session that was given up too early lives again once its process speaks: its old leases stay lost.
GREET = text("""
INSERT INTO renderer (session, name, state, gpu, node, numerics, expires_at)
VALUES (CAST(:session AS uuid), :name, 'idle', :gpu, :node, :numerics, clock_timestamp() + :ttl)
ON CONFLICT (session) DO UPDATE
   SET expires_at = excluded.expires_at, seen_at = clock_timestamp(), state = 'idle', ended_at = NULL
""")

HEARTBEAT = text("""
UPDATE renderer r
   SET state = g.state, doing = g.doing, waiting = g.waiting, checkpoint = g.checkpoint, seen_at = clock_timestamp(),
       expires_at = clock_timestamp() + :ttl
  FROM unnest(CAST(:session AS uuid[]), CAST(:state AS text[]), CAST(:doing AS text[]), CAST(:waiting AS int[]),
              CAST(:checkpoint AS text[])) AS g (session, state, doing, waiting, checkpoint)
 WHERE r.session = g.session AND r.ended_at IS NULL
""")

# A new process under a name means that the one before is gone; if it is not, the fence keeps its reports out.
END_FORMER = text("""
UPDATE renderer SET state = 'lost', ended_at = clock_timestamp()
 WHERE name = :name AND session <> CAST(:session AS uuid) AND ended_at IS NULL
""")

# Ray lists every renderer that runs or is about to: a session without one has ended, whoever made it.
END_ABSENT = text("""
UPDATE renderer SET state = 'lost', ended_at = clock_timestamp()
 WHERE ended_at IS NULL AND starts_with(name, :prefix) AND name <> ALL(CAST(:names AS text[]))
""")

END_SESSIONS = text("""
UPDATE renderer SET state = 'lost', ended_at = clock_timestamp()
 WHERE session = ANY(CAST(:sessions AS uuid[])) AND ended_at IS NULL
""")
