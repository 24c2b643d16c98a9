"""What the service said is to be done with a flagged event, and what was really done with it.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and a table."""
    op.add_column("predictions", sa.Column("action", sa.Text))
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "actions",
        sa.Column("action_id", number, autoincrement=True, nullable=False),
        sa.Column("usecase", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("action_id", name="pk_actions"),
        sa.UniqueConstraint(
            "usecase", "event_id", "action", "by", "taken_at", name="uq_actions_usecase_event_id_action_by_taken_at"
        ),
        sa.CheckConstraint("action IN ('block', 'let_through')", name=op.f("ck_actions_action")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("actions")
    op.drop_column("predictions", "action")
