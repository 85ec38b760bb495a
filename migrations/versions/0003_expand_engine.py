"""Renditions of pictures, and what was measured of them.

A campaign, style or picture of the release before this one stays as it is: what it lacks is filled in when it is read.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The default is a constant, so no row is written again.
TABLES = """
ALTER TABLE picture
  ADD renditions jsonb NOT NULL DEFAULT '[]',        -- PublishedRendition, each beside the picture under its name
  ADD measured jsonb;                                -- Measured; NULL: by a renderer that measured nothing
"""

DOWN = "ALTER TABLE picture DROP renditions, DROP measured"


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(DOWN)
