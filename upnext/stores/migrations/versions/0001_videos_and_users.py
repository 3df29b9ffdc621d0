"""Make the tables of videos and users."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "videos",
        sa.Column("video_id", KEY, primary_key=True),
        sa.Column("title", sa.Text),
        sa.Column("tags", sa.JSON),
        sa.Column("category", sa.String(64)),
        sa.Column("creator_id", sa.String(128)),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("uploaded_at", sa.DateTime(timezone=True)),
        sa.Column("language", sa.String(64)),
        sa.Column("region", sa.String(64)),
        sa.Column("thumbnail_url", sa.Text),
        sa.Column("age_restricted", sa.Boolean),
        sa.Column("status", sa.String(16)),
    )
    op.create_table(
        "users",
        sa.Column("user_id", KEY, primary_key=True),
        sa.Column("region", sa.String(64)),
        sa.Column("language", sa.String(64)),
        sa.Column("device", sa.String(64)),
        sa.Column("age_group", sa.String(64)),
        sa.Column("topics", sa.JSON),
        sa.Column("segments", sa.JSON),
        sa.Column("created_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("users")
    op.drop_table("videos")
