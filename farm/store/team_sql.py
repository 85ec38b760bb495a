"""The API's statements about a team and its library; those about campaigns are in `campaign_sql`.

Each names its team, whatever row-level security adds later.
"""

from sqlalchemy import text

KEY_OWNER = text("SELECT key_id, team_id, name, created_at FROM api_key WHERE digest = :digest AND revoked_at IS NULL")

_TEAM = "team_id, name, max_renders, weight, quota, burst, budget, retention_days"
TEAM = text(f"SELECT {_TEAM} FROM team WHERE team_id = :team")  # noqa: S608  (a column list)

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


RENDERERS = text("""
SELECT r.name, r.session::text,
       CASE WHEN r.expires_at < clock_timestamp() THEN 'lost' WHEN h.name IS NOT NULL THEN 'quarantined'
            ELSE r.state END AS state,
       r.doing, r.gpu, r.node, r.numerics,
       (SELECT count(*) FROM shard s WHERE s.session = r.session AND s.state = 'leased') AS shards,
       r.waiting, r.checkpoint, r.seen_at, coalesce(h.why, '') AS quarantine
  FROM renderer r LEFT JOIN renderer_health h ON h.name = r.name AND h.quarantined_at IS NOT NULL
 WHERE r.ended_at IS NULL ORDER BY r.name, r.seen_at
""")
