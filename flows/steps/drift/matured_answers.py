"""Answers with what is known of their truth: read from the log once for every figure of a drift check."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from bentos.promotion.comparison_plans import segments_of
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.data.split import business_time_before
from flows.workspace.step import step
from monitoring.core.calendar import BusinessCalendar, TimeWindow
from monitoring.performance.measure import label_events
from monitoring.stats.label_weights import label_weights
from monitoring.store.predictions.answered_batches import read_decision_parts

if TYPE_CHECKING:
    from monitoring.store import Store

CURRENT: Final = timedelta(days=7)
REFERENCE: Final = timedelta(days=28)
"""The reference period of concept drift: the first matured days that a version answered."""
log = logging.getLogger("incumbent.flows")


@dataclass(frozen=True, eq=False)
class MaturedAnswers:
    """The answers of whole days up to the day of a check, some 60 bytes a row.

    Attributes:
        rows: in the order of the log: event_id, event_time, model (label ``name/version``), score, decision (bool),
            day, y (NaN where the truth is unknown), the event's cost and group columns (``score_event`` where an
            answer has a column of that name) and, where flagged events are blocked, weight.
        matured_until: end of the last day whose labels have all matured.
        as_of: business time of the look; later labels are not known.
        calendar: defines the days.
    """

    rows: pd.DataFrame
    matured_until: datetime
    as_of: datetime
    calendar: BusinessCalendar

    def between(self, start: datetime, end: datetime) -> pd.DataFrame:
        """The answers of a span of event time."""
        bounds = [pd.Timestamp(at).tz_convert(None).to_datetime64() for at in (start, end)]
        first, last = np.searchsorted(self.rows["event_time"].to_numpy("datetime64[us]"), bounds)
        return self.rows.iloc[first:last]

    def latest(self, length: timedelta = CURRENT) -> pd.DataFrame:
        """The answers of the latest matured days, also those of unknown truth."""
        return self.between(business_time_before(self.calendar, self.matured_until, length), self.matured_until)

    def matured(self, length: timedelta = CURRENT) -> pd.DataFrame:
        """The answers of the latest matured days whose truth is known; ``y`` is int8."""
        return labelled_rows(self.latest(length))

    @property
    def young(self) -> pd.DataFrame:
        """The answers of the whole days that have not matured."""
        return self.between(self.matured_until, self.calendar.start_of(self.calendar.day_of(self.as_of)))


def labelled_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose truth is known; ``y`` becomes int8."""
    return rows[rows["y"].notna()].astype({"y": "int8"})


@step(
    name="read the answers",
    run_name="read the answers of {usecase.name} with their labels",
    tags=("database",),
    retried=True,
)
def read_matured_answers(
    store: Store,
    usecase: UseCase,
    as_of: datetime,
    length: timedelta = CURRENT,
    reference: TimeWindow | None = None,
) -> MaturedAnswers:
    """Read the latest matured days, every whole day since, and where it is asked for a reference period before them.

    Args:
        store: log, labels, actions.
        usecase: maturity, calendar, and which event columns figures need.
        as_of: business time of the look.
        length: of the matured days.
        reference: period of which the part before those days is read too.
    """
    calendar = usecase.calendar
    end = calendar.matured_until(as_of, usecase.label.matures_after)
    start = business_time_before(calendar, end, length)
    windows = [TimeWindow(start, calendar.start_of(calendar.day_of(as_of)))]
    if reference is not None and reference.start < start:
        windows.insert(0, TimeWindow(reference.start, min(reference.end, start)))
    parts = [part for window in windows for part in _labelled_parts(store, usecase, window, as_of)]
    rows = pd.concat(parts, ignore_index=True) if parts else _NO_ROWS
    log.info("read %d answers of %s, %d of known truth", len(rows), usecase.name, int(rows["y"].notna().sum()))
    return MaturedAnswers(rows, end, as_of, calendar)


def figure_columns(usecase: UseCase) -> dict[str, str]:
    """Type of each event column that a figure needs: what a miss costs, and groups."""
    cost = usecase.cost.false_negative
    names = dict.fromkeys((*([cost] if isinstance(cost, str) else []), *group_columns(usecase)))
    return {name: usecase.column(name).type for name in names}


def group_columns(usecase: UseCase) -> tuple[str, ...]:
    """Event columns by which figures are cut."""
    fairness = usecase.fairness
    return tuple(dict.fromkeys((*segments_of(usecase), *fairness.slices, *fairness.sensitive)))


def event_column(rows: pd.DataFrame, name: str) -> pd.Series:
    """An event's column, also where an answer has one of that name."""
    return rows[f"{name}_event" if f"{name}_event" in rows.columns else name]


def reference_window(store: Store, usecase: UseCase, ref: ModelRef, as_of: datetime) -> TimeWindow | None:
    """The first matured days that a version answered as champion, before the current ones; none without any."""
    calendar = usecase.calendar
    terms = [at for version, at, _ in store.decisions.terms(ref.name, "champion") if version == ref.version]
    starts = [at for at in terms if at <= as_of]
    if not starts:
        return None
    start = calendar.start_of(calendar.day_of(starts[0]) + timedelta(days=1))
    end = calendar.matured_until(as_of, usecase.label.matures_after)
    until = min(start + REFERENCE, business_time_before(calendar, end, CURRENT))
    return TimeWindow(start, until) if until > start else None


def _labelled_parts(store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime) -> Iterator[pd.DataFrame]:
    labels = store.labels.resolved_labels(usecase.name, as_of, usecase.label, window).set_index("event_id")
    y_by_event = labels.loc[~labels["conflict"], "y"]
    blocked_ids = blocked_events(store, usecase, window, as_of)
    blocks = usecase.intervention.blocks_flagged
    actions = store.actions.latest(usecase.name, as_of, window).set_index("event_id")["action"] if blocks else None
    for part in read_decision_parts(store.database, usecase.name, window, figure_columns(usecase)):
        ids = part["event_id"]
        added: dict[str, Any] = {
            # Arrow's texts take a third of Python's.
            "event_id": ids.astype("string[pyarrow]"),
            "day": usecase.calendar.days_of(part["event_time"]),
            "y": label_events(ids, y_by_event, usecase.label, blocked_ids).astype("float32"),
        }
        if actions is not None:
            done, has_label = ids.map(actions).tolist(), ids.isin(labels.index)
            added["weight"] = label_weights(part["action"].tolist(), part["propensity"], done, has_label)[0]
        yield part.drop(columns=["action", "propensity"]).assign(**added)


_TYPES: Final = {
    "event_id": "string[pyarrow]", "event_time": "datetime64[us, UTC]", "model": "object", "score": "float64",
    "decision": "bool", "day": "datetime64[ns]", "y": "float32", "weight": "float64",
}  # fmt: skip
_NO_ROWS: Final = pd.DataFrame(columns=list(_TYPES)).astype(_TYPES)
