"""Files of events as a source of snapshots: what ``[snapshot]`` makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from bentos.usecase.formula import Formula
from bentos.usecase.snapshots import Measure, SnapshotPolicy
from flows.errors import SchemaProblem, SourceUnavailable
from flows.sources.locations import read_address
from flows.sources.table import TableSource
from monitoring.core.calendar import TimeWindow


class DerivedSource(TableSource):
    """Snapshots of the entities in one CSV or Parquet file of events."""

    def __init__(self, usecase: UseCase, kind: str, path: str) -> None:
        super().__init__(usecase)
        self.kind = kind
        self._address = read_address(path)
        self._path = path

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        return f"snapshots of {self.kind} {self._address.shown}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """Every snapshot; a snapshot needs the whole history before it."""
        assert self.usecase.snapshot is not None
        columns = required_columns(self.usecase.snapshot)
        try:
            if self.kind == "csv":
                table = pd.read_csv(self._path, usecols=lambda name: name in columns)
            else:
                table = pd.read_parquet(self._path, columns=columns)
        except (OSError, ValueError) as exc:
            raise SourceUnavailable(f"{self.origin}: {exc}") from exc
        yield derive(table, self.usecase)


DAY = timedelta(days=1)


def required_columns(policy: SnapshotPolicy) -> list[str]:
    """Columns of the table of events that a derivation reads."""
    names = [policy.entity, policy.time, *([policy.event] if policy.event else [])]
    for text in (policy.value, policy.where):
        names += Formula(text).names if text else ()
    return list(dict.fromkeys(names))


def derive(table: pd.DataFrame, usecase: UseCase) -> pd.DataFrame:
    """Rows of every snapshot in the column names of the use case.

    Args:
        table: events in their own column names; rows without entity or time are left out.
        usecase: with a ``[snapshot]`` section.

    Returns:
        Id, time, entity, measures and label (missing while its time has not passed), ordered by time.

    Raises:
        SchemaProblem: a column is missing.
    """
    policy = usecase.snapshot
    assert policy is not None
    events = _events(table, policy, usecase)
    if events.empty:
        raise SchemaProblem("no event has an entity and a time, so no snapshot can be taken")
    end = events["time"].max()
    parts = [_snapshot(events, moment, end, usecase, policy) for moment in _moments(events, policy, usecase)]
    if not parts:
        raise SchemaProblem(f"the events span less than the {policy.min_history / DAY:g} days before a first snapshot")
    return pd.concat(parts, ignore_index=True)


def _events(table: pd.DataFrame, policy: SnapshotPolicy, usecase: UseCase) -> pd.DataFrame:
    """One row an event: entity, time (UTC), value; ordered by time."""
    missing = [name for name in required_columns(policy) if name not in table.columns]
    if missing:
        raise SchemaProblem(f"column {missing[0]!r}, which [snapshot] names, is missing")
    times = pd.to_datetime(table[policy.time], errors="coerce", format="ISO8601")
    if times.dt.tz is None:
        times = times.dt.tz_localize(usecase.zone, ambiguous="NaT", nonexistent="NaT")
    rows = pd.DataFrame({"entity": table[policy.entity], "time": times.dt.tz_convert("UTC")})
    rows["value"] = _compute(policy.value, table, usecase) if policy.value else 0.0
    rows["event"] = table[policy.event].astype(str) if policy.event else np.arange(len(table))
    if policy.where:
        rows = rows[_compute(policy.where, table, usecase) > 0.0]
    rows = rows.dropna(subset=["entity", "time"])
    merged = rows.groupby(["entity", "event"], sort=False).agg(time=("time", "min"), value=("value", "sum"))
    return merged.reset_index().sort_values(["time", "entity"], kind="stable")


def _compute(text: str, table: pd.DataFrame, usecase: UseCase) -> Any:
    formula = Formula(text)
    values = {n: pd.to_numeric(table[n], errors="coerce").to_numpy(dtype=np.float64) for n in formula.numbers}
    values |= {n: table[n].to_numpy(dtype=object) for n in formula.texts}
    return formula.compute(values, len(table), usecase.timezone)


def _moments(events: pd.DataFrame, policy: SnapshotPolicy, usecase: UseCase) -> list[pd.Timestamp]:
    """The first of each month with enough history before it, up to the end of the events."""
    first = events["time"].min().tz_convert(usecase.zone)
    months = pd.date_range(
        first.normalize().tz_localize(None).replace(day=1), events["time"].max().tz_localize(None), freq="MS"
    )
    moments = [m.tz_localize(usecase.zone).tz_convert("UTC") for m in months]
    return [m for m in moments if m - first.normalize() >= policy.min_history]


def _snapshot(
    events: pd.DataFrame, moment: pd.Timestamp, end: pd.Timestamp, usecase: UseCase, policy: SnapshotPolicy
) -> pd.DataFrame:
    past = events[events["time"] < moment]
    entities = past["entity"].drop_duplicates().sort_values()
    names = [_name(entity) for entity in entities]
    local = f"{moment.tz_convert(usecase.zone):%Y-%m-%d}"
    rows = {
        usecase.event_id: [f"{name}@{local}" for name in names],
        usecase.event_time: moment,
        policy.entity_as: names,
    }
    frame = pd.DataFrame(rows)
    for measure in policy.measures:
        frame[measure.name] = _measure(past, moment, measure).reindex(entities).fillna(0.0).to_numpy(np.float64)
    within = policy.label.no_event_within
    next_events = events[(events["time"] >= moment) & (events["time"] < moment + within)]
    label = np.where(entities.isin(next_events["entity"]), 0.0, 1.0)
    # Days count: a label is known once the last day of its time has begun to end in the data.
    frame[usecase.label.column] = label if moment + within <= end else np.nan
    return frame


def _measure(past: pd.DataFrame, moment: pd.Timestamp, measure: Measure) -> pd.Series[Any]:
    rows = past if measure.over is None else past[past["time"] >= moment - measure.over]
    groups = rows.groupby("entity")
    if measure.agg == "count":
        return groups.size()
    if measure.agg in ("sum", "mean"):
        return groups["value"].agg(measure.agg)
    edge = groups["time"].max() if measure.agg == "days_since_last" else groups["time"].min()
    days: pd.Series[Any] = (moment - edge).dt.total_seconds() / DAY.total_seconds()
    return days


def _name(entity: Any) -> str:
    return str(int(entity)) if isinstance(entity, float) and entity.is_integer() else str(entity)
