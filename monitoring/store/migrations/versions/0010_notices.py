"""Notices to people: what was told to whom, how far the chain was read, which conditions stand; signs of life.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "notices",
        sa.Column("notice_id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger()),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'given_up')", name=op.f("ck_notices_state")),
        sa.PrimaryKeyConstraint("notice_id", "target", name=op.f("pk_notices")),
    )
    op.create_index("ix_notices_state_next_at", "notices", ["state", "next_at"])
    op.create_table(
        "notice_marks",
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("usecase", "name", name=op.f("pk_notice_marks")),
    )
    op.create_table(
        "notice_conditions",
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("watch", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("told_at", sa.BigInteger()),
        sa.Column("cleared_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("usecase", "watch", "subject", name=op.f("pk_notice_conditions")),
    )
    op.create_table(
        "heartbeats",
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("usecase", "part", name=op.f("pk_heartbeats")),
    )


def downgrade() -> None:
    """Take them away."""
    for table in ("heartbeats", "notice_conditions", "notice_marks", "notices"):
        op.drop_table(table)
