"""Pictures whose objects are gone, and a schema whose revision the services may read."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A lost picture gives up its fingerprint, which is how the former release, too, comes not to take it over.
TABLES = "ALTER TABLE picture ADD lost_at timestamptz"

# 0001 grants it in passing, where Alembic had made the table before.
GRANTS = "GRANT SELECT ON alembic_version TO farm_api, farm_scheduler"

DOWN = "ALTER TABLE picture DROP lost_at"


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GRANTS)


def downgrade() -> None:
    op.execute(DOWN)
