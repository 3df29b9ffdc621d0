"""Note when the platform told of a video, so that those told of lately are found."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("videos", sa.Column("told_at", sa.DateTime(timezone=True)))
    op.create_index("videos_told_at", "videos", ["told_at"])


def downgrade() -> None:
    op.drop_index("videos_told_at", "videos")
    op.drop_column("videos", "told_at")
