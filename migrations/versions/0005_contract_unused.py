"""Drops what release 0.1.0 had ceased to use already: costs by engine key alone, and the index of the former queue."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# What costs were learned stands in render_cost since 0002.
DROP = """
DROP TABLE engine_cost;
DROP INDEX shard_ready;
"""

BACK = """
CREATE TABLE engine_cost (
  team_id bigint NOT NULL,
  engine_key text NOT NULL,
  step_seconds real NOT NULL,
  renders bigint NOT NULL,
  PRIMARY KEY (team_id, engine_key)
);
GRANT SELECT ON engine_cost TO farm_api, farm_scheduler;
GRANT INSERT, UPDATE ON engine_cost TO farm_scheduler;
CREATE INDEX shard_ready ON shard (team_id, engine_key, priority DESC, shard_id) WHERE state = 'ready';
"""


def upgrade() -> None:
    op.execute(DROP)


def downgrade() -> None:
    op.execute(BACK)
