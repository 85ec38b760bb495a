"""Renderer sessions, and what stands against renderers."""

from sqlalchemy import text

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

# health

# The transaction's time, as that of the failed tries: what fails in the same transaction counts as before.
NOTE_SUCCESS = text("""
INSERT INTO renderer_health (name, last_success)
SELECT DISTINCT name, now() FROM unnest(CAST(:names AS text[])) AS g (name) ORDER BY name
ON CONFLICT (name) DO UPDATE SET last_success = excluded.last_success
""")

_BLAMES = "a.kind NOT IN ('bad_source', 'bad_weights', 'bad_picture')"
"""Those say something of the render alone."""

_ACCUSES = f"{_BLAMES} AND a.kind <> 'out_of_vram'"
"""A small GPU is not a broken one: what is too big for it avoids it."""

# Of a shard that was lost as a whole nobody knows which render was in the GPU. It is cleared when somebody took it
# after that (the fence is another), rendered something of it, and it is through. Renderers that had no store at the
# same time accuse the store: `depots` are all reports of it in order of time, `runs` where another renderer's follow,
# and `nearest` has for each the nearest of another renderer before and after it. That takes one sort, however many.
ACCUSATIONS = text(f"""
WITH newest AS MATERIALIZED (
  SELECT a.attempt_id, a.renderer, a.campaign_id, a.ordinal,
         CASE WHEN a.ordinal IS NULL THEN a.shard_id END AS shard_id, a.fence, a.kind, a.code, a.at
    FROM attempt a LEFT JOIN renderer_health h ON h.name = a.renderer
   WHERE NOT a.forgiven AND a.at > now() - :window AND a.renderer IS NOT NULL AND {_ACCUSES}
     AND (h.last_success IS NULL OR a.at > h.last_success)
   ORDER BY a.at DESC, a.attempt_id DESC LIMIT :most),
depots AS (
  SELECT DISTINCT renderer, at FROM attempt
   WHERE NOT forgiven AND kind = 'depot' AND renderer IS NOT NULL
     AND at BETWEEN (SELECT min(at) FROM newest WHERE kind = 'depot') - :outage
                AND (SELECT max(at) FROM newest WHERE kind = 'depot') + :outage),
runs AS (
  SELECT renderer, at, CASE WHEN lag(renderer) OVER w <> renderer THEN lag(at) OVER w END AS before,
         CASE WHEN lead(renderer) OVER w <> renderer THEN lead(at) OVER w END AS after
    FROM depots WINDOW w AS (ORDER BY at, renderer)),
nearest AS (
  SELECT renderer, at, max(before) OVER (ORDER BY at, renderer) AS before,
         min(after) OVER (ORDER BY at DESC, renderer DESC) AS after
    FROM runs),
tries AS (
  SELECT * FROM newest n WHERE kind <> 'depot'
      OR NOT EXISTS (SELECT FROM nearest d WHERE d.renderer = n.renderer AND d.at = n.at
                        AND (d.at - d.before <= :outage OR d.after - d.at <= :outage))),
each AS (
  SELECT renderer, campaign_id, ordinal, shard_id, max(at) AS at, max(attempt_id) AS attempt_id,
         (array_agg(code ORDER BY at DESC, attempt_id DESC))[1] AS code,
         (array_agg(fence ORDER BY at DESC, attempt_id DESC))[1] AS fence
    FROM tries GROUP BY renderer, campaign_id, ordinal, shard_id)
SELECT e.renderer, count(*), count(*) FILTER (WHERE found.cleared), count(*) FILTER (WHERE found.shared),
       count(DISTINCT e.campaign_id), (array_agg(e.code ORDER BY e.at DESC, e.attempt_id DESC))[1],
       max(e.at) AS last_at
  FROM each e CROSS JOIN LATERAL (
    SELECT CASE WHEN e.ordinal IS NOT NULL
             THEN EXISTS (SELECT FROM outcome o WHERE o.campaign_id = e.campaign_id AND o.ordinal = e.ordinal
                             AND o.outcome = 'succeeded' AND o.renderer <> e.renderer)
             ELSE EXISTS (SELECT FROM shard s WHERE s.shard_id = e.shard_id AND s.state = 'done' AND s.succeeded > 0
                             AND s.fence <> e.fence) END AS cleared,
           CASE WHEN e.ordinal IS NOT NULL
             THEN EXISTS (SELECT FROM attempt a WHERE a.campaign_id = e.campaign_id AND a.ordinal = e.ordinal
                             AND a.renderer <> e.renderer AND NOT a.forgiven AND {_ACCUSES})
             ELSE EXISTS (SELECT FROM attempt a WHERE a.campaign_id = e.campaign_id AND a.ordinal IS NULL
                             AND a.shard_id = e.shard_id AND a.renderer <> e.renderer AND NOT a.forgiven) END AS shared
  ) AS found
 GROUP BY e.renderer ORDER BY last_at, e.renderer
""")  # noqa: S608

QUARANTINED = text("""
SELECT name, why, quarantined_at, until, probes, by_hand FROM renderer_health
 WHERE quarantined_at IS NOT NULL ORDER BY name
""")

FORGIVE = text(f"""
UPDATE attempt a SET forgiven = true
 WHERE a.renderer = :name AND NOT a.forgiven AND {_BLAMES}
   AND a.at > coalesce((SELECT last_success FROM renderer_health WHERE name = :name), '-infinity')
RETURNING a.campaign_id
""")  # noqa: S608

FORGIVE_SHARDS = text("""
UPDATE shard SET avoid = array_remove(avoid, :name), tries = greatest(0, tries - 1)
 WHERE shard_id IN (
   SELECT shard_id FROM shard
    WHERE campaign_id = ANY(CAST(:campaigns AS bigint[])) AND state IN ('ready', 'leased') AND :name = ANY(avoid)
    ORDER BY shard_id FOR UPDATE)
""")

# A second time is a probe that failed. What an operator began, only an operator changes.
QUARANTINE = text("""
INSERT INTO renderer_health AS h (name, quarantined_at, until, why) VALUES (:name, now(), now() + :lasts, :why)
ON CONFLICT (name) DO UPDATE
   SET quarantined_at = coalesce(h.quarantined_at, excluded.quarantined_at), until = excluded.until,
       why = excluded.why, probes = CASE WHEN h.quarantined_at IS NULL THEN 0 ELSE h.probes + 1 END
 WHERE NOT h.by_hand
""")

RELEASE = text("""
UPDATE renderer_health SET quarantined_at = NULL, until = NULL, why = '', probes = 0
 WHERE name = :name AND quarantined_at IS NOT NULL AND NOT by_hand
""")
