"""The scheduler's statements about leading, leases and campaigns, and what both sides share.

What a report changes is in `settle_sql`, renderers are in `renderer_sql`, queues and budgets in `queue_sql`, what
lasts in `lasting_sql`, the API's in `team_sql` and `campaign_sql`.

Lock order, so that nobody waits in a circle: shards by id, then campaigns, then teams, then what only the leader
writes. The API locks at most one campaign and one team, and never waits for a shard that the scheduler may hold.
"""

from sqlalchemy import text

LANE = "CASE WHEN c.lane = 'interactive' OR c.state = 'proofing' THEN 'interactive' ELSE 'bulk' END"
"""Of a campaign ``c`` now: a proof goes ahead of bulk work."""

BE_TEAM = text("SELECT set_config('farm.team', :team, true)")

# FOR SHARE: a successor's takeover waits until this transaction is over, so no write of an old leader follows it.
BE_SCHEDULER = text("""
SELECT set_config('farm.role', 'scheduler', true) FROM leader
 WHERE name = 'scheduler' AND holder = :holder AND epoch = :epoch FOR SHARE
""")

# The time is that of the update: what was to be inserted is made before the wait for a transaction of the old leader.
ELECT = text("""
INSERT INTO leader (name, holder, epoch, expires_at)
VALUES ('scheduler', :holder, 1, clock_timestamp() + :ttl)
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, epoch = leader.epoch + 1, expires_at = clock_timestamp() + :ttl
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

# leases

_SHARD = f"""s.shard_id, s.team_id, s.campaign_id, s.engine_key, s.checkpoint, c.priority, s.state, s.fence::text,
       s.todo, s.tries, s.lost, s.seconds::float8, c.state IN ('cancelling', 'cancelled') AS cancelling,
       s.depot_tries, s.avoid, {LANE} AS lane"""

LOCK = text(f"""
SELECT {_SHARD} FROM shard s JOIN campaign c USING (campaign_id)
 WHERE s.shard_id = ANY(CAST(:shards AS bigint[])) ORDER BY s.shard_id FOR UPDATE OF s
""")  # noqa: S608  (the only thing put in is the column list above)

# The session must still be alive: a lease for a renderer that has been given up would be lost as soon as it is given.
TAKE = text(f"""
UPDATE shard s SET state = 'leased', fence = gen_random_uuid(), session = g.session, leased_at = clock_timestamp()
  FROM unnest(CAST(:shards AS bigint[]), CAST(:sessions AS uuid[])) AS g (shard_id, session)
  JOIN renderer r ON r.session = g.session AND r.ended_at IS NULL AND r.expires_at > clock_timestamp(), campaign c
 WHERE s.shard_id = g.shard_id AND s.state = 'ready' AND c.campaign_id = s.campaign_id
   AND c.state IN ('active', 'proofing')
RETURNING {_SHARD}
""")  # noqa: S608

HELD = text(f"""
SELECT s.shard_id, s.session::text, s.fence::text,
       extract(epoch FROM clock_timestamp() - s.leased_at)::float8 AS age,
       coalesce(r.expires_at < clock_timestamp(), true) AS expired, r.ended_at IS NOT NULL AS ended,
       c.state = 'cancelling' AS cancelled, s.engine_key, s.checkpoint, (s.seconds * s.renders)::float8 AS gpu_seconds,
       s.team_id, s.campaign_id, {LANE} AS lane, s.renders, s.lost,
       c.gpu, s.avoid, s.step_seconds
  FROM shard s JOIN campaign c USING (campaign_id) LEFT JOIN renderer r ON r.session = s.session
 WHERE s.state = 'leased'
 ORDER BY s.shard_id
""")  # noqa: S608

# A lease that was lost with its renderer (:avoid) is on record: it is evidence, of the renderer or of the shard.
PUT_BACK = text("""
WITH back AS (
  UPDATE shard s
     SET state = CASE WHEN c.state IN ('cancelling', 'cancelled') THEN 'cancelled' ELSE 'ready' END, session = NULL,
         lost = :lost, ready_at = clock_timestamp() + :delay,
         avoid = CASE WHEN CAST(:avoid AS text) IS NULL OR :avoid = ANY(s.avoid) THEN s.avoid
                      ELSE array_append(s.avoid, :avoid) END
    FROM campaign c
   WHERE s.shard_id = :shard AND c.campaign_id = s.campaign_id AND s.state = 'leased'
     AND s.fence = CAST(:fence AS uuid)
  RETURNING s.team_id, s.campaign_id, s.shard_id, s.fence)
INSERT INTO attempt (team_id, campaign_id, shard_id, fence, renderer, kind, code, detail)
SELECT team_id, campaign_id, shard_id, fence, :avoid, 'renderer_died', 'renderer_died',
       'The renderer ended, or was not heard of any more, while it had the shard.'
  FROM back WHERE CAST(:avoid AS text) IS NOT NULL
""")

# campaigns

# Ready, held and leased shards are looked for in the snapshot of the statement; a state that the API has just changed
# is read anew. So a campaign that was approved meanwhile still has held shards here, and is left alone.
FINISH = text("""
UPDATE campaign c
   SET state = CASE WHEN c.state = 'cancelling' THEN 'cancelled'
                    WHEN c.state = 'proofing' AND open.held THEN 'awaiting_approval' ELSE 'done' END,
       finished_at = CASE WHEN c.state = 'proofing' AND open.held THEN NULL ELSE clock_timestamp() END, paused_by = NULL
  FROM unnest(CAST(:campaigns AS bigint[])) AS g (campaign_id)
       CROSS JOIN LATERAL (
         SELECT EXISTS (SELECT FROM shard s WHERE s.campaign_id = g.campaign_id AND s.state = 'ready') AS ready,
                EXISTS (SELECT FROM shard s WHERE s.campaign_id = g.campaign_id AND s.state = 'leased') AS leased,
                EXISTS (SELECT FROM shard s WHERE s.campaign_id = g.campaign_id AND s.state = 'held') AS held) AS open
 WHERE c.campaign_id = g.campaign_id AND NOT open.ready AND NOT open.leased
   AND (c.state = 'proofing' OR (c.state IN ('active', 'paused', 'cancelling') AND NOT open.held))
RETURNING c.team_id, c.campaign_id, c.state
""")

# Besides those being cancelled: proofs that were paused when their last shard came in.
ENDING = text("SELECT campaign_id, state FROM campaign WHERE state IN ('cancelling', 'proofing') ORDER BY campaign_id")

# What the API had to skip because a transaction of ours held it.
CANCEL_OPEN = text("""
UPDATE shard SET state = 'cancelled'
 WHERE campaign_id = ANY(CAST(:campaigns AS bigint[])) AND state IN ('ready', 'held')
""")

# The row lock on the team is held until commit, so ids come in commit order: a reader that has seen 17 misses nothing.
# Who waits for events is woken at commit; in the same statement, as every transaction of the leader has one.
ADD_EVENTS = text("""
WITH moved AS (
  UPDATE team SET event_id = event_id + :count WHERE team_id = :team RETURNING event_id - :count AS before),
added AS (
  INSERT INTO event (team_id, event_id, campaign_id, kind, data)
  SELECT :team, moved.before + g.place, g.campaign_id, g.kind, CAST(g.data AS jsonb)
    FROM moved, unnest(CAST(:campaign AS bigint[]), CAST(:kind AS text[]), CAST(:data AS text[]))
                WITH ORDINALITY AS g (campaign_id, kind, data, place))
SELECT pg_notify('farm_event', CAST(CAST(:team AS bigint) AS text))
""")

NOTIFY_WORK = text("NOTIFY farm_work")  # people have sent work, or changed what may be worked on

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

# Locked as the outcomes that will refer to them would lock them anyway: what is being pruned is not found.
PICTURES = text("""
SELECT encode(fingerprint, 'hex'), picture_id FROM picture
 WHERE team_id = :team AND fingerprint = ANY(CAST(:fingerprints AS bytea[])) FOR KEY SHARE
""")

KEYS_IN_USE = text("SELECT key FROM picture WHERE key = ANY(CAST(:keys AS text[]))")
