"""Make the tables of experiments, hold-outs and exposures."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )
    op.create_table(
        "holdouts",
        sa.Column("layer", sa.String(64), primary_key=True),
        sa.Column("share", sa.Float, nullable=False),
    )
    op.create_table(
        "exposures",
        sa.Column("date", sa.String(10), primary_key=True),
        sa.Column("experiment", sa.String(64), primary_key=True),
        sa.Column("user_id", KEY, primary_key=True),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("exposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Index("exposures_user", "user_id"),
    )


def downgrade() -> None:
    op.drop_table("exposures")
    op.drop_table("holdouts")
    op.drop_table("experiments")
