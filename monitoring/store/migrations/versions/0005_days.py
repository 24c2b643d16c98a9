"""PostgreSQL: the predictions table in one table for each day, and a slim table that keeps event ids unique.

SQLite keeps its one table. Rows keep their numbers; days beyond the newest 400 stay together in the
default table, so that one transaction does not need more locks than a server has by default.

Revision: 0005
"""

from datetime import date, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DAY = 86_400_000_000
MOST = 400
LAST = (date(2200, 1, 1) - date(1970, 1, 1)).days


def upgrade() -> None:
    """Make the new tables, move the rows, drop the old one."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute("ALTER TABLE predictions RENAME TO predictions_before")
    op.execute("ALTER TABLE predictions_before DROP CONSTRAINT pk_predictions")
    op.execute("ALTER TABLE predictions_before DROP CONSTRAINT uq_predictions_usecase_event_id")
    op.execute("DROP INDEX ix_predictions_usecase_event_time_row_id")
    op.execute("DROP INDEX ix_predictions_routing")
    op.execute(
        "CREATE TABLE predictions (LIKE predictions_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) "
        "PARTITION BY RANGE (event_time)"
    )
    op.execute("ALTER SEQUENCE predictions_row_id_seq OWNED BY predictions.row_id")
    op.execute("ALTER TABLE predictions ADD CONSTRAINT pk_predictions PRIMARY KEY (row_id, event_time)")
    op.create_index("ix_predictions_usecase_event_time_row_id", "predictions", ["usecase", "event_time", "row_id"])
    op.create_index(
        "ix_predictions_routing", "predictions", ["routing"], postgresql_where=sa.text("routing IS NOT NULL")
    )
    op.execute("CREATE TABLE predictions_default PARTITION OF predictions DEFAULT")
    for day in _newest_days():
        name = f"predictions_{(date(1970, 1, 1) + timedelta(days=day)).strftime('%Y%m%d')}"
        op.execute(f"CREATE TABLE {name} PARTITION OF predictions FOR VALUES FROM ({day * DAY}) TO ({(day + 1) * DAY})")
    op.execute("INSERT INTO predictions SELECT * FROM predictions_before")
    op.create_table(
        "prediction_ids",
        sa.Column("usecase", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("usecase", "event_id", name="pk_prediction_ids"),
    )
    op.execute("INSERT INTO prediction_ids SELECT usecase, event_id, event_time FROM predictions_before")
    op.execute("DROP TABLE predictions_before")


def _newest_days() -> list[int]:
    query = (
        f"SELECT DISTINCT floor(event_time / {DAY}.0)::bigint AS day FROM predictions_before "
        f"WHERE event_time >= 0 AND event_time < {LAST * DAY} ORDER BY day DESC LIMIT {MOST}"
    )
    return [int(day) for (day,) in op.get_bind().exec_driver_sql(query)]


def downgrade() -> None:
    """Put the rows back into one table."""
    if op.get_bind().dialect.name == "sqlite":
        return
    op.execute("ALTER TABLE predictions RENAME TO predictions_days")
    for name in ("ix_predictions_usecase_event_time_row_id", "ix_predictions_routing"):
        op.execute(f"DROP INDEX {name}")
    op.execute("ALTER TABLE predictions_days DROP CONSTRAINT pk_predictions")
    op.execute("CREATE TABLE predictions (LIKE predictions_days INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    op.execute("ALTER SEQUENCE predictions_row_id_seq OWNED BY predictions.row_id")
    op.execute("INSERT INTO predictions SELECT * FROM predictions_days")
    op.execute("ALTER TABLE predictions ADD CONSTRAINT pk_predictions PRIMARY KEY (row_id)")
    op.execute("ALTER TABLE predictions ADD CONSTRAINT uq_predictions_usecase_event_id UNIQUE (usecase, event_id)")
    op.create_index("ix_predictions_usecase_event_time_row_id", "predictions", ["usecase", "event_time", "row_id"])
    op.create_index(
        "ix_predictions_routing", "predictions", ["routing"], postgresql_where=sa.text("routing IS NOT NULL")
    )
    op.execute("DROP TABLE predictions_days")
    op.execute("DROP TABLE prediction_ids")
