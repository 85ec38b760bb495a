"""Fair share, deadlines, budgets, proofs, prices, quarantine, tombstones.

`engine_cost` and the index `shard_ready` stay for the release before this one; a later migration drops them.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE team
  ADD weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0),
  ADD vtime double precision NOT NULL DEFAULT 0,     -- GPU seconds settled, divided by weight
  ADD backlogged boolean NOT NULL DEFAULT false,     -- it had something ready at the leader's last tick
  ADD quota int CHECK (quota > 0),                   -- renderers at once while other teams wait
  ADD burst int CHECK (burst > 0),                   -- renderers at once in any case
  ADD budget jsonb,                                  -- for each calendar month (UTC)
  ADD retention_days int CHECK (retention_days > 0);

ALTER TABLE campaign
  DROP CONSTRAINT campaign_state_check,
  ADD CONSTRAINT campaign_state_check CHECK (state IN ('proofing', 'awaiting_approval', 'active', 'paused',
    'cancelling', 'cancelled', 'done')),
  ADD deadline timestamptz,
  ADD budget jsonb,
  ADD lane text NOT NULL DEFAULT 'bulk' CHECK (lane IN ('interactive', 'bulk')),
  ADD gpu text,                                      -- only on this type of GPU
  ADD off_peak boolean NOT NULL DEFAULT false,
  -- In its team's queue; the least goes first. Seconds, so that it compares with how long loading weights takes.
  ADD position double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
  ADD paused_by text CHECK (paused_by IN ('user', 'budget', 'team_budget')),
  ADD warnings text[] NOT NULL DEFAULT '{}',
  ADD quote jsonb,                                   -- what was foretold when it was submitted
  ADD pruned_at timestamptz;
UPDATE campaign SET position = extract(epoch FROM created_at);
UPDATE campaign SET paused_by = 'user' WHERE state = 'paused';
DROP INDEX campaign_open;
CREATE INDEX campaign_open ON campaign (state)
  WHERE state IN ('proofing', 'awaiting_approval', 'active', 'paused', 'cancelling');
CREATE INDEX campaign_ended ON campaign (finished_at) WHERE finished_at IS NOT NULL AND pruned_at IS NULL;

ALTER TABLE shard
  DROP CONSTRAINT shard_state_check,
  ADD CONSTRAINT shard_state_check CHECK (state IN ('ready', 'leased', 'done', 'cancelled', 'held')),
  ADD place bigint NOT NULL DEFAULT 0,               -- its first ordinal: children stand where their parent stood
  ADD step_seconds double precision NOT NULL DEFAULT 0,  -- of a UNet step, that `seconds` rests on; 0: not known
  ADD depot_tries smallint NOT NULL DEFAULT 0,       -- tries that the store failed: a budget of their own
  ADD avoid text[] NOT NULL DEFAULT '{}';            -- renderers on which its renders failed
UPDATE shard SET place = lower(todo) WHERE state IN ('ready', 'leased') AND NOT isempty(todo);
CREATE INDEX shard_queue ON shard (campaign_id, engine_key, place, shard_id) WHERE state = 'ready';
CREATE INDEX shard_aside ON shard (campaign_id, state) WHERE state IN ('held', 'leased');  -- open, and in no queue

ALTER TABLE outcome ADD money real NOT NULL DEFAULT 0;

ALTER TABLE attempt ADD forgiven boolean NOT NULL DEFAULT false;  -- a quarantine took the blame
CREATE INDEX attempt_recent ON attempt (at) WHERE NOT forgiven;
CREATE INDEX attempt_renderer ON attempt (renderer, at) WHERE NOT forgiven;
CREATE INDEX event_warning ON event (campaign_id, event_id) WHERE kind = 'campaign.warning';

-- What was spent, a row for each campaign and month: the team's month is a sum over few rows.
CREATE TABLE spend (
  team_id bigint NOT NULL,
  month date NOT NULL,
  campaign_id bigint NOT NULL,
  gpu_seconds double precision NOT NULL DEFAULT 0,
  money double precision NOT NULL DEFAULT 0,
  PRIMARY KEY (team_id, month, campaign_id)
) WITH (fillfactor = 50);
CREATE INDEX spend_campaign ON spend (campaign_id);

-- What a UNet step costs with these weights on this type of GPU: mean and mean square of the last few hundred renders.
CREATE TABLE render_cost (
  team_id bigint NOT NULL,
  engine_key text NOT NULL,
  gpu text NOT NULL,
  step_seconds double precision NOT NULL,
  squares double precision NOT NULL,
  renders bigint NOT NULL,
  PRIMARY KEY (team_id, engine_key, gpu)
) WITH (fillfactor = 70);

CREATE TABLE load_cost (
  gpu text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('checkpoint', 'lora')),
  seconds double precision NOT NULL,                 -- of one load
  loads bigint NOT NULL,
  PRIMARY KEY (gpu, kind)
);

-- Set by operators. The type * is for every GPU that has no price of its own.
CREATE TABLE price (
  gpu text PRIMARY KEY,
  per_hour double precision NOT NULL CHECK (per_hour >= 0)
);

-- By name, not by session: a renderer that dies and comes back is the same machine.
CREATE TABLE renderer_health (
  name text PRIMARY KEY,
  last_success timestamptz,
  quarantined_at timestamptz,
  until timestamptz,
  why text NOT NULL DEFAULT '',
  probes int NOT NULL DEFAULT 0,
  by_hand boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

CREATE TABLE farm_view (
  name text PRIMARY KEY,
  value jsonb NOT NULL,
  at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE tombstone (
  key text PRIMARY KEY,
  reason text NOT NULL,
  found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tombstone_age ON tombstone (found_at);
"""

GRANTS = """
GRANT SELECT ON spend, render_cost, load_cost, price, renderer_health, farm_view TO farm_api, farm_scheduler;
GRANT UPDATE (priority, deadline, budget, position, paused_by) ON campaign TO farm_api;
GRANT UPDATE (ready_at) ON shard TO farm_api;          -- an approved shard begins to wait
GRANT INSERT, UPDATE ON spend, render_cost, load_cost, renderer_health, farm_view TO farm_scheduler;
GRANT UPDATE (forgiven) ON attempt TO farm_scheduler;
GRANT UPDATE (vtime, backlogged) ON team TO farm_scheduler;
GRANT SELECT, INSERT, DELETE ON tombstone TO farm_scheduler;
GRANT DELETE ON outcome, event, attempt TO farm_scheduler;
GRANT UPDATE (key) ON picture TO farm_scheduler;       -- what SELECT FOR UPDATE asks for; the key stays
"""

DOWN = """
REVOKE UPDATE (priority) ON campaign FROM farm_api;
REVOKE UPDATE (ready_at) ON shard FROM farm_api;
REVOKE UPDATE (key) ON picture FROM farm_scheduler;
REVOKE DELETE ON outcome, event, attempt FROM farm_scheduler;
DROP TABLE tombstone, farm_view, renderer_health, price, load_cost, render_cost, spend;
DROP INDEX attempt_recent, attempt_renderer, event_warning;
ALTER TABLE attempt DROP forgiven;
ALTER TABLE outcome DROP money;
DROP INDEX shard_aside, shard_queue;
UPDATE shard SET state = 'ready' WHERE state = 'held';
ALTER TABLE shard DROP place, DROP step_seconds, DROP depot_tries, DROP avoid, DROP CONSTRAINT shard_state_check,
  ADD CONSTRAINT shard_state_check CHECK (state IN ('ready', 'leased', 'done', 'cancelled'));
DROP INDEX campaign_open, campaign_ended;
UPDATE campaign SET state = 'paused' WHERE state IN ('proofing', 'awaiting_approval');
ALTER TABLE campaign DROP deadline, DROP budget, DROP lane, DROP gpu, DROP off_peak, DROP position, DROP paused_by,
  DROP warnings, DROP quote, DROP pruned_at, DROP CONSTRAINT campaign_state_check,
  ADD CONSTRAINT campaign_state_check CHECK (state IN ('active', 'paused', 'cancelling', 'cancelled', 'done'));
CREATE INDEX campaign_open ON campaign (state) WHERE state IN ('active', 'paused', 'cancelling');
ALTER TABLE team DROP weight, DROP vtime, DROP backlogged, DROP quota, DROP burst, DROP budget, DROP retention_days;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute(DOWN)
