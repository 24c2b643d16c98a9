"""What became of the decisions: the matured days of the log, and an estimate of those that are not mature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import pandas as pd

from bentos.promotion.comparison_plans import segments_of
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.data.split import business_time_before
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import from_plain
from monitoring.drift.feature_drift import PriorShift, black_box_prior, prior_shift
from monitoring.performance.fairness import group_names
from monitoring.performance.measure import matured_answers
from monitoring.performance.over_time import (
    CheckedEstimate,
    ConceptDrift,
    DayEstimate,
    Estimate,
    GroupPerformance,
    check_estimates,
    concept_drift,
    day_names,
    estimate,
    estimate_days,
    measure_groups,
)
from monitoring.stats.change_detection import Detection, detect_changes

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store

CURRENT: Final = timedelta(days=7)
REFERENCE: Final = timedelta(days=28)
"""The reference period of concept drift: the first matured days that a version answered."""


@dataclass(frozen=True)
class Aftermath:
    """Lines of the drift report that labels give, and the estimate where they are missing.

    Attributes:
        daily: every figure of each of the latest seven matured days.
        segments: the same over those days by segment (the use case's segments, slices, sensitive columns).
        concept: matured figures against the version's first matured days as champion.
        prior: matured share of positives against the reference's.
        estimate: of the days that are not mature; never a decision.
        checked: estimates of days that are mature by now, beside the truth.
        streams: change detectors over the matured errors; never an alert.
    """

    daily: tuple[GroupPerformance, ...] = ()
    segments: tuple[GroupPerformance, ...] = ()
    concept: ConceptDrift | None = None
    prior: PriorShift | None = None
    estimate: Estimate | None = None
    checked: tuple[CheckedEstimate, ...] = ()
    streams: tuple[Detection, ...] = ()


@step(
    name="look back on matured days",
    run_name="look back on the matured days of {ref.label}",
    tags=("database",),
    retried=True,
)
def measure_aftermath(store: Store, usecase: UseCase, ref: ModelRef, model: ScoringModel, as_of: datetime) -> Aftermath:
    """Everything that the labels known at ``as_of`` say, and the estimate of what they do not say yet."""
    calendar = usecase.calendar
    end = calendar.matured_until(as_of, usecase.label.matures_after)
    recent = _matured_rows(
        store, usecase, TimeWindow(business_time_before(calendar, end, CURRENT + REFERENCE), end), as_of
    )
    current = recent[recent["event_time"] >= pd.Timestamp(business_time_before(calendar, end, CURRENT))]
    young_estimate = estimate_young_days(store, usecase, ref, end, as_of)
    if current.empty:
        return Aftermath(estimate=young_estimate)
    days = day_names(current["day"])
    daily = measure_groups(current, days, "day", usecase.cost)
    return Aftermath(
        daily,
        tuple(group for name in _segments(usecase) for group in _by_segment(current, usecase, name)),
        _concept_drift(store, usecase, ref, current, end, as_of),
        None
        if model.profile.prevalence is None
        else prior_shift(int(current["y"].sum()), len(current), model.profile.prevalence),
        young_estimate,
        check_estimates(daily, stored_estimates(store, usecase.name, as_of), estimate_days(current, days)),
        _detect_stream_changes(recent),
    )


def estimate_young_days(
    store: Store, usecase: UseCase, ref: ModelRef, since: datetime, as_of: datetime
) -> Estimate | None:
    """What is expected of the whole days from ``since`` on, by the scores that were answered."""
    until = usecase.calendar.start_of(usecase.calendar.day_of(as_of))
    if until <= since:
        return None
    answers = store.log.answers(usecase.name, TimeWindow(since, until))
    if answers.empty:
        return None
    training_report = store.reports.latest(usecase.name, "training", challenger=ref.label, as_of=as_of)
    training_metrics = {} if training_report is None else training_report.payload.get("evidence", {}).get("metrics", {})
    recall, rate = (training_metrics.get(name, {}).get("value") for name in ("recall", "false_positive_rate"))
    flagged = float(answers["decision"].mean())
    prior = None if recall is None or rate is None else black_box_prior(flagged, recall, rate)
    return estimate(answers, usecase.calendar.days_of(answers["event_time"]), prior)


def stored_estimates(store: Store, usecase: str, as_of: datetime, checks: int = 100) -> Mapping[str, DayEstimate]:
    """The newest estimate of each day that an earlier check stored."""
    estimates: dict[str, DayEstimate] = {}
    for report in store.reports.list(usecase, "drift", limit=checks):
        day_estimates = (report.payload.get("estimate") or {}).get("days", ()) if report.as_of < as_of else ()
        estimates |= {day_estimate["day"]: from_plain(DayEstimate, day_estimate) for day_estimate in day_estimates}
    return estimates


def _matured_rows(store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime) -> pd.DataFrame:
    """Matured answers with label, day, the cost column and the segments' columns, in order of event time."""
    answers = store.log.answers(usecase.name, window)
    labels = store.labels.known(usecase.name, as_of, usecase.label, window)
    blocked_ids = blocked_events(store, usecase, window, as_of)
    rows = matured_answers(answers, labels, as_of, usecase.label, usecase.calendar, blocked_ids)
    cost_columns = [usecase.cost.false_negative] if isinstance(usecase.cost.false_negative, str) else []
    column_types = {name: usecase.column(name).type for name in dict.fromkeys((*cost_columns, *_segments(usecase)))}
    if not column_types or rows.empty:
        return rows
    events = store.log.events(usecase.name, window, {usecase.event_id: "identifier"} | column_types)
    # The columns of an answer (score, decision, y, day) have their names; an event's column does not take them.
    events = events.rename(columns={usecase.event_id: "event_id"})
    return rows.merge(events, on="event_id", how="left", suffixes=("", "_event"))


def _segments(usecase: UseCase) -> tuple[str, ...]:
    fairness = usecase.fairness
    return tuple(dict.fromkeys((*segments_of(usecase), *fairness.slices, *fairness.sensitive)))


def _by_segment(rows: pd.DataFrame, usecase: UseCase, name: str) -> tuple[GroupPerformance, ...]:
    column = rows[f"{name}_event" if f"{name}_event" in rows.columns else name]
    return measure_groups(rows, group_names(column, usecase.fairness, name), name, usecase.cost)


def _concept_drift(
    store: Store, usecase: UseCase, ref: ModelRef, current: pd.DataFrame, end: datetime, as_of: datetime
) -> ConceptDrift | None:
    """Against the first matured days that this version answered; those days never change afterwards."""
    calendar = usecase.calendar
    terms = [at for version, at, _ in store.decisions.terms(ref.name, "champion") if version == ref.version]
    starts = [at for at in terms if at <= as_of]
    if not starts:
        return None
    start = calendar.start_of(calendar.day_of(starts[0]) + timedelta(days=1))
    until = min(start + REFERENCE, business_time_before(calendar, end, CURRENT))
    if until <= start:
        return None
    reference = _matured_rows(store, usecase, TimeWindow(start, until), as_of)
    reference_rows, current_rows = (rows[rows["model"] == ref.label] for rows in (reference, current))
    return concept_drift(reference_rows, current_rows, usecase.cost)


def _detect_stream_changes(rows: pd.DataFrame) -> tuple[Detection, ...]:
    ordered = rows.sort_values(["event_time", "event_id"])
    errors = (ordered["y"].astype(bool) != ordered["decision"].astype(bool)).to_numpy()
    return detect_changes(errors, [at.to_pydatetime() for at in ordered["event_time"]])
