"""A window of answered events with their features, part by part: memory does not grow with the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import Select, and_, or_, select

from monitoring.core.calendar import TimeWindow
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, fetch, texts, times, to_us
from monitoring.store.database.records import model_label
from monitoring.store.database.tables import predictions
from monitoring.store.predictions.log import read_plan, unpack_features

CHUNK: Final = 20_000


@dataclass(frozen=True, eq=False)
class AnsweredPart:
    """Some answered events in the order of the log: one row an event.

    Attributes:
        ids: event ids.
        times: event times, UTC.
        features: the wanted features as served, float32; NaN where a row's plan lacked one.
    """

    ids: pd.Series
    times: pd.Series
    features: pd.DataFrame


def read_answered_parts(
    database: Database, usecase: str, window: TimeWindow, feature_names: Sequence[str], chunk: int = CHUNK
) -> Iterator[AnsweredPart]:
    """Events of the window that were scored and logged with features, ``chunk`` at a time.

    Raises:
        StoreError: a feature row fits no declared plan.
    """
    c = predictions.c
    query = _answered_query(usecase, window, c.row_id, c.event_time, c.event_id, c.plan_id, c.features)
    query = query.where(c.features.is_not(None), c.plan_id.is_not(None)).order_by(c.event_time, c.row_id).limit(chunk)
    plans: dict[str, tuple[str, ...]] = {}
    from_bound: Any = c.event_time >= to_us(window.start)
    while True:
        with database.read() as connection:
            rows = fetch(connection, query.where(from_bound))
            for plan_id in {row[3] for row in rows} - set(plans):
                plans[plan_id] = read_plan(connection, plan_id)
        if rows:
            yield _decode_part(rows, plans, feature_names)
        if len(rows) < chunk:
            return
        last_row, last_time = rows[-1][:2]
        past_last_row = or_(c.event_time > last_time, and_(c.event_time == last_time, c.row_id > last_row))
        from_bound = and_(c.event_time >= last_time, past_last_row)  # the plain bound leaves out earlier days' tables


def newest_champion(database: Database, usecase: str, window: TimeWindow, model: str) -> str | None:
    """Label of the version that gave a model's newest answer as champion in the window; ``None`` without any."""
    c = predictions.c
    # Under a canary the challenger answers too, and is not champion.
    query = _answered_query(usecase, window, c.version).where(c.alias == "champion", c.model == model)
    with database.read() as connection:
        rows = fetch(connection, query.order_by(c.event_time.desc(), c.row_id.desc()).limit(1))
    return model_label(model, rows[0][0]) if rows else None


def _answered_query(usecase: str, window: TimeWindow, *columns: Any) -> Select[Any]:
    c = predictions.c
    query = select(*columns).where(c.usecase == usecase, c.score.is_not(None))
    return query.where(c.event_time >= to_us(window.start), c.event_time < to_us(window.end))


def _decode_part(
    rows: Sequence[tuple[Any, ...]], plans: dict[str, tuple[str, ...]], feature_names: Sequence[str]
) -> AnsweredPart:
    _, event_times, ids, plan_ids, blobs = columns_of(rows, 5)
    values = np.full((len(rows), len(feature_names)), np.nan, dtype=np.float32)
    plan_of_row = np.array(plan_ids, dtype=object)
    for plan_id in dict.fromkeys(plan_ids):
        rows_of_plan = np.flatnonzero(plan_of_row == plan_id)
        plan_values = unpack_features([blobs[i] for i in rows_of_plan], len(plans[plan_id]))
        column_of = {name: index for index, name in enumerate(plans[plan_id])}
        shared_columns = [
            (target_columns, column_of[name]) for target_columns, name in enumerate(feature_names) if name in column_of
        ]
        if shared_columns:
            target_columns, source_columns = zip(*shared_columns, strict=True)
            values[np.ix_(rows_of_plan, np.array(target_columns))] = plan_values[:, list(source_columns)]
    return AnsweredPart(texts(ids), times(event_times), pd.DataFrame(values, columns=list(feature_names)))
