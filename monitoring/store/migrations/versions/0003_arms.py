"""Which arm of an experiment an event belongs to, and the routing policy under which it was answered.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns, and an index of the rows that have them."""
    for name in ("arm", "routing"):
        op.add_column("predictions", sa.Column(name, sa.Text))
    routed = sa.text("routing IS NOT NULL")
    op.create_index("ix_predictions_routing", "predictions", ["routing"], sqlite_where=routed, postgresql_where=routed)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_predictions_routing", "predictions")
    for name in ("routing", "arm"):
        op.drop_column("predictions", name)
