"""The prediction log: every event that arrived, what was answered, and with which features.

Each event id has one row for each use case; a second arrival is counted and not stored, unless it brings
the answer to an event that had none (see :mod:`monitoring.store.predictions.insert`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection, Select, func, select

from monitoring.core.calendar import TimeWindow
from monitoring.errors import StoreError
from monitoring.policies.label_rules import LabelRules
from monitoring.store.database.day_partitions import prepare_days
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import (
    columns_of,
    decode_bodies,
    encode_bodies,
    fetch,
    floats,
    from_us,
    texts,
    times,
    to_us,
)
from monitoring.store.database.records import AppendResult, PlanRecord, ScoreRecord, StoredEvent
from monitoring.store.database.tables import plans, predictions
from monitoring.store.predictions import paired as pairs
from monitoring.store.predictions.insert import insert_plans, insert_scores
from monitoring.store.predictions.pages import read_pages

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_STORED_EVENT: Final = [predictions.c[name] for name in StoredEvent.__struct_fields__]
_ANSWER_TEXTS: Final = ("version", "alias", "plan_id")
_HISTORY_CHUNK: Final = 10_000
_EVENTS_PAGE: Final = 20_000


class PredictionLog:
    """Reads and writes of the log. Windows are spans of event time; frames are ordered by event time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, records: Sequence[ScoreRecord]) -> AppendResult:
        """Store the records whose event id is new, all in one transaction.

        Raises:
            RowRefused: a record cannot be stored (a score outside 0..1, an answer without a score).
            StoreUnavailable: nothing was stored; try again.
        """
        prepare_days(self._database, [record.event_time for record in records])
        with self._database.write() as connection:
            return insert_scores(self._database, connection, records)

    def declare_plan(self, plan: PlanRecord) -> None:
        """Store the column names behind a plan id; storing them again changes nothing."""
        with self._database.write() as connection:
            insert_plans(self._database, connection, [plan])

    def plan_names(self, plan_id: str) -> tuple[str, ...]:
        """Column names of the feature blobs with that plan id; ``StoreError`` when it is unknown."""
        with self._database.read() as connection:
            return read_plan(connection, plan_id)

    def import_history(
        self, usecase: str, events: pd.DataFrame, event_id: str, event_time: str, received_at: datetime | None = None
    ) -> AppendResult:
        """Store past events (``origin=history``): no scores, no features.

        Args:
            usecase: name of the use case.
            events: an events frame; every column becomes part of the body.
            event_id, event_time: names of the columns that hold them.
            received_at: machine time of the import; none is now.
        """
        total = AppendResult(0, 0)
        for start in range(0, len(events), _HISTORY_CHUNK):
            part = events.iloc[start : start + _HISTORY_CHUNK]
            prepare_days(self._database, _microseconds(part[event_time]))
            with self._database.write() as connection:
                arrived = self._database.now(connection) if received_at is None else to_us(received_at)
                records = _history_records(usecase, part, event_id, event_time, arrived)
                done = insert_scores(self._database, connection, records)
            total = AppendResult(total.stored + done.stored, total.duplicates + done.duplicates)
        return total

    def events(
        self, usecase: str, window: TimeWindow, columns: Mapping[str, str], as_of: datetime | None = None
    ) -> pd.DataFrame:
        """The raw events of the window as an events frame, from all origins.

        Args:
            usecase: name of the use case.
            window: span of event time.
            columns: declared column name to declared type, for all wanted columns.
            as_of: leaves out events later than this.
        """
        import pandas as pd

        c = predictions.c
        query = _in_window(select(c.row_id, c.event_time, c.body), usecase, window, as_of).order_by(None)
        pages = read_pages(self._database, query, to_us(window.start), _EVENTS_PAGE)
        parts = [pd.DataFrame(decode_bodies([row[2] for row in rows], columns)) for rows in pages]
        parts = parts or [pd.DataFrame(decode_bodies([], columns))]
        return pd.concat(parts, ignore_index=True)[list(columns)]

    def answers(self, usecase: str, window: TimeWindow, as_of: datetime | None = None) -> pd.DataFrame:
        """What was answered in the window; only rows that carry a score.

        Columns: event_id, event_time, received_at, origin, model (label ``name/version``), version,
        alias, raw_score, score, threshold, decision (bool), plan_id, action, propensity.
        """
        import numpy as np
        import pandas as pd

        c = predictions.c
        query = select(
            c.event_id, c.event_time, c.received_at, c.origin, c.model + "/" + c.version, c.version, c.alias,
            c.raw_score, c.score, c.threshold, c.decision, c.plan_id, c.action, c.propensity,
        ).where(c.score.is_not(None))  # fmt: skip  # one column a line would hide the order
        with self._database.read() as connection:
            rows = fetch(connection, _in_window(query, usecase, window, as_of))
        parts = columns_of(rows, 14)
        ids, at, received, origin, model, version, alias, raw, score, threshold, decision, plan, *asked = parts
        return pd.DataFrame(
            {
                "event_id": texts(ids),
                "event_time": times(at),
                "received_at": times(received),
                "origin": texts(origin),
                "model": texts(model),
                "version": texts(version),
                "alias": texts(alias),
                "raw_score": floats(raw),
                "score": floats(score),
                "threshold": floats(threshold),
                "decision": np.array(decision, dtype=bool),
                "plan_id": texts(plan),
                "action": texts(asked[0]),
                "propensity": floats(asked[1]),
            }
        )

    def features(
        self, usecase: str, window: TimeWindow, as_of: datetime | None = None
    ) -> tuple[tuple[str, ...], pd.DataFrame]:
        """The features as served: their names, and event_id plus one float32 column for each name.

        Rows of several plans are joined by name; a feature that a row's plan lacked is NaN.
        """
        c = predictions.c
        query = select(c.event_id, c.plan_id, c.features).where(c.features.is_not(None), c.plan_id.is_not(None))
        with self._database.read() as connection:
            rows = fetch(connection, _in_window(query, usecase, window, as_of))
            used = dict.fromkeys(row[1] for row in rows)
            named = {plan_id: read_plan(connection, plan_id) for plan_id in used}
        return _join_plans(rows, named)

    def stream(self, usecase: str, since_us: int = 0, chunk: int = 10_000) -> Iterator[list[StoredEvent]]:
        """All events from ``since_us`` (event time) on, in the order (event time, arrival), in lists."""
        c = predictions.c
        query = select(c.row_id, c.event_time, *_STORED_EVENT).where(c.usecase == usecase)
        for rows in read_pages(self._database, query, since_us, chunk):
            yield [_stored_event(row) for row in rows]

    def span(self, usecase: str, before: datetime | None = None) -> tuple[int, datetime, datetime] | None:
        """How many events there are (before an event time), the first and the last event time; ``None`` without any."""
        c = predictions.c
        query = select(func.count(), func.min(c.event_time), func.max(c.event_time)).where(c.usecase == usecase)
        query = query if before is None else query.where(c.event_time < to_us(before))
        with self._database.read() as connection:
            count, first, last = connection.execute(query).one()
        return (int(count), from_us(first), from_us(last)) if count else None

    def count(self, usecase: str, window: TimeWindow) -> int:
        """How many events of all origins the window holds."""
        with self._database.read() as connection:
            return int(
                connection.execute(_in_window(select(func.count()), usecase, window, None).order_by(None)).scalar_one()
            )

    def event_frame(
        self, usecase: str, window: TimeWindow, as_of: datetime, columns: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """event_id and event_time of all events of the window, with the named columns of their bodies."""
        import pandas as pd

        c = predictions.c
        query = select(c.event_id, c.event_time, *([c.body] if columns else []))
        with self._database.read() as connection:
            parts = columns_of(fetch(connection, _in_window(query, usecase, window, as_of)), 3 if columns else 2)
        frame = pd.DataFrame({"event_id": texts(parts[0]), "event_time": times(parts[1])})
        return frame.assign(**decode_bodies(parts[2], columns)) if columns else frame

    def paired(
        self,
        usecase: str,
        models: tuple[str, str],
        window: TimeWindow,
        as_of: datetime,
        rules: LabelRules,
        columns: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Matured events that both models scored, see :func:`monitoring.store.predictions.paired.paired`."""
        with self._database.read() as connection:
            return pairs.paired(connection, usecase, models, window, as_of, rules, columns or {})


def read_plan(connection: Connection, plan_id: str) -> tuple[str, ...]:
    """The names behind a plan id; ``StoreError`` when it is unknown."""
    text = connection.execute(select(plans.c.names).where(plans.c.plan_id == plan_id)).scalar()
    if text is None:
        raise StoreError(f"feature plan {plan_id[:12]} is not in the log; its writer declared no names")
    return msgspec.json.decode(text, type=tuple[str, ...])


def _history_records(
    usecase: str, chunk: pd.DataFrame, event_id: str, event_time: str, received_us: int
) -> list[ScoreRecord]:
    triples = zip(chunk[event_id], _microseconds(chunk[event_time]), encode_bodies(chunk), strict=True)
    return [ScoreRecord(usecase, name, at, received_us, "history", body) for name, at, body in triples]


def _microseconds(times: pd.Series) -> list[int]:
    numbers: list[int] = times.dt.as_unit("us").astype("int64").tolist()
    return numbers


def _in_window(query: Select[Any], usecase: str, window: TimeWindow, as_of: datetime | None) -> Select[Any]:
    c = predictions.c
    query = query.where(c.usecase == usecase, c.event_time >= to_us(window.start), c.event_time < to_us(window.end))
    if as_of is not None:
        query = query.where(c.event_time <= to_us(as_of))
    return query.order_by(c.event_time, c.row_id)


def _stored_event(row: tuple[Any, ...]) -> StoredEvent:
    _, _, event_id, event_time, received_at, origin, body, score, threshold, decision, model, version, alias, action = (
        row
    )
    is_flagged = None if decision is None else bool(decision)
    return StoredEvent(
        event_id, event_time, received_at, origin, body, score, threshold, is_flagged, model, version, alias, action
    )


def _join_plans(
    rows: Sequence[tuple[Any, ...]], names_by_plan: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    import numpy as np
    import pandas as pd

    names = tuple(dict.fromkeys(name for plan in names_by_plan.values() for name in plan))
    column_of = {name: index for index, name in enumerate(names)}
    values = np.full((len(rows), len(names)), np.nan, dtype=np.float32)
    ids, plan_ids, blobs = columns_of(rows, 3)
    plan_of_row = np.array(plan_ids, dtype=object)
    for plan_id, plan in names_by_plan.items():
        rows_of_plan = np.flatnonzero(plan_of_row == plan_id)
        plan_values = unpack_features([blobs[i] for i in rows_of_plan], len(plan))
        values[np.ix_(rows_of_plan, np.array([column_of[name] for name in plan]))] = plan_values
    frame = pd.DataFrame(values, columns=list(names))
    frame.insert(0, "event_id", texts(ids))
    return names, frame


def unpack_features(blobs: Sequence[bytes], width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Float32 rows of logged feature blobs that share one plan.

    Raises:
        StoreError: a blob has another length than the plan says.
    """
    import numpy as np

    if any(len(blob) != 4 * width for blob in blobs):
        raise StoreError(f"a logged feature row has another length than its plan of {width} columns")
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), width)
