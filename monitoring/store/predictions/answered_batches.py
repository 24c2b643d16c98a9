"""A window of answered events with their features, part by part: memory does not grow with the window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import Select, select

from monitoring.core.calendar import TimeWindow
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, decode_bodies, fetch, floats, texts, times, to_us
from monitoring.store.database.records import model_label
from monitoring.store.database.tables import predictions
from monitoring.store.predictions.log import read_plan, unpack_features
from monitoring.store.predictions.pages import read_pages

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
    query = query.where(c.features.is_not(None), c.plan_id.is_not(None))
    plans: dict[str, tuple[str, ...]] = {}
    for rows in read_pages(database, query, to_us(window.start), chunk):
        for plan_id in {row[3] for row in rows} - set(plans):
            with database.read() as connection:
                plans[plan_id] = read_plan(connection, plan_id)
        yield _decode_part(rows, plans, feature_names)


def read_decision_parts(
    database: Database, usecase: str, window: TimeWindow, columns: Mapping[str, str], chunk: int = CHUNK
) -> Iterator[pd.DataFrame]:
    """Answers of the window with columns of their events, ``chunk`` at a time, in the order of the log.

    Args:
        database, usecase, window: which answers.
        columns: name to declared type of the event columns; one that has the name of a column below gets the
            ending ``_event``.
        chunk: most rows of a part.

    Yields:
        event_id, event_time, model (label ``name/version``), score, decision (bool), action, propensity, and columns.
    """
    c = predictions.c
    query = _answered_query(
        usecase, window, c.row_id, c.event_time, c.event_id, c.model + "/" + c.version, c.score, c.decision, c.action,
        c.propensity, *([c.body] if columns else []),
    )  # fmt: skip
    shared: dict[str, str] = {}
    for rows in read_pages(database, query, to_us(window.start), chunk):
        _, event_times, ids, models, scores, decisions, actions, propensities, *bodies = zip(*rows, strict=True)
        frame = pd.DataFrame(
            {
                "event_id": texts(ids),
                "event_time": times(event_times),
                "model": _share_texts(texts(models), shared),
                "score": floats(scores),
                "decision": np.array(decisions, dtype=bool),
                "action": _share_texts(texts(actions), shared),
                "propensity": floats(propensities),
            }
        )
        values = decode_bodies(bodies[0], columns) if columns else {}
        for name, column in values.items():
            plain = _share_texts(column, shared) if isinstance(column, pd.Series) else column
            frame[f"{name}_event" if name in frame.columns else name] = plain
        yield frame


def _share_texts(values: pd.Series, shared: dict[str, str]) -> pd.Series:
    """The same texts, each kept once however many rows hold it."""
    if values.dtype != object:
        return values
    return texts([shared.setdefault(value, value) if isinstance(value, str) else value for value in values])


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
