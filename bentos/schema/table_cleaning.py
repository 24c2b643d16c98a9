"""Cleaning of whole tables: good rows in the product's own form, bad rows in quarantine with a reason.

One bad value costs its row, not the table. What makes the whole table suspect (a column that is
missing, has no usable value, or is missing too often) raises :class:`~bentos.errors.TableError`.

Values are those that a request may hold; the spelling may differ where a table has no better one (numbers as text,
local times without an offset).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import TableError
from bentos.schema.column_parsing import (
    CODE,
    REASONS,
    Read,
    hash_texts,
    read_booleans,
    read_column,
    read_times,
    times_of_steps,
)
from bentos.schema.column_types import allowed_values
from bentos.schema.id_hashing import Hasher, LazyHasher
from bentos.schema.lookups import Lookups
from bentos.schema.row_times import is_made_up, times_of
from bentos.usecase.definition import Column, UseCase
from bentos.usecase.limits import LATEST_US
from monitoring.policies import LabelPolicy

_MANY_BAD = 0.5
"""Share of unreadable labels above which it is the target that is wrong, not single rows."""
FEW_ROWS = 50
"""Fewer rows say nothing about how often an optional column is missing."""


@dataclass(frozen=True)
class TableRead:
    """A cleaned table.

    Attributes:
        events: the events frame, sorted by (event time, event id), fresh index from 0.
        quarantine: ``row`` (position in the table), ``event_id``, ``reason``, ``column``; one row for
            each refused row, with the first reason in the order of the declared columns.
        rows: position in the table of each row of ``events``.
        out_of_order: rows whose time lies before that of the row above them, in the table's order.
    """

    events: pd.DataFrame
    quarantine: pd.DataFrame
    rows: np.ndarray[Any, np.dtype[np.intp]]
    out_of_order: int


def read_table(
    table: pd.DataFrame,
    usecase: UseCase,
    hasher: Hasher | LazyHasher,
    lookups: Lookups | None = None,
    latest_us: int = LATEST_US,
) -> TableRead:
    """See :meth:`bentos.schema.event_schema.EventSchema.read_table`."""
    columns: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    # What is looked up comes last: it is found by columns that must be clean and hashed before.
    for column in sorted(usecase.columns, key=lambda c: c.lookup is not None):
        if column.lookup is not None and column.name not in table.columns:
            values, codes = _fill_from_lookup(columns, column, usecase, lookups or Lookups(usecase))
        else:
            values, codes = read_column(_find(table, column, usecase), column, usecase.zone)
        if column.name in usecase.privacy.hashed:
            hash_texts(values, codes, hasher)
        if column.name == usecase.event_time:
            codes = _refuse_future(values, codes, latest_us)
        _refuse_hopeless(column, codes, values, len(table))
        columns[column.name], problems[column.name] = values, codes
    return _assemble(pd.DataFrame({c.name: columns[c.name] for c in usecase.columns}), problems, usecase)


def _refuse_future(times: pd.Series[Any], codes: Any, latest_us: int) -> Any:
    """Reason codes of a time column, with those of the rows that lie beyond the bound."""
    is_beyond = (codes == 0) & (times.to_numpy("M8[us]").view(np.int64) > latest_us)
    return np.where(is_beyond, CODE["in_future"], codes) if is_beyond.any() else codes


def _fill_from_lookup(columns: Mapping[str, Any], column: Column, usecase: UseCase, lookups: Lookups) -> Read:
    """A column that the table lacks, filled by entity and event time; its values were checked with their file."""
    assert column.lookup is not None
    source = lookups.table(column.lookup)
    entities = pd.Series(columns[source.lookup.entity], dtype=object)
    values = source.values(column, source.places(entities, columns[usecase.event_time]))
    return values, np.zeros(len(entities), dtype=np.uint8)


def read_labelled(
    table: pd.DataFrame,
    usecase: UseCase,
    hasher: Hasher | LazyHasher,
    lookups: Lookups | None = None,
    latest_us: int = LATEST_US,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """See :meth:`bentos.schema.event_schema.EventSchema.read_labelled`."""
    table_read = read_table(table, usecase, hasher, lookups, latest_us)
    policy = usecase.label
    name = policy.source_name if policy.source_name in table.columns else policy.column
    if name not in table.columns:
        return table_read.events, empty_labels(), table_read.quarantine
    values, codes = _label_values(_column(table, str(name)), policy)
    is_bad = codes[table_read.rows] != 0
    events = table_read.events[~is_bad].reset_index(drop=True)
    refused_rows = _quarantine(
        table_read.rows[is_bad], table_read.events[usecase.event_id][is_bad], CODE["bad_label"], policy.column
    )
    quarantine = _stack(table_read.quarantine, refused_rows)
    rows = table_read.rows[~is_bad]
    has_label = ~np.isnan(values[rows])
    observed_times = events[usecase.event_time] + policy.matures_after
    if usecase.untimed:
        # A table without a time is a matter of the past: its labels are known.
        observed_times = observed_times.mask(is_made_up(events[usecase.event_time]), events[usecase.event_time])
    if policy.observed_at is not None:
        stamps, _ = read_times(_required_column(table, policy.observed_at), usecase.zone, nullable=True)
        observed_times = stamps.iloc[rows].reset_index(drop=True).fillna(observed_times)
    labels = pd.DataFrame(
        {
            "event_id": events[usecase.event_id][has_label],
            "y": values[rows][has_label].astype(np.int8),
            "observed_at": observed_times[has_label],
            "source": pd.Series(policy.sources[0], index=events.index[has_label], dtype=object),
        }
    )
    return events, labels.reset_index(drop=True), quarantine


def _label_values(series: pd.Series[Any], policy: LabelPolicy) -> Read:
    """Labels 0 and 1, NaN where missing, with reason codes.

    Raises:
        TableError: the column holds more than two values, so it is no binary target.
    """
    if policy.positive is not None:
        texts = series.astype("string").str.strip().replace("", pd.NA)
        values = (texts == policy.positive).to_numpy(dtype=np.float64, na_value=np.nan)
        distinct = texts.nunique()
    else:
        values, codes = read_booleans(series, nullable=True)
        distinct = series.nunique() if len(codes) and float((codes != 0).mean()) > _MANY_BAD else 0
    if distinct > 2:
        raise TableError(
            f"the label {policy.column!r} holds {distinct} different values; a binary target is needed (0 and 1, or "
            "two texts with label.positive); multiclass and regression targets cannot be trained"
        )
    return values, np.zeros(len(series), dtype=np.uint8) if policy.positive is not None else codes


def empty_labels() -> pd.DataFrame:
    """A labels frame without rows."""
    return pd.DataFrame(
        {
            "event_id": pd.Series(dtype=object),
            "y": pd.Series(dtype=np.int8),
            "observed_at": pd.Series(dtype="datetime64[us, UTC]"),
            "source": pd.Series(dtype=object),
        }
    )


def _find(table: pd.DataFrame, column: Column, usecase: UseCase) -> pd.Series[Any]:
    # The source_name of a looked-up column is its name in the look-up table.
    for name in (column.external_name, column.name) if column.lookup is None else (column.name,):
        if name in table.columns:
            return _column(table, name)
    if column.arrival and usecase.untimed:
        return times_of(_find(table, usecase.column(usecase.event_id), usecase))
    if column.counted is not None and column.counted.column in table.columns:
        return times_of_steps(_column(table, column.counted.column), column.counted, usecase.zone)
    names = " or ".join(dict.fromkeys((repr(column.external_name), repr(column.name))))
    column_text = ", ".join(map(str, table.columns[:30]))
    raise TableError(f"column {names} is missing; the table has {column_text or 'no columns'}")


def _required_column(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in table.columns:
        raise TableError(f"column {name!r}, declared as label.observed_at, is missing")
    return _column(table, name)


def _column(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    count = int((table.columns == name).sum())
    if count > 1:
        raise TableError(f"column {name!r} is there {count} times")
    return table[name].reset_index(drop=True)


def _refuse_hopeless(column: Column, codes: Any, values: Any, rows: int) -> None:
    if rows == 0 or (not column.nullable and not codes.any()):
        return
    is_empty = pd.isna(values).to_numpy() if isinstance(values, pd.Series) else pd.isna(values)
    is_missing = (codes == CODE["missing"]) | (is_empty & (codes == 0))
    share = float(is_missing.mean())
    limit = column.max_missing_share
    if limit is not None and share > limit:
        raise TableError(f"column {column.name!r}: {share:.1%} of {rows} values are missing, allowed are {limit:.1%}")
    if share == 1.0 and limit is None and (not column.nullable or rows >= FEW_ROWS):
        hint = "; if that is right, declare max_missing_share = 1" if column.nullable else ""
        raise TableError(f"column {column.name!r}: all {rows} values are missing{hint}")
    if (codes != 0).all():
        reason = REASONS[int(np.bincount(codes).argmax())]
        raise TableError(
            f"column {column.name!r}: none of {rows} values can be used ({reason}); allowed is {allowed_values(column)}"
        )


def _assemble(frame: pd.DataFrame, problems: dict[str, Any], usecase: UseCase) -> TableRead:
    row_codes = np.zeros(len(frame), dtype=np.uint8)
    column_index = np.zeros(len(frame), dtype=np.intp)
    for index, codes in enumerate(problems.values()):
        if not codes.any():
            continue
        is_first = (row_codes == 0) & (codes != 0)
        row_codes[is_first], column_index[is_first] = codes[is_first], index
    ids, times = frame[usecase.event_id], frame[usecase.event_time]
    clean = np.flatnonzero(row_codes == 0)
    clean_ids = ids if len(clean) == len(ids) else ids.iloc[clean]
    repeated_rows = clean[clean_ids.duplicated().to_numpy()]
    row_codes[repeated_rows], column_index[repeated_rows] = (
        CODE["duplicate_event_id"],
        list(problems).index(usecase.event_id),
    )
    refused_rows = np.flatnonzero(row_codes)
    names = np.array(list(problems), dtype=object)
    quarantine = _quarantine(
        refused_rows, ids.iloc[refused_rows], row_codes[refused_rows], names[column_index[refused_rows]]
    )
    good_rows = np.flatnonzero(row_codes == 0)
    stamps = times.iloc[good_rows].to_numpy("M8[us]").view(np.int64)
    order = time_order(stamps, ids.to_numpy()[good_rows])
    rows = good_rows if order is None else good_rows[order]
    # A frame that was just made is nobody else's: where nothing moves it need not be copied.
    is_unchanged = len(rows) == len(frame) and order is None
    events = frame if is_unchanged else frame.iloc[rows].reset_index(drop=True)
    out_of_order = int((np.diff(stamps) < 0).sum())
    events.attrs["out_of_order"] = out_of_order
    return TableRead(events, quarantine, rows, out_of_order)


def time_order(stamps: Any, ids: Any) -> Any:
    """Positions sorted by (time, id), or ``None`` where they are in order already."""
    step = np.diff(stamps)
    if (step > 0).all():
        return None
    order = np.argsort(stamps, kind="stable")
    sorted_stamps = stamps[order]
    equal_positions = np.flatnonzero(np.diff(sorted_stamps) == 0)
    tied_positions = np.union1d(equal_positions, equal_positions + 1)
    if len(tied_positions):
        # Only ties are compared as text: sorting a million strings takes seconds.
        rows = order[tied_positions]
        order[tied_positions] = rows[np.lexsort((pd.factorize(ids[rows], sort=True)[0], stamps[rows]))]
    return order


def _quarantine(rows: Any, ids: pd.Series[Any], codes: Any, names: Any) -> pd.DataFrame:
    reasons = np.array(REASONS, dtype=object)[codes]
    return pd.DataFrame(
        {
            "row": np.asarray(rows, dtype=np.int64),
            "event_id": pd.Series(ids.to_numpy(), dtype=object),
            "reason": pd.Series(np.broadcast_to(reasons, len(rows)), dtype=object),
            "column": pd.Series(np.broadcast_to(np.asarray(names, dtype=object), len(rows)), dtype=object),
        }
    )


def _stack(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    if second.empty:
        return first
    if first.empty:
        return second
    return pd.concat([first, second]).sort_values("row").reset_index(drop=True)
