"""A view that says in readable times what each replica serves, and whether that is what the alias names.

Revision: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIME = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000000.0, 'unixepoch')",
    "postgresql": "to_timestamp({0} / 1000000.0)",
}
# version is empty where the external incumbent answers; champion is empty where no version holds the alias.
_VIEW = """
CREATE VIEW served_versions AS
SELECT usecase, model, replica, version, champion AS alias_version,
       CASE WHEN COALESCE(version, '') = COALESCE(champion, '') THEN 1 ELSE 0 END AS agrees,
       {since} AS served_since, {seen} AS last_seen, since AS served_since_us, seen_at AS last_seen_us
FROM served
"""


def upgrade() -> None:
    """Add the view."""
    time = _TIME[op.get_context().dialect.name]
    op.execute(_VIEW.format(since=time.format("since"), seen=time.format("seen_at")))


def downgrade() -> None:
    """Take it away."""
    op.execute("DROP VIEW served_versions")
