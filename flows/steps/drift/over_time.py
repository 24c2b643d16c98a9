"""What became of the decisions: the matured days of the log, and an estimate of those that are not mature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.steps.drift.matured_answers import (
    CURRENT,
    REFERENCE,
    MaturedAnswers,
    event_column,
    group_columns,
    labelled_rows,
)
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import from_plain
from monitoring.drift.feature_drift import PriorShift, black_box_prior, prior_shift
from monitoring.performance.fairness import group_names
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
from monitoring.stats.change_detection import MAX_ROWS, Detection, detect_changes

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store


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
def measure_aftermath(
    store: Store,
    usecase: UseCase,
    ref: ModelRef,
    model: ScoringModel,
    answers: MaturedAnswers,
    reference: TimeWindow | None = None,
) -> Aftermath:
    """Everything that the known labels say, and the estimate of what they do not say yet.

    Args:
        store: earlier reports.
        usecase: prices and groups.
        ref, model: the champion.
        answers: of at least five matured weeks, and of the reference period.
        reference: the champion's first matured days, which never change afterwards.
    """
    recent, current = answers.matured(CURRENT + REFERENCE), answers.matured()
    young_estimate = estimate_young_days(store, usecase, ref, answers)
    if current.empty:
        return Aftermath(estimate=young_estimate)
    days = day_names(current["day"])
    daily = measure_groups(current, days, "day", usecase.cost)
    return Aftermath(
        daily,
        tuple(group for name in group_columns(usecase) for group in _by_segment(current, usecase, name)),
        None if reference is None else _concept_drift(usecase, ref, current, answers, reference),
        None
        if model.profile.prevalence is None
        else prior_shift(int(current["y"].sum()), len(current), model.profile.prevalence),
        young_estimate,
        check_estimates(daily, stored_estimates(store, usecase.name, answers.as_of), estimate_days(current, days)),
        _detect_stream_changes(recent),
    )


def estimate_young_days(store: Store, usecase: UseCase, ref: ModelRef, answers: MaturedAnswers) -> Estimate | None:
    """What is expected of the whole days that have not matured, by the scores that were answered."""
    young = answers.young
    if young.empty:
        return None
    training_report = store.reports.latest(usecase.name, "training", challenger=ref.label, as_of=answers.as_of)
    training_metrics = {} if training_report is None else training_report.payload.get("evidence", {}).get("metrics", {})
    recall, rate = (training_metrics.get(name, {}).get("value") for name in ("recall", "false_positive_rate"))
    flagged = float(young["decision"].mean())
    prior = None if recall is None or rate is None else black_box_prior(flagged, recall, rate)
    return estimate(young, young["day"], prior)


def stored_estimates(store: Store, usecase: str, as_of: datetime, checks: int = 100) -> Mapping[str, DayEstimate]:
    """The newest estimate of each day that an earlier check stored."""
    estimates: dict[str, DayEstimate] = {}
    for report in store.reports.list(usecase, "drift", limit=checks):
        day_estimates = (report.payload.get("estimate") or {}).get("days", ()) if report.as_of < as_of else ()
        estimates |= {day_estimate["day"]: from_plain(DayEstimate, day_estimate) for day_estimate in day_estimates}
    return estimates


def _by_segment(rows: pd.DataFrame, usecase: UseCase, name: str) -> tuple[GroupPerformance, ...]:
    return measure_groups(rows, group_names(event_column(rows, name), usecase.fairness, name), name, usecase.cost)


def _concept_drift(
    usecase: UseCase, ref: ModelRef, current: pd.DataFrame, answers: MaturedAnswers, reference: TimeWindow
) -> ConceptDrift | None:
    first_rows = labelled_rows(answers.between(reference.start, reference.end))
    reference_rows, current_rows = (rows[rows["model"] == ref.label] for rows in (first_rows, current))
    return concept_drift(reference_rows, current_rows, usecase.cost)


def _detect_stream_changes(rows: pd.DataFrame) -> tuple[Detection, ...]:
    """Only the newest rows are looked at, so only those are put in order; whoever shares their first time is too."""
    newest = rows[rows["event_time"] >= rows["event_time"].iloc[-min(MAX_ROWS, len(rows))]]
    ordered = newest.astype({"event_id": object}).sort_values(["event_time", "event_id"])
    errors = (ordered["y"].astype(bool) != ordered["decision"].astype(bool)).to_numpy()
    return detect_changes(errors, [at.to_pydatetime() for at in ordered["event_time"]])
