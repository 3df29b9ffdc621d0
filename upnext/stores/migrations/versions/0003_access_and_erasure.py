"""Mark what the platform itself told, index what is barred, make the tables of keys and erasures."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BARRED = sa.text("status <> 'active' OR (age_restricted AND told)")


def upgrade() -> None:
    for table in ("videos", "users"):
        op.add_column(table, sa.Column("told", sa.Boolean, nullable=False, server_default=sa.false()))
    columns = ["video_id", "status", "age_restricted"]
    op.create_index("videos_barred", "videos", columns, sqlite_where=BARRED, postgresql_where=BARRED)
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "erasures",
        sa.Column("person", sa.String(64), primary_key=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("erasures")
    op.drop_table("keys")
    op.drop_index("videos_barred", "videos")
    for table in ("users", "videos"):
        op.drop_column(table, "told")
