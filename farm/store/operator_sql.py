"""Operators' statements, run as the owner of the tables."""

from sqlalchemy import text

ADD_TEAM = text("""
INSERT INTO team (team_id, name) VALUES (:team, :name) ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING team_id
""")
ADD_KEY = text("INSERT INTO api_key (key_id, team_id, name, digest) VALUES (:key, :team, :name, :digest)")
KNOWN_TEAM = text("SELECT FROM team WHERE name = :team")
KEYS = text("""
SELECT k.key_id, t.name, k.name, k.created_at, k.revoked_at FROM api_key k JOIN team t USING (team_id)
 WHERE t.name = :team ORDER BY key_id
""")
REVOKE = text("""
UPDATE api_key k SET revoked_at = coalesce(k.revoked_at, now()) FROM team t
 WHERE k.team_id = t.team_id AND key_id = :key RETURNING k.key_id, t.name, k.name, k.created_at, k.revoked_at
""")

_LIMITS = "team_id, name, max_renders, weight, quota, burst, budget, retention_days"
TEAMS = text(f"""
SELECT {_LIMITS}, coalesce(spent.gpu_seconds, 0) AS gpu_seconds, coalesce(spent.money, 0) AS money
  FROM team t LEFT JOIN LATERAL (
         SELECT sum(gpu_seconds) AS gpu_seconds, sum(money) AS money FROM spend
          WHERE team_id = t.team_id AND month = date_trunc('month', now() AT TIME ZONE 'UTC')::date) AS spent ON true
 ORDER BY name
""")  # noqa: S608  (a column list)

# What is left out stays; 0, and a budget without a limit, take a limit away.
SET_LIMITS = text("""
UPDATE team
   SET weight = coalesce(CAST(:weight AS float8), weight),
       quota = nullif(coalesce(CAST(:quota AS int), quota), 0),
       burst = nullif(coalesce(CAST(:burst AS int), burst), 0),
       max_renders = coalesce(CAST(:max_renders AS bigint), max_renders),
       retention_days = nullif(coalesce(CAST(:retention_days AS int), retention_days), 0),
       budget = CASE WHEN :new_budget THEN CAST(:budget AS jsonb) ELSE budget END
 WHERE name = :name RETURNING 1
""")

SET_PRICE = text("""
INSERT INTO price (gpu, per_hour) VALUES (:gpu, :per_hour) ON CONFLICT (gpu) DO UPDATE SET per_hour = excluded.per_hour
""")
DROP_PRICE = text("DELETE FROM price WHERE gpu = :gpu")

KNOWN_RENDERER = text("SELECT FROM renderer WHERE name = :name LIMIT 1")
# A hundred years: until somebody releases it.
HOLD = text("""
INSERT INTO renderer_health AS h (name, quarantined_at, until, why, by_hand)
VALUES (:name, now(), now() + interval '100 years', :why, true)
ON CONFLICT (name) DO UPDATE
   SET quarantined_at = coalesce(h.quarantined_at, excluded.quarantined_at), until = excluded.until,
       why = excluded.why, by_hand = true
""")
# As after a success: what stood against it before is forgotten.
RELEASE = text("""
UPDATE renderer_health
   SET quarantined_at = NULL, until = NULL, why = '', probes = 0, by_hand = false, last_success = now()
 WHERE name = :name AND quarantined_at IS NOT NULL RETURNING 1
""")
