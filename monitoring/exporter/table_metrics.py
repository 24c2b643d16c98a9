"""What the exporter counts in tables that no report sums up: releases, roles, labels, the spool's ledger.

The queries are bounded: each reads an index's end, or a table that stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, desc, func, select

from monitoring.exporter.catalogue import Sample, sample, samples
from monitoring.exporter.usecase_metrics import version_number
from monitoring.store import Store, split_label
from monitoring.store.database.frames import fetch
from monitoring.store.database.tables import (
    labels,
    operations,
    predictions,
    reports,
    roles,
    runs,
    served,
    shadow,
    spool_ledger,
)
from monitoring.store.decisions.journal import FINAL_STATES

NEWEST_LABELS: Final = 2_000
"""Labels that delays are taken from."""
_FATES: Final = ("stored", "duplicates", "labels", "quarantined", "dropped")


def read_usecases(connection: Connection) -> list[str]:
    """Every use case that left a trace in a small table."""
    names: set[str] = set()
    for table in (served, runs, spool_ledger, roles, reports):
        names.update(name for (name,) in fetch(connection, select(table.c.usecase).distinct()))
    return sorted(names)


def release_samples(connection: Connection, usecase: str, now_us: int) -> Iterator[Sample]:
    """Operations that are open, and how often each kind ended how."""
    c = operations.c
    open_query = select(c.model, c.kind, c.state, func.min(c.created_at)).where(c.usecase == usecase)
    for model, kind, state, since in fetch(
        connection, open_query.where(c.state.not_in(FINAL_STATES)).group_by(c.model, c.kind, c.state)
    ):
        yield from sample("release_open_seconds", usecase, (now_us - since) / 1e6, model, kind, state)
    ended_query = select(c.model, c.kind, c.state, func.count()).where(c.usecase == usecase, c.state.in_(FINAL_STATES))
    for model, kind, state, count in fetch(connection, ended_query.group_by(c.model, c.kind, c.state)):
        yield from sample("releases", usecase, count, model, kind, state)


def role_samples(connection: Connection, usecase: str) -> Iterator[Sample]:
    """Who holds which role by the journal, since when, and how the challenger does in shadow."""
    c = roles.c
    newest_changes = select(func.max(c.role_id)).where(c.usecase == usecase).group_by(c.model, c.role)
    query = select(c.model, c.role, c.version, c.recorded_at).where(c.role_id.in_(newest_changes))
    for model, role, version, since in fetch(connection, query):
        yield from sample("role_version", usecase, version_number(version), model, role)
        if role == "champion" and version is not None:
            yield from sample("champion_since_timestamp_seconds", usecase, since / 1e6, model, version)
        if role == "challenger" and version is not None:
            yield from _shadow_samples(connection, usecase, f"{model}/{version}")


def _shadow_samples(connection: Connection, usecase: str, challenger: str) -> Iterator[Sample]:
    name, version = split_label(challenger)
    c = shadow.c
    query: Any = select(func.count(), func.count(c.error)).where(
        c.usecase == usecase, c.model == name, c.version == version
    )
    ((rows, failed_rows),) = fetch(connection, query)
    yield from sample("challenger_scored_rows", usecase, rows - failed_rows, challenger)
    yield from sample("challenger_failed_rows", usecase, failed_rows, challenger)


def label_samples(connection: Connection, usecase: str) -> Iterator[Sample]:
    """How late labels are, and how far they reach."""
    p, c = predictions.c, labels.c
    newest_query = select(c.label_id, c.event_id, c.observed_at, c.source, c.stored_at).where(c.usecase == usecase)
    newest_labels = newest_query.order_by(desc(c.label_id)).limit(NEWEST_LABELS).subquery()
    same_event = (p.usecase == usecase) & (p.event_id == newest_labels.c.event_id)
    query = select(
        newest_labels.c.source, newest_labels.c.observed_at, newest_labels.c.stored_at, p.event_time
    ).select_from(newest_labels)
    rows = fetch(connection, query.outerjoin(predictions, same_event))
    if not rows:
        return
    yield from sample("label_stored_timestamp_seconds", usecase, max(row[2] for row in rows) / 1e6)
    labels_with_event = [row for row in rows if row[3] is not None]
    for source in sorted({row[0] for row in labels_with_event}):
        delays = [
            (observed_at - event_time) / 1e6 for name, observed_at, _, event_time in labels_with_event if name == source
        ]
        parts = {"median": float(np.quantile(delays, 0.5)), "p90": float(np.quantile(delays, 0.9))}
        yield from samples("label_delay_seconds", usecase, [((source, part), value) for part, value in parts.items()])
    newest_answered = _end_of_event_time(connection, usecase, func.max)
    if labels_with_event and newest_answered is not None:
        lag = (newest_answered - max(row[3] for row in labels_with_event)) / 1e6
        yield from sample("label_lag_seconds", usecase, max(0.0, lag))


def _end_of_event_time(connection: Connection, usecase: str, end: Any) -> int | None:
    """Event time of the newest (``func.max``) or oldest (``func.min``) event."""
    result = connection.execute(select(end(predictions.c.event_time)).where(predictions.c.usecase == usecase))
    value: int | None = result.scalar()
    return value


def log_samples(connection: Connection, usecase: str) -> Iterator[Sample]:
    """The spool's ledger, and how long the newest row was on its way."""
    c = spool_ledger.c
    sums = [func.sum(c[name]) for name in (*_FATES, "torn")]
    query: Any = select(func.count(), func.max(c.updated_at), func.sum(1 - c.finished), *sums).where(
        c.usecase == usecase
    )
    ((writers, moved_at, unfinished, *counts),) = fetch(connection, query)
    if writers:
        fates: Any = zip(_FATES, counts, strict=False)
        yield from samples("log_ledger_records", usecase, [((fate,), count) for fate, count in fates])
        yield from sample("log_torn_segments", usecase, counts[-1])
        yield from sample("log_writers", usecase, unfinished)
        yield from sample("scribe_moved_timestamp_seconds", usecase, moved_at / 1e6)
    p = predictions.c
    newest_query = select(p.received_at, p.stored_at).where(p.usecase == usecase, p.origin == "live")
    for received_at, stored_at in fetch(connection, newest_query.order_by(desc(p.row_id)).limit(1)):
        yield from sample("log_last_received_timestamp_seconds", usecase, received_at / 1e6)
        yield from sample("scribe_lag_seconds", usecase, max(0.0, (stored_at - received_at) / 1e6))
    for name, end in (("oldest", func.min), ("newest", func.max)):
        event_time = _end_of_event_time(connection, usecase, end)
        yield from sample(
            f"log_{name}_event_timestamp_seconds", usecase, None if event_time is None else event_time / 1e6
        )


def table_samples(store: Store, usecase: str) -> Iterator[Sample]:
    """Everything of this module, in one reading transaction."""
    with store.database.read() as connection:
        yield from release_samples(connection, usecase, store.database.now(connection))
        yield from role_samples(connection, usecase)
        yield from label_samples(connection, usecase)
        yield from log_samples(connection, usecase)
