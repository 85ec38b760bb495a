"""The first tables.

Every row has its team, so that row-level security comes later as a migration of its own. Two roles: ``farm_api`` acts
for one team a transaction, ``farm_scheduler`` for all of them while it leads.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from alembic import op

from farm.core.ids import first_of

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE team (
  team_id bigint PRIMARY KEY,
  name text NOT NULL UNIQUE,
  max_renders bigint NOT NULL DEFAULT 5000000,   -- without an outcome, at once
  event_id bigint NOT NULL DEFAULT 0,            -- the newest event: its row lock puts event ids in commit order
  created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE api_key (
  key_id bigint PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  name text NOT NULL,
  digest bytea NOT NULL UNIQUE,                  -- sha256 of the key; the key is 256 random bits, so no salt is needed
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz
);

CREATE TABLE source (
  team_id bigint NOT NULL REFERENCES team,
  sha256 text NOT NULL,
  name text NOT NULL,
  bytes bigint NOT NULL,
  width int NOT NULL,
  height int NOT NULL,
  format text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, sha256)
);

CREATE TABLE checkpoint (
  checkpoint_id bigint PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  name text NOT NULL,
  digest text NOT NULL,
  layout text NOT NULL CHECK (layout IN ('folder', 'single')),
  prefix text NOT NULL,
  files jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (team_id, name)
);

CREATE TABLE lora (
  lora_id bigint PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  name text NOT NULL,
  digest text NOT NULL,
  key text NOT NULL,
  bytes bigint NOT NULL,
  base text NOT NULL,                            -- digest of the checkpoint that it was checked against
  base_name text NOT NULL,
  targets int NOT NULL,
  rank int NOT NULL,
  trigger_words text[] NOT NULL DEFAULT '{}',
  licence text NOT NULL DEFAULT '',
  expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (team_id, name)
);

CREATE TABLE style (
  style_id bigint PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  name text NOT NULL,
  version int NOT NULL,
  spec jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (team_id, name, version)
);

CREATE TABLE picture (
  picture_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  fingerprint bytea NOT NULL,
  key text NOT NULL,
  sha256 bytea NOT NULL,
  bytes bigint NOT NULL,
  width int NOT NULL,
  height int NOT NULL,
  format text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (team_id, fingerprint)
);
CREATE INDEX picture_key ON picture (key);

CREATE TABLE campaign (
  campaign_id bigint PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  name text NOT NULL,
  submit_key text NOT NULL,
  submit_hash text NOT NULL,
  spec jsonb NOT NULL,
  resolved jsonb NOT NULL,
  state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'cancelling', 'cancelled', 'done')),
  renders bigint NOT NULL,
  priority smallint NOT NULL,
  parent bigint REFERENCES campaign,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  UNIQUE (team_id, submit_key)
);
CREATE INDEX campaign_of_team ON campaign (team_id, campaign_id DESC);
CREATE INDEX campaign_open ON campaign (state) WHERE state IN ('active', 'paused', 'cancelling');

-- A render has no row until it has an outcome. A shard is the ordinals that are leased together.
CREATE TABLE shard (
  shard_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  team_id bigint NOT NULL REFERENCES team,
  campaign_id bigint NOT NULL REFERENCES campaign,
  parent bigint,                                 -- the shard that it was cut from after a failure
  engine_key text NOT NULL,
  checkpoint text NOT NULL,
  priority smallint NOT NULL,
  state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'done', 'cancelled')),
  ready_at timestamptz NOT NULL DEFAULT now(),
  tries smallint NOT NULL DEFAULT 0,             -- failed tries that its renders have behind them
  lost smallint NOT NULL DEFAULT 0,              -- leases that ended with their renderer: a budget of its own
  fence uuid,                                    -- of the newest lease; random, so that a restored backup revives none
  session uuid,
  leased_at timestamptz,
  todo int8multirange NOT NULL,                  -- ordinals still without an outcome
  renders int NOT NULL,                          -- how many those are
  seconds real NOT NULL,                         -- expected GPU seconds of each
  succeeded int NOT NULL DEFAULT 0,
  failed int NOT NULL DEFAULT 0,
  reused int NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
CREATE INDEX shard_ready ON shard (team_id, engine_key, priority DESC, shard_id) WHERE state = 'ready';
CREATE INDEX shard_leased ON shard (session) WHERE state = 'leased';
CREATE INDEX shard_campaign ON shard (campaign_id);  -- no counters in it: that would end HOT updates

CREATE TABLE outcome (
  team_id bigint NOT NULL,
  campaign_id bigint NOT NULL,
  ordinal bigint NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed')),
  picture_id bigint REFERENCES picture,
  reused boolean NOT NULL DEFAULT false,
  tries smallint NOT NULL,
  gpu_seconds real NOT NULL DEFAULT 0,
  renderer text,
  numerics text,
  code text,
  detail text,
  finished_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (campaign_id, ordinal),
  CHECK ((outcome = 'succeeded') = (picture_id IS NOT NULL))
) PARTITION BY RANGE (campaign_id);
CREATE INDEX outcome_picture ON outcome (picture_id) WHERE picture_id IS NOT NULL;
CREATE INDEX outcome_failed ON outcome (campaign_id, ordinal) WHERE outcome = 'failed';

-- Tries that did not end in success, kept for people who ask why. Append-only.
CREATE TABLE attempt (
  attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  team_id bigint NOT NULL,
  campaign_id bigint NOT NULL,
  shard_id bigint NOT NULL,
  ordinal bigint,                                -- none: the whole shard lost its renderer
  fence uuid,
  renderer text,
  kind text NOT NULL,
  code text NOT NULL,
  detail text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attempt_campaign ON attempt (campaign_id, ordinal);

-- Logged, not unlogged: an unlogged table is empty after a crash, and with it the epoch that fences old leaders off.
CREATE TABLE leader (
  name text PRIMARY KEY,
  holder text NOT NULL,
  epoch bigint NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One row a renderer session; its expiry is that of every lease the session holds. A new process is a new session.
CREATE TABLE renderer (
  session uuid PRIMARY KEY,
  name text NOT NULL,
  state text NOT NULL,
  doing text NOT NULL DEFAULT '',
  gpu text NOT NULL DEFAULT '',
  node text NOT NULL DEFAULT '',
  numerics text NOT NULL DEFAULT '',
  waiting int NOT NULL DEFAULT 0,
  checkpoint text NOT NULL DEFAULT '',
  expires_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX renderer_alive ON renderer (name) WHERE ended_at IS NULL;

-- What an engine key costs, learned from every settled render.
CREATE TABLE engine_cost (
  team_id bigint NOT NULL,
  engine_key text NOT NULL,
  step_seconds real NOT NULL,
  renders bigint NOT NULL,
  PRIMARY KEY (team_id, engine_key)
);

CREATE TABLE event (
  team_id bigint NOT NULL,
  event_id bigint NOT NULL,
  campaign_id bigint NOT NULL,
  kind text NOT NULL,
  data jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, event_id)
);
CREATE INDEX event_campaign ON event (campaign_id, event_id);
"""

ROLES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farm_api') THEN CREATE ROLE farm_api NOLOGIN; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farm_scheduler') THEN CREATE ROLE farm_scheduler NOLOGIN; END IF;
END $$;
GRANT USAGE ON SCHEMA public TO farm_api, farm_scheduler;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO farm_api, farm_scheduler;
GRANT INSERT ON source, checkpoint, lora, style, campaign, shard, event TO farm_api;
GRANT UPDATE (state, finished_at) ON campaign TO farm_api;
GRANT UPDATE (state) ON shard TO farm_api;
GRANT UPDATE (name) ON checkpoint, lora TO farm_api;  -- what ON CONFLICT DO UPDATE asks for; the name stays
GRANT UPDATE (event_id) ON team TO farm_api, farm_scheduler;
GRANT INSERT ON picture, outcome, attempt, leader, renderer, engine_cost, event, shard TO farm_scheduler;
GRANT UPDATE ON shard, campaign, leader, renderer, engine_cost TO farm_scheduler;
GRANT DELETE ON renderer, picture TO farm_scheduler;
"""

DROP = """
DROP TABLE event, engine_cost, renderer, leader, attempt, outcome, shard, campaign, picture, style, lora, checkpoint,
  source, api_key, team;
"""


def quarters(first: int, last: int) -> Iterator[tuple[str, int, int]]:
    """(name, first id, id after the last) of each quarter: campaign ids begin with their time."""
    for year in range(first, last + 1):
        for quarter in range(4):
            begin = datetime(year, 3 * quarter + 1, 1, tzinfo=UTC)
            end = datetime(year + quarter // 3, 3 * ((quarter + 1) % 4) + 1, 1, tzinfo=UTC)
            yield f"outcome_{year}_q{quarter + 1}", first_of(begin), first_of(end)


def upgrade() -> None:
    op.execute(TABLES)
    for name, lo, hi in quarters(2026, 2035):
        op.execute(f"CREATE TABLE {name} PARTITION OF outcome FOR VALUES FROM ({lo}) TO ({hi})")
    op.execute("CREATE TABLE outcome_beyond PARTITION OF outcome DEFAULT")
    op.execute(ROLES)


def downgrade() -> None:
    op.execute(DROP)
