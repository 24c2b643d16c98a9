"""What a missed event costs, by use case, and a view that ranks the open alerts of the latest day by it.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_AMOUNT = {
    "sqlite": """json_extract(CAST(p.body AS TEXT), '$."' || s.amount_column || '"')""",
    "postgresql": "CAST(CAST(convert_from(p.body, 'UTF8') AS json) ->> s.amount_column AS double precision)",
}
_VIEW = """
CREATE VIEW alerts_today AS
SELECT usecase, RANK() OVER (PARTITION BY usecase ORDER BY expected_loss DESC, event_id) AS place,
       event_id, event_time_us, model, version, score, threshold, expected_loss
FROM (
    SELECT p.usecase, p.event_id, p.event_time AS event_time_us, p.model, p.version, p.score, p.threshold,
           p.score * COALESCE({amount}, s.cost) AS expected_loss
    FROM stakes s CROSS JOIN predictions p
    WHERE p.usecase = s.usecase
      AND p.event_time > (SELECT MAX(x.event_time) FROM predictions x WHERE x.usecase = s.usecase) - 86400000000
      AND p.origin = 'live' AND p.decision = 1
      AND NOT EXISTS (SELECT 1 FROM labels l WHERE l.usecase = p.usecase AND l.event_id = p.event_id)
      AND NOT EXISTS (SELECT 1 FROM actions a WHERE a.usecase = p.usecase AND a.event_id = p.event_id)
) AS open_alerts
"""


def upgrade() -> None:
    """Add the table and the view."""
    op.create_table(
        "stakes",
        sa.Column("usecase", sa.Text, nullable=False),
        sa.Column("amount_column", sa.Text),
        sa.Column("cost", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("usecase", name="pk_stakes"),
    )
    op.execute(_VIEW.format(amount=_AMOUNT[op.get_context().dialect.name]))


def downgrade() -> None:
    """Take them away."""
    op.execute("DROP VIEW alerts_today")
    op.drop_table("stakes")
