"""Say which videos are made for kids or blocked in a region, and which viewers are in kids mode."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("videos", sa.Column("made_for_kids", sa.Boolean))
    op.add_column("videos", sa.Column("blocked_regions", sa.JSON))
    op.add_column("users", sa.Column("kids_mode", sa.Boolean))


def downgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.drop_column("kids_mode")
    with op.batch_alter_table("videos") as videos:
        videos.drop_column("blocked_regions")
        videos.drop_column("made_for_kids")
