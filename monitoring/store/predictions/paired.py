"""Champion and challenger on the same matured events, read from the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, and_, case, select
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from monitoring.core.calendar import BusinessCalendar, TimeWindow
from monitoring.policies import LabelPolicy
from monitoring.policies.label_rules import LabelRules
from monitoring.stats.label_weights import label_weights
from monitoring.store.database.frames import columns_of, decode_bodies, fetch, floats, texts, times, to_us
from monitoring.store.database.records import split_label
from monitoring.store.database.tables import predictions, shadow
from monitoring.store.predictions.actions import latest_actions
from monitoring.store.predictions.labels import labels_at
from monitoring.store.predictions.shadow_scores import NOT_LOGGED

if TYPE_CHECKING:
    import pandas as pd

_SCORES = ("score", "threshold", "decision")


@dataclass(frozen=True)
class PairedCounts:
    """What happened to the answered events of the matured window; ``frame.attrs["counts"]`` holds it.

    Attributes:
        answered: answered events in the matured part of the window.
        paired: rows of the frame.
        unscored_a, unscored_b: events that the champion or the challenger has not scored.
        errors_a, errors_b: those of them at which it failed: held against it. An event whose log lacks its
            features, because its windows were still being filled, is unscored and no failure.
        conflicting: scored by both, but one source says both labels.
        unknown: scored by both, without a label, where absence is not a negative.
        behind: days with events that the challenger neither scored nor failed at yet, and how many: its
            shadow is still behind on them, and what it will say is not known.
    """

    answered: int
    paired: int
    unscored_a: int
    unscored_b: int
    errors_a: int
    errors_b: int
    conflicting: int
    unknown: int
    behind: tuple[tuple[date, int], ...] = ()


def paired(
    connection: Connection,
    usecase: str,
    models: tuple[str, str],
    window: TimeWindow,
    as_of: datetime,
    rules: LabelRules,
    columns: Mapping[str, str],
) -> pd.DataFrame:
    """Events of the window that have matured, that both models scored, with their label at ``as_of``.

    A model has scored an event when it answered it, or scored it in shadow. An event has matured when
    its whole business day lies at least ``matures_after`` before ``as_of``; an early label does
    not let a younger event in.

    Args:
        connection: an open read.
        usecase: name of the use case.
        models: labels of champion (``a``) and challenger (``b``), for example ``dev-fraud/3``.
        window: span of event time; its end is cut at the last matured day.
        as_of: business time of the reader; labels observed later are not seen.
        rules: when a label is final, and what a day is. Where flagged events are blocked they add ``weight`` and
            ``unseen`` behind the threshold and flag columns (:func:`monitoring.stats.label_weights.label_weights`),
            and keep blocked events without a label.
        columns: further event columns, name to declared type.

    Returns:
        event_id, event_time, day (midnight without zone), score_a, threshold_a, flag_a, score_b,
        threshold_b, flag_b, y (int8), observed_at (NaT where absence means negative), then ``columns``;
        in the order of event time. ``attrs["counts"]`` is a :class:`PairedCounts`.
    """
    label, calendar, selective = rules.policy, rules.calendar, rules.selective
    end = min(window.end, calendar.matured_until(as_of, label.matures_after))
    bounds = (to_us(window.start), to_us(end))
    rows = fetch(connection, _query(usecase, models, bounds, bool(columns), selective))
    frame = _frame(rows, calendar, columns, selective)
    labels = labels_at(connection, usecase, to_us(as_of), label, bounds)
    if selective:
        real_actions = latest_actions(connection, usecase, to_us(as_of), bounds)
        frame["really"] = frame["event_id"].map(real_actions.set_index("event_id")["action"])
    return _label_rows(frame, labels, label)


def _query(
    usecase: str, models: tuple[str, str], bounds: tuple[int, int], bodies: bool, selective: bool = False
) -> Select[Any]:
    p = predictions.c
    sides = [(split_label(name), shadow.alias(alias)) for name, alias in zip(models, ("a", "b"), strict=True)]
    columns: list[ColumnElement[Any]] = [p.event_id, p.event_time]
    for (name, version), side in sides:
        is_own_answer = and_(p.model == name, p.version == version)
        columns += [case((is_own_answer, p[column]), else_=side.c[column]) for column in _SCORES]
        columns.append(side.c.error)
    if bodies:
        columns.append(p.body)
    if selective:
        columns += [p.action, p.propensity]
    source: Any = predictions
    for (name, version), side in sides:
        source = source.outerjoin(side, _is_same_event(side, name, version))
    query = select(*columns).select_from(source)
    query = query.where(p.usecase == usecase, p.event_time >= bounds[0], p.event_time < bounds[1], p.origin == "live")
    return query.order_by(p.event_time, p.row_id)


def _is_same_event(side: FromClause, name: str, version: str) -> ColumnElement[bool]:
    p = predictions.c
    same_id = and_(side.c.usecase == p.usecase, side.c.event_id == p.event_id)
    return and_(same_id, side.c.model == name, side.c.version == version)


def _frame(
    rows: list[tuple[Any, ...]], calendar: BusinessCalendar, columns: Mapping[str, str], selective: bool = False
) -> pd.DataFrame:
    import pandas as pd

    width = 11 if columns else 10
    parts = columns_of(rows, width + 2 * selective)
    event_times = times(parts[1])
    frame = pd.DataFrame({"event_id": texts(parts[0]), "event_time": event_times, "day": calendar.days_of(event_times)})
    for side, start in (("a", 2), ("b", 6)):
        frame[f"score_{side}"] = floats(parts[start])
        frame[f"threshold_{side}"] = floats(parts[start + 1])
        frame[f"flag_{side}"] = floats(parts[start + 2]) == 1.0
        # Before its windows were filled nothing was there to score on: that is nobody's failure.
        frame[f"told_{side}"] = [text is not None for text in parts[start + 3]]
        frame[f"error_{side}"] = [text not in (None, NOT_LOGGED) for text in parts[start + 3]]
    if columns:
        for name, values in decode_bodies(parts[10], columns).items():
            frame[name] = values
    if selective:
        frame["action"], frame["propensity"] = texts(parts[width]), floats(parts[width + 1])
    return frame


def _label_rows(frame: pd.DataFrame, labels: pd.DataFrame, label_policy: LabelPolicy) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    unscored_a, unscored_b = frame["score_a"].isna(), frame["score_b"].isna()
    scored_by_both = (
        frame[~(unscored_a | unscored_b)]
        .drop(columns=["error_a", "error_b", "told_a", "told_b"])
        .reset_index(drop=True)
    )
    label_rows = pd.Index(labels["event_id"]).get_indexer(pd.Index(scored_by_both["event_id"]))
    has_label = label_rows >= 0
    conflicting = has_label & labels["conflict"].to_numpy(dtype=bool)[label_rows] if len(labels) else has_label
    absent_is_negative = label_policy.absent_after_maturity == "negative"
    selective = "really" in scored_by_both
    is_kept = ~conflicting & (has_label | absent_is_negative)
    if selective:
        weight, unseen = label_weights(
            scored_by_both["action"], scored_by_both["propensity"], scored_by_both["really"], has_label
        )
        # A blocked event without a label is no negative.
        is_kept = ~conflicting & (has_label | (absent_is_negative & (weight > 0.0)) | (unseen > 0.0))
        scored_by_both = scored_by_both.drop(columns=["action", "propensity", "really"]).assign(
            weight=weight, unseen=unseen
        )
    scored_by_both.insert(9, "y", np.zeros(len(scored_by_both), dtype=np.int8))
    scored_by_both.insert(10, "observed_at", times([None] * len(scored_by_both)))
    if has_label.any():
        scored_by_both.loc[has_label, "y"] = labels["y"].to_numpy()[label_rows[has_label]]
        scored_by_both.loc[has_label, "observed_at"] = labels["observed_at"].array[label_rows[has_label]]
    result: pd.DataFrame = scored_by_both[is_kept].reset_index(drop=True)
    result.attrs["counts"] = PairedCounts(
        answered=len(frame),
        paired=len(result),
        unscored_a=int(unscored_a.sum()),
        unscored_b=int(unscored_b.sum()),
        errors_a=int((unscored_a & frame["error_a"]).sum()),
        errors_b=int((unscored_b & frame["error_b"]).sum()),
        conflicting=int(conflicting.sum()),
        unknown=int((~is_kept & ~conflicting).sum()),
        behind=_days_behind(frame[unscored_b & ~frame["told_b"]]["day"]),
    )
    return result


def _days_behind(days: pd.Series) -> tuple[tuple[date, int], ...]:
    import pandas as pd

    counts = days.value_counts().sort_index()
    return tuple((day.date(), int(count)) for day, count in zip(pd.DatetimeIndex(counts.index), counts, strict=True))
