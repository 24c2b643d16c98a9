"""Comparisons with their frozen plans, and their frozen days, which nothing may change.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables and guard the days."""
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("usecase", "model", "champion", "challenger")),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("first_day", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.BigInteger()),
        sa.Column("outcome", sa.Text()),
        sa.Column("verdict_digest", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index(op.f("ix_comparisons_model_opened_at"), "comparisons", ["model", "opened_at"])
    op.create_table(
        "comparison_days",
        sa.Column("comparison_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("comparison_id", "day", name=op.f("pk_comparison_days")),
    )
    _guard_sqlite() if op.get_bind().dialect.name == "sqlite" else _guard_postgresql()


def downgrade() -> None:
    """Take both away."""
    op.drop_table("comparison_days")
    op.drop_table("comparisons")


def _guard_sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER comparison_days_no_{verb.lower()} BEFORE {verb} ON comparison_days "
            "BEGIN SELECT RAISE(ABORT, 'comparison_days is append-only'); END"
        )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE TRIGGER comparison_days_no_change BEFORE UPDATE OR DELETE ON comparison_days "
        "FOR EACH ROW EXECUTE FUNCTION incumbent_refuse()"
    )
    op.execute(
        "CREATE TRIGGER comparison_days_no_truncate BEFORE TRUNCATE ON comparison_days "
        "FOR EACH STATEMENT EXECUTE FUNCTION incumbent_refuse()"
    )
