"""The tables, as SQLAlchemy Core. One database belongs to one environment; every row names its use case.

Times are BIGINT microseconds since 1970 UTC: the same number in SQLite and PostgreSQL, exact, and
sorted as it is. ``migrations/`` makes these tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ROUTED = text("routing IS NOT NULL")

# SQLite gives rows numbers by itself only to a column declared INTEGER PRIMARY KEY.
BIG_ID = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _optional_text(name: str) -> Column[str]:
    return Column(name, Text)


def _time(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _row_number(name: str) -> Column[int]:
    return Column(name, BIG_ID, primary_key=True, autoincrement=True)


plans = Table(
    "plans",
    metadata,
    Column("plan_id", Text, primary_key=True),
    _text("names"),
    _time("stored_at"),
)

predictions = Table(
    "predictions",
    metadata,
    _row_number("row_id"),
    _text("usecase"),
    _text("event_id"),
    _time("event_time"),
    _time("received_at"),
    _text("origin"),
    Column("body", LargeBinary, nullable=False),
    _optional_text("plan_id"),
    Column("features", LargeBinary),
    _optional_text("model"),
    _optional_text("version"),
    _optional_text("alias"),
    _optional_text("contract"),
    Column("raw_score", Double),
    Column("score", Double),
    Column("threshold", Double),
    Column("decision", SmallInteger),
    Column("propensity", Double),
    _time("stored_at"),
    _optional_text("arm"),
    _optional_text("routing"),
    _optional_text("action"),
    UniqueConstraint("usecase", "event_id"),
    CheckConstraint("origin IN ('live', 'history', 'event', 'late')", name="origin"),
    # SQLite turns NaN into NULL and PostgreSQL sorts it above every number: both are refused here.
    CheckConstraint("raw_score BETWEEN 0 AND 1", name="raw_score"),
    CheckConstraint("score BETWEEN 0 AND 1", name="score"),
    CheckConstraint(
        "origin <> 'live' OR (score IS NOT NULL AND threshold IS NOT NULL AND decision IS NOT NULL"
        " AND model IS NOT NULL AND version IS NOT NULL)",
        name="answered",
    ),
    Index(None, "usecase", "event_time", "row_id"),
    # Few rows are routed, and an arm's figures are asked for every few seconds.
    Index("ix_predictions_routing", "routing", sqlite_where=_ROUTED, postgresql_where=_ROUTED),
    sqlite_autoincrement=True,
)

postgresql_metadata = MetaData(naming_convention=metadata.naming_convention)

prediction_ids = Table(
    "prediction_ids",
    postgresql_metadata,
    Column("usecase", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    _time("event_time"),
)
"""Which events the log holds, and when they happened: in PostgreSQL alone, where ``predictions`` has a table
for each day and no key over all of them (:mod:`monitoring.store.database.day_partitions`). Look an event up here
first.
"""

shadow = Table(
    "shadow",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    _text("role"),
    Column("raw_score", Double),
    Column("score", Double),
    Column("threshold", Double),
    Column("decision", SmallInteger),
    _optional_text("error"),
    _time("scored_at"),
    CheckConstraint("score BETWEEN 0 AND 1", name="score"),
    CheckConstraint("error IS NOT NULL OR (score IS NOT NULL AND decision IS NOT NULL)", name="scored"),
    sqlite_with_rowid=False,
)

shadow_watches = Table(
    "shadow_watches",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    _time("since"),
    _count("low_row"),
)

stakes = Table(
    "stakes",
    metadata,
    Column("usecase", Text, primary_key=True),
    _optional_text("amount_column"),
    Column("cost", Double, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    _row_number("label_id"),
    _text("usecase"),
    _text("event_id"),
    Column("y", SmallInteger, nullable=False),
    _time("observed_at"),
    _text("source"),
    _time("received_at"),
    _time("stored_at"),
    UniqueConstraint("usecase", "event_id", "source", "y", "observed_at"),
    CheckConstraint("y IN (0, 1)", name="y"),
    sqlite_autoincrement=True,
)

actions = Table(
    "actions",
    metadata,
    _row_number("action_id"),
    _text("usecase"),
    _text("event_id"),
    _text("action"),
    _text("by"),
    _time("taken_at"),
    _time("received_at"),
    _time("stored_at"),
    UniqueConstraint("usecase", "event_id", "action", "by", "taken_at"),
    CheckConstraint("action IN ('block', 'let_through')", name="action"),
    sqlite_autoincrement=True,
)

spool_ledger = Table(
    "spool_ledger",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("writer", Text, primary_key=True),
    _count("segment"),
    _count("position"),
    _count("last_seq"),
    _count("stored"),
    _count("duplicates"),
    _count("labels"),
    _count("quarantined"),
    _count("gaps"),
    _count("dropped"),
    _count("torn"),
    Column("finished", SmallInteger, nullable=False, server_default="0"),
    _time("updated_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    _row_number("quarantine_id"),
    _text("usecase"),
    _text("writer"),
    Column("segment", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    _text("reason"),
    Column("payload", LargeBinary, nullable=False),
    _time("stored_at"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", BIG_ID, primary_key=True, autoincrement=False),
    _text("usecase"),
    _text("kind"),
    _text("payload"),
    _text("actor"),
    _time("at"),
    _time("recorded_at"),
    _text("prev_hash"),
    _text("hash"),
    UniqueConstraint("hash"),
    Index(None, "kind", "seq"),
)

roles = Table(
    "roles",
    metadata,
    _row_number("role_id"),
    Column("seq", BigInteger, nullable=False),
    _text("usecase"),
    _text("model"),
    _text("role"),
    _optional_text("version"),
    _optional_text("contract"),
    _time("at"),
    _time("recorded_at"),
    Index(None, "model", "role", "at"),
)

operations = Table(
    "operations",
    metadata,
    Column("op_id", Text, primary_key=True),
    _text("usecase"),
    _text("model"),
    _text("kind"),
    _optional_text("from_version"),
    _text("to_version"),
    _optional_text("previous_version"),
    _text("evidence"),
    _text("contract"),
    _text("state"),
    Column("epoch", BigInteger, nullable=False),
    _text("actor"),
    _text("reason"),
    _text("note"),
    _time("at"),
    _time("created_at"),
    _time("updated_at"),
    Index(None, "model", "state"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    _text("holder"),
    Column("epoch", BigInteger, nullable=False),
    _time("acquired_at"),
    _time("expires_at"),
)

reports = Table(
    "reports",
    metadata,
    _row_number("report_id"),
    _text("usecase"),
    _text("kind"),
    _optional_text("model"),
    _optional_text("challenger"),
    _time("as_of"),
    _text("outcome"),
    _text("payload"),
    _text("digest"),
    _optional_text("html"),
    _optional_text("run_id"),
    _time("stored_at"),
    Index(None, "usecase", "kind", "as_of"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    _text("usecase"),
    _text("flow"),
    _text("state"),
    _text("message"),
    Column("as_of", BigInteger),
    _time("started_at"),
    Column("ended_at", BigInteger),
    _text("payload"),
    Index(None, "usecase", "flow", "started_at"),
)

served = Table(
    "served",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("replica", Text, primary_key=True),
    _text("model"),
    _optional_text("version"),
    _optional_text("champion"),
    _text("detail"),
    _time("since"),
    _time("seen_at"),
)

pins = Table(
    "pins",
    metadata,
    Column("model", Text, primary_key=True),
    _text("usecase"),
    _text("version"),
    _optional_text("from_version"),
    _text("contract"),
    Column("decision", BigInteger, nullable=False),
    _text("actor"),
    _text("reason"),
    _time("pinned_at"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Text, primary_key=True),
    _text("usecase"),
    _text("model"),
    _text("champion"),
    _text("challenger"),
    _text("plan"),
    _text("plan_hash"),
    _time("opened_at"),
    _text("first_day"),
    Column("closed_at", BigInteger),
    _optional_text("outcome"),
    _optional_text("verdict_digest"),
    Index(None, "model", "opened_at"),
)

comparison_days = Table(
    "comparison_days",
    metadata,
    Column("comparison_id", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    _text("payload"),
    _text("digest"),
    _time("as_of"),
    _time("stored_at"),
)

notices = Table(
    "notices",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    _text("usecase"),
    _text("kind"),
    _text("state"),
    _text("content"),
    _count("attempts"),
    _text("problem"),
    _time("created_at"),
    _time("next_at"),
    Column("delivered_at", BigInteger),
    CheckConstraint("state IN ('waiting', 'delivered', 'given_up')", name="state"),
    Index(None, "state", "next_at"),
)

notice_marks = Table(
    "notice_marks",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

notice_conditions = Table(
    "notice_conditions",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("watch", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    _text("content"),
    _time("since"),
    Column("told_at", BigInteger),
    Column("cleared_at", BigInteger),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("usecase", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    _time("seen_at"),
)

schema_facts = Table("schema_facts", metadata, Column("name", Text, primary_key=True), _text("value"))
"""``oldest_code``: the oldest schema revision that a program may know and still use this database."""

APPEND_ONLY = (decisions, roles, comparison_days)
"""Tables whose rows the database itself refuses to change or delete."""


def event_ids(is_sqlite: bool) -> Table:
    """The table to join by event id: usecase, event_id and event_time of every logged event."""
    return predictions if is_sqlite else prediction_ids


def metadata_of(is_sqlite: bool) -> MetaData:
    """All tables as a database of that kind has them."""
    if is_sqlite:
        return metadata
    postgresql_tables = MetaData(naming_convention=metadata.naming_convention)
    for source in (metadata, postgresql_metadata):
        for table in source.sorted_tables:
            table.to_metadata(postgresql_tables)
    days = postgresql_tables.tables["predictions"]
    days.constraints -= {constraint for constraint in days.constraints if isinstance(constraint, UniqueConstraint)}
    return postgresql_tables
