"""What a report changes: pictures, outcomes, shards, failed tries, spending, costs.

Columns come as JSON: psycopg writes out arrays in Python, element by element; a list as JSON costs a tenth of it.
"""

from sqlalchemy import text

# Both FROM items see the table as it was before: `had` finds what another render of the fingerprint made earlier.
ADD_PICTURES = text("""
WITH given AS (
  SELECT CAST(team_id AS bigint) AS team_id, decode(fingerprint, 'hex') AS fingerprint, key,
         decode(sha256, 'hex') AS sha256, CAST(bytes AS bigint) AS bytes, CAST(width AS int) AS width,
         CAST(height AS int) AS height, format, CAST(renditions AS jsonb) AS renditions,
         CAST(measured AS jsonb) AS measured, number
    FROM ROWS FROM (json_array_elements_text(CAST(:team AS json)), json_array_elements_text(CAST(:fingerprint AS json)),
                    json_array_elements_text(CAST(:key AS json)), json_array_elements_text(CAST(:sha256 AS json)),
                    json_array_elements_text(CAST(:bytes AS json)), json_array_elements_text(CAST(:width AS json)),
                    json_array_elements_text(CAST(:height AS json)), json_array_elements_text(CAST(:format AS json)),
                    json_array_elements_text(CAST(:renditions AS json)),
                    json_array_elements_text(CAST(:measured AS json)))
         WITH ORDINALITY AS g (team_id, fingerprint, key, sha256, bytes, width, height, format, renditions, measured,
                               number)),
added AS (
  INSERT INTO picture (team_id, fingerprint, key, sha256, bytes, width, height, format, renditions, measured)
  SELECT team_id, fingerprint, key, sha256, bytes, width, height, format, renditions, measured FROM given
   ORDER BY team_id, fingerprint, number  -- of two in one batch the first is kept
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
                     numerics, code, detail, money)
SELECT CAST(team AS bigint), CAST(campaign AS bigint), CAST(ordinal AS bigint), outcome, CAST(picture AS bigint),
       CAST(reused AS boolean), CAST(tries AS smallint), CAST(gpu_seconds AS real), renderer, numerics, code, detail,
       CAST(money AS real)
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
         json_array_elements_text(CAST(:detail AS json)),
         json_array_elements_text(CAST(:money AS json)))
       AS g (team, campaign, ordinal, outcome, picture, reused, tries, gpu_seconds, renderer, numerics, code, detail,
             money)
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

# A child stands at its own first ordinal: what comes back keeps its place in the queue.
ADD_CHILDREN = text("""
INSERT INTO shard (team_id, campaign_id, parent, engine_key, checkpoint, priority, state, ready_at, tries, lost,
                   depot_tries, avoid, todo, place, renders, seconds, step_seconds)
SELECT s.team_id, s.campaign_id, s.shard_id, s.engine_key, s.checkpoint, s.priority, g.state,
       coalesce(CAST(g.ready_at AS timestamptz), clock_timestamp()), CAST(g.tries AS smallint),
       CAST(g.lost AS smallint), CAST(g.depot_tries AS smallint),
       ARRAY(SELECT json_array_elements_text(CAST(g.avoid AS json))), CAST(g.todo AS int8multirange),
       lower(CAST(g.todo AS int8multirange)), CAST(g.renders AS int), s.seconds, s.step_seconds
  FROM ROWS FROM (
         json_array_elements_text(CAST(:shard AS json)),
         json_array_elements_text(CAST(:state AS json)),
         json_array_elements_text(CAST(:ready_at AS json)),
         json_array_elements_text(CAST(:tries AS json)),
         json_array_elements_text(CAST(:lost AS json)),
         json_array_elements_text(CAST(:depot_tries AS json)),
         json_array_elements_text(CAST(:avoid AS json)),
         json_array_elements_text(CAST(:todo AS json)),
         json_array_elements_text(CAST(:renders AS json)))
       WITH ORDINALITY AS g (shard, state, ready_at, tries, lost, depot_tries, avoid, todo, renders, number)
  JOIN shard s ON s.shard_id = CAST(g.shard AS bigint)
 ORDER BY g.number
""")

# A report may come after its lease was put back: the shard has no session then, but the reporter has a name.
ADD_ATTEMPTS = text("""
INSERT INTO attempt (team_id, campaign_id, shard_id, ordinal, fence, renderer, kind, code, detail)
SELECT s.team_id, s.campaign_id, s.shard_id, g.ordinal, s.fence, coalesce(g.renderer, r.name), g.kind, g.code,
       g.detail
  FROM unnest(CAST(:shards AS bigint[]), CAST(:ordinal AS bigint[]), CAST(:kind AS text[]), CAST(:code AS text[]),
              CAST(:detail AS text[]), CAST(:renderer AS text[]))
         WITH ORDINALITY AS g (shard_id, ordinal, kind, code, detail, renderer, number)
  JOIN shard s USING (shard_id) LEFT JOIN renderer r ON r.session = s.session
 ORDER BY g.number
""")

# One statement a transaction, however many renders. The month is UTC's, at the beginning of the transaction.
CHARGE = text("""
WITH given AS (
  SELECT * FROM unnest(CAST(:team AS bigint[]), CAST(:campaign AS bigint[]), CAST(:gpu_seconds AS float8[]),
                       CAST(:money AS float8[])) AS g (team_id, campaign_id, gpu_seconds, money)),
spent AS (
  INSERT INTO spend (team_id, month, campaign_id, gpu_seconds, money)
  SELECT team_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date, campaign_id, gpu_seconds, money FROM given
  ON CONFLICT (team_id, month, campaign_id) DO UPDATE
     SET gpu_seconds = spend.gpu_seconds + excluded.gpu_seconds, money = spend.money + excluded.money)
UPDATE team t SET vtime = t.vtime + g.gpu_seconds / t.weight
  FROM (SELECT team_id, sum(gpu_seconds) AS gpu_seconds FROM given GROUP BY team_id) AS g
 WHERE t.team_id = g.team_id
""")

# The last few hundred renders count.
LEARN = text("""
INSERT INTO render_cost AS c (team_id, engine_key, gpu, step_seconds, squares, renders)
SELECT * FROM unnest(CAST(:team AS bigint[]), CAST(:engine_key AS text[]), CAST(:gpu AS text[]),
                     CAST(:step_seconds AS float8[]), CAST(:squares AS float8[]), CAST(:renders AS bigint[]))
ON CONFLICT (team_id, engine_key, gpu) DO UPDATE
   SET step_seconds = (c.step_seconds * least(c.renders, 200) + excluded.step_seconds * excluded.renders)
                      / (least(c.renders, 200) + excluded.renders),
       squares = (c.squares * least(c.renders, 200) + excluded.squares * excluded.renders)
                 / (least(c.renders, 200) + excluded.renders),
       renders = c.renders + excluded.renders
""")

# The last fifty loads count.
LEARN_LOAD = text("""
INSERT INTO load_cost AS c (gpu, kind, seconds, loads) VALUES (:gpu, :kind, CAST(:seconds AS float8) / :loads, :loads)
ON CONFLICT (gpu, kind) DO UPDATE
   SET seconds = (c.seconds * least(c.loads, 50) + excluded.seconds * excluded.loads)
                 / (least(c.loads, 50) + excluded.loads),
       loads = c.loads + excluded.loads
""")
