"""Pins of the champion for times without a registry, and the view that says who held which role when.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQLITE_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000000.0, 'unixepoch')"
POSTGRES_TIME = "to_timestamp({0} / 1000000.0)"
# A role that nobody holds is a row of its own in the table: it ends a term and begins none.
HISTORY = """
CREATE VIEW roles_history AS
SELECT usecase, model, role, version, contract, {since} AS held_since, {until} AS held_until,
       since_us, until_us, decision, decided_as, decided_by, decision_hash
FROM (
    SELECT r.usecase, r.model, r.role, r.version, r.contract, r.at AS since_us,
           lead(r.at) OVER (PARTITION BY r.model, r.role ORDER BY r.role_id) AS until_us,
           r.seq AS decision, d.kind AS decided_as, d.actor AS decided_by, d.hash AS decision_hash
    FROM roles r JOIN decisions d ON d.seq = r.seq
) terms
WHERE version IS NOT NULL
"""


def upgrade() -> None:
    op.create_table('pins',
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('usecase', sa.Text(), nullable=False),
        sa.Column('version', sa.Text(), nullable=False),
        sa.Column('from_version', sa.Text(), nullable=True),
        sa.Column('contract', sa.Text(), nullable=False),
        sa.Column('decision', sa.BigInteger(), nullable=False),
        sa.Column('actor', sa.Text(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('pinned_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('model', name=op.f('pk_pins'))
    )
    time = SQLITE_TIME if op.get_bind().dialect.name == "sqlite" else POSTGRES_TIME
    op.execute(HISTORY.format(since=time.format("since_us"), until=time.format("until_us")))


def downgrade() -> None:
    op.execute("DROP VIEW roles_history")
    op.drop_table("pins")
