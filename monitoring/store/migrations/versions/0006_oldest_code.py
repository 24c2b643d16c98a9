"""Which code may still use this database: the oldest schema that a program may know.

A migration that only adds (a table, a column that may be empty) leaves it alone; one after which older
programs would read or write wrongly raises it. PostgreSQL's day tables did: an older program relies on a
unique key that the predictions table no longer has there.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table with one row."""
    op.create_table(
        "schema_facts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schema_facts"),
    )
    oldest = "0001" if op.get_bind().dialect.name == "sqlite" else "0005"
    op.execute(f"INSERT INTO schema_facts (name, value) VALUES ('oldest_code', '{oldest}')")


def downgrade() -> None:
    """Take it away."""
    op.drop_table("schema_facts")
