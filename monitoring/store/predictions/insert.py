"""How events get into the log: fast, each id once, and an answer in the place of an event without one.

Each event id has one row for each use case. A second arrival is counted and not stored, with one
exception: an event that was imported, or sent without being scored, and is answered later. Its row
then gives way to the answered one, because what was answered must be in the log. The two must say the
same about the event; an answer about another body is refused and so ends in quarantine, not nowhere.

``ON CONFLICT DO NOTHING``, never ``INSERT OR IGNORE``, which also swallows rows that break a NOT NULL or CHECK rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, delete, insert, select

from monitoring.errors import RowRefused
from monitoring.store.database.day_partitions import DAY_US
from monitoring.store.database.engine import Database, array_marks, as_arrays
from monitoring.store.database.frames import fetch
from monitoring.store.database.records import AppendResult, PlanRecord, ScoreRecord
from monitoring.store.database.tables import plans, prediction_ids, predictions

_FIELDS: Final = ScoreRecord.__struct_fields__
COLUMNS: Final = (*_FIELDS, "stored_at")
_KEY: Final = itemgetter(_FIELDS.index("usecase"), _FIELDS.index("event_id"))
_EVENT_TIME: Final = _FIELDS.index("event_time")
_DECISION: Final = _FIELDS.index("decision")
_ID_COLUMNS: Final = ("usecase", "event_id", "event_time")
_UNANSWERED_ORIGINS: Final = ("history", "event", "late")
_IN_LIST: Final = 1_000

Row = tuple[Any, ...]


def insert_scores(
    database: Database, connection: Connection, records: Sequence[ScoreRecord], filled_columns: Collection[str] = ()
) -> AppendResult:
    """Insert within a transaction of the caller, which has called ``days.prepare_days`` before it began.

    Args:
        database, connection: where.
        records: what to insert.
        filled_columns: columns whose values clients did not send (a look-up table said them), so that two bodies may
            differ in them and still be about the same event.

    Raises:
        RowRefused: a row breaks a rule of the table, or answers an event that the log knows with another body.
    """
    if not records:
        return AppendResult(0, 0)
    now = database.now(connection)
    rows = [_as_row(record, now) for record in records]
    if not database.is_sqlite:
        rows = [_with_number(row) for row in rows]
    stored_count = _insert(database, connection, rows)
    replaced_count = 0 if stored_count == len(rows) else _answer_unanswered(connection, records, rows, filled_columns)
    return AppendResult(stored_count, len(rows) - stored_count, replaced_count)


def insert_plans(database: Database, connection: Connection, plan_records: Sequence[PlanRecord]) -> None:
    """Insert within a transaction of the caller."""
    if not plan_records:
        return
    now = database.now(connection)
    rows = [(p.plan_id, msgspec.json.encode(p.names).decode(), now) for p in plan_records]
    database.insert_new(connection, plans, ("plan_id", "names", "stored_at"), rows)


def _insert(database: Database, connection: Connection, rows: Sequence[Row]) -> int:
    """Insert rows with new ids; the first of several with one id."""
    if database.is_sqlite:
        return database.insert_new(connection, predictions, COLUMNS, rows)
    keys = [(*_KEY(row), row[_EVENT_TIME]) for row in rows]
    # In the order of the key, so that two writers of the same ids wait for each other and never both.
    text = (
        f"INSERT INTO {prediction_ids.name} ({', '.join(_ID_COLUMNS)}) "  # noqa: S608  # names come from our own tables
        f"SELECT * FROM unnest({array_marks(prediction_ids, _ID_COLUMNS)}) AS t(u, e, at) ORDER BY u, e "
        "ON CONFLICT DO NOTHING RETURNING usecase, event_id"
    )
    cursor = connection.exec_driver_sql(text, as_arrays(prediction_ids, _ID_COLUMNS, keys)).cursor
    assert cursor is not None
    new_keys = set(cursor.fetchall())
    if len(new_keys) < len(rows):
        rows = [row for row in rows if _discard_key(new_keys, _KEY(row))]
        new_keys = set(map(_KEY, rows))
    if rows:
        database.copy_rows(connection, predictions, COLUMNS, rows)
    return len(rows)


def _discard_key(keys: set[Any], key: Any) -> bool:
    """Whether the key was among those left, which it is once."""
    if key not in keys:
        return False
    keys.discard(key)
    return True


def _answer_unanswered(
    connection: Connection, records: Sequence[ScoreRecord], rows: Sequence[Row], filled_columns: Collection[str]
) -> int:
    """Put answers into the places of logged events that have none; how many that were."""
    answers_by_key: dict[Any, tuple[ScoreRecord, Row]] = {}
    for record, row in zip(records, rows, strict=True):
        if record.origin == "live":
            answers_by_key.setdefault(_KEY(row), (record, row))
    replaced_count = 0
    for usecase, group in groupby(sorted(answers_by_key), key=itemgetter(0)):
        ids = [event_id for _, event_id in group]
        for start in range(0, len(ids), _IN_LIST):
            part = {event_id: answers_by_key[usecase, event_id] for event_id in ids[start : start + _IN_LIST]}
            replaced_count += _replace(connection, usecase, part, filled_columns)
    return replaced_count


def _replace(
    connection: Connection,
    usecase: str,
    answers_by_id: Mapping[str, tuple[ScoreRecord, Row]],
    filled_columns: Collection[str],
) -> int:
    p = predictions.c
    unanswered_rows = _unanswered_rows(connection, usecase, list(answers_by_id))
    for row_id, event_id, event_time, body in unanswered_rows:
        record, row = answers_by_id[event_id]
        if event_time != record.event_time or not same_event(body, record.body, filled_columns):
            raise RowRefused("an answer is about an event that the log holds with another body")
        connection.execute(delete(predictions).where(p.row_id == row_id, p.event_time == event_time))
        # A new place in the order of arrival: whoever follows the log sees the answer as news.
        connection.execute(insert(predictions).values(dict(zip(COLUMNS, row, strict=True))))
    return len(unanswered_rows)


def _unanswered_rows(connection: Connection, usecase: str, ids: Sequence[str]) -> list[tuple[int, str, int, bytes]]:
    """Rows of these events without an answer: row_id, event_id, event_time, body; locked until the end."""
    p = predictions.c
    query = select(p.row_id, p.event_id, p.event_time, p.body).where(
        p.usecase == usecase, p.origin.in_(_UNANSWERED_ORIGINS)
    )
    if connection.dialect.name == "sqlite":
        return list(fetch(connection, query.where(p.event_id.in_(ids))))
    id_columns = prediction_ids.c
    times = [
        row[0]
        for row in fetch(
            connection, select(id_columns.event_time).where(id_columns.usecase == usecase, id_columns.event_id.in_(ids))
        )
    ]
    rows: list[tuple[int, str, int, bytes]] = []
    for _, same_day in groupby(sorted(set(times)), key=lambda at: at // DAY_US):
        times_of_day = list(same_day)
        in_day = (
            p.event_time >= times_of_day[0],
            p.event_time <= times_of_day[-1],
            p.event_time.in_(times_of_day),
            p.event_id.in_(ids),
        )
        rows += fetch(connection, query.where(*in_day).with_for_update())
    return rows


def same_event(body: bytes, other_body: bytes, filled_columns: Collection[str] = ()) -> bool:
    """Whether two logged bodies say the same of what clients sent: an absent value is null, and times may be
    written differently. ``filled_columns`` columns were not sent.
    """
    if body == other_body:
        return True
    try:
        fields, other_fields = msgspec.json.decode(body), msgspec.json.decode(other_body)
    except msgspec.DecodeError:
        return False
    if not isinstance(fields, dict) or not isinstance(other_fields, dict):
        return False
    return all(
        _same_value(fields.get(name), other_fields.get(name))
        for name in (fields.keys() | other_fields.keys()) - set(filled_columns)
    )


def _same_value(value: Any, other_value: Any) -> bool:
    if isinstance(value, bool) is not isinstance(other_value, bool):
        return False
    if value == other_value:
        return True
    if not (isinstance(value, str) and isinstance(other_value, str)):
        return False
    try:
        return datetime.fromisoformat(value) == datetime.fromisoformat(other_value)
    except (TypeError, ValueError):
        return False


def _with_number(row: Row) -> Row:
    """A decision as the small integer that the column holds; SQLite's driver does that by itself."""
    decision = row[_DECISION]
    return row if decision is None else (*row[:_DECISION], int(decision), *row[_DECISION + 1 :])


def _as_row(record: ScoreRecord, now: int) -> Row:
    if record.origin == "live" and (record.score is None or record.score != record.score):
        raise RowRefused("an answered event has no finite score")
    return (*astuple(record), now)
