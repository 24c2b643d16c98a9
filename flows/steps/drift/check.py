"""What one drift check looks at: the log's latest days against the champion's frozen reference.

Score drift uses scores made again by the reference's own model: for days after a promotion the window holds answers
of two versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from flows.steps.data.split import business_time_before
from flows.steps.drift.data_quality import measure_data_quality
from flows.steps.drift.matured_answers import (
    CURRENT,
    REFERENCE,
    MaturedAnswers,
    event_column,
    read_matured_answers,
    reference_window,
)
from flows.steps.drift.over_time import Aftermath, measure_aftermath
from flows.steps.drift.served_windows import ServedWindow, measure_window
from flows.steps.fitting.contributions import mean_contributions
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import to_plain
from monitoring.drift.data_quality import QualityReport
from monitoring.drift.feature_drift import DriftAlarm, DriftReport, combine_windows
from monitoring.drift.feature_skew import SkewReport, feature_skew
from monitoring.performance.cost import prices_of
from monitoring.performance.fairness import FairnessReport, assess_fairness
from monitoring.performance.measure import Performance, RowGroups, measure
from monitoring.stats.distances import ndcg
from monitoring.store.predictions.answered_batches import newest_champion

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store


@dataclass(frozen=True)
class Attribution:
    """What the model leans on in a window, against its reference. A line of the report, never an alert.

    Attributes:
        ndcg: agreement of the two rankings, 1 when the order is the same.
        rows: rows of the window that were explained.
        moved: the five features whose mean absolute contribution changed most: name, then, now.
    """

    ndcg: float
    rows: int
    moved: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class DriftFinding:
    """One drift check.

    Attributes:
        model: label of the version whose reference it is.
        as_of: business time of the check.
        reports: one for each window, oldest first.
        alarm: what the windows say together.
        performance: figures of the latest matured week, or none while nothing has matured.
        skew: of the newest window, or none where it was not asked for.
        fairness: decisions of the latest matured week by sensitive group and slice, or none where
            nothing has matured or nothing is declared.
        aftermath: what labels say day by day, and the estimate of what they do not say yet.
        attribution: of the newest window, or none where the reference or the window has too few rows.
        quality: freshness, volume, duplicates, quarantine.
    """

    model: str
    as_of: datetime
    reports: tuple[DriftReport, ...]
    alarm: DriftAlarm
    performance: Performance | None = None
    skew: SkewReport | None = None
    fairness: FairnessReport | None = None
    aftermath: Aftermath | None = None
    attribution: Attribution | None = None
    quality: QualityReport | None = None

    @property
    def latest(self) -> DriftReport:
        """The newest window."""
        return self.reports[-1]

    @property
    def outcome(self) -> str:
        """``none``, ``warning``, ``severe``, or ``insufficient_data``: no band rather than a calm one."""
        return self.alarm.band or "insufficient_data"

    @property
    def known(self) -> bool:
        """Whether there was enough data to say anything."""
        return self.alarm.band is not None

    @property
    def raised(self) -> bool:
        """Whether somebody should look."""
        return self.alarm.band in ("warning", "severe")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        data: dict[str, Any] = to_plain(self)
        # The exporter reads the estimate beside the matured figures.
        estimate = None if self.aftermath is None else data["aftermath"].pop("estimate")
        return data | {"outcome": self.outcome, "estimate": estimate}


def windows_before(usecase: UseCase, as_of: datetime) -> list[TimeWindow]:
    """The policy's disjoint windows that end with the last whole business day before ``as_of``."""
    calendar, policy = usecase.calendar, usecase.drift
    end = calendar.start_of(calendar.day_of(as_of))
    windows = []
    for _ in range(policy.windows):
        start = business_time_before(calendar, end, policy.window)
        windows.append(TimeWindow(start, end))
        end = start
    return windows[::-1]


def newest_champion_ref(store: Store, usecase: UseCase, name: str, window: TimeWindow) -> ModelRef | None:
    """The version of a model that gave the newest answer as champion: who was active, by the log itself."""
    label = newest_champion(store.database, usecase.name, window, name)
    return None if label is None else ModelRef.parse(label)


def version_to_check(store: Store, registry: ModelRegistry, model: str, usecase: UseCase, as_of: datetime) -> ModelRef:
    """Who answered the newest event of the windows under test; where nobody did, the registry's champion.

    Raises:
        RoleVacant: there is no champion either.
    """
    windows = windows_before(usecase, as_of)
    ref = newest_champion_ref(store, usecase, model, TimeWindow(windows[0].start, windows[-1].end))
    return ref or registry.resolve(model, "champion")


@dataclass(frozen=True, eq=False)
class DriftInputs:
    """Everything that a check reads of the log's answers, each set once.

    Attributes:
        as_of: business time of the check.
        windows: the policy's windows, oldest first; the newest holds its features where skew was asked for.
        answers: with what is known of their truth.
        reference: the champion's first matured days, or none.
        aftermath: whether matured days are looked at one by one, estimated and watched by detectors.
    """

    as_of: datetime
    windows: tuple[ServedWindow, ...]
    answers: MaturedAnswers
    reference: TimeWindow | None
    aftermath: bool


def read_drift_inputs(
    store: Store,
    usecase: UseCase,
    ref: ModelRef,
    model: ScoringModel,
    as_of: datetime,
    *,
    skew: bool = True,
    aftermath: bool = True,
) -> DriftInputs:
    """Read what a check looks at.

    Without ``aftermath`` no matured day is looked at one by one, nothing is estimated, and no detector runs.
    """
    *older, newest = windows_before(usecase, as_of)
    windows = [measure_window(store, usecase, model, window) for window in older]
    windows.append(measure_window(store, usecase, model, newest, with_features=skew))
    reference = reference_window(store, usecase, ref, as_of) if aftermath else None
    length = CURRENT + REFERENCE if aftermath else CURRENT
    answers = read_matured_answers(store, usecase, as_of, length, reference)
    return DriftInputs(as_of, tuple(windows), answers, reference, aftermath)


def check_drift(
    store: Store, usecase: UseCase, ref: ModelRef, model: ScoringModel, inputs: DriftInputs
) -> DriftFinding:
    """Compare each of the policy's windows with the model's reference and combine them."""
    reports, answers = tuple(window.report for window in inputs.windows), inputs.answers
    newest = inputs.windows[-1]
    return DriftFinding(
        ref.label,
        inputs.as_of,
        reports,
        combine_windows(reports, usecase.drift),
        matured_performance(usecase, answers, ref.label),
        None if newest.features is None else measure_skew(store, usecase, model, newest),
        matured_fairness(usecase, answers),
        measure_aftermath(store, usecase, ref, model, answers, inputs.reference) if inputs.aftermath else None,
        attribution_drift(model, newest, usecase.drift.min_rows),
        _quality(store, usecase, inputs.as_of),
    )


def attribution_drift(model: ScoringModel, window: ServedWindow, min_rows: int) -> Attribution | None:
    """The ranking of what the model leans on in a window, against the one frozen with its reference."""
    reference = model.profile.importance
    if not reference or window.report.rows < min_rows:
        return None
    current = mean_contributions(model.booster, window.explained)
    names = model.profile.names
    changes = sorted(zip(names, reference, current, strict=True), key=lambda row: -abs(row[2] - row[1]))
    return Attribution(ndcg(reference, current), len(window.explained), tuple(changes[:5]))


@step(name="check data quality", run_name="check the data quality of {usecase.name}", tags=("database",), retried=True)
def _quality(store: Store, usecase: UseCase, as_of: datetime) -> QualityReport:
    """Freshness, volume, duplicates and quarantine against the check before."""
    last_report = store.reports.latest(usecase.name, "drift", as_of=as_of)
    last_quality = None if last_report is None else last_report.payload.get("quality")
    return measure_data_quality(store, usecase.name, usecase.calendar, as_of, usecase.drift.stale_after, last_quality)


@step(name="measure the matured week", run_name="measure the matured week of {usecase.name}")
def matured_performance(usecase: UseCase, answers: MaturedAnswers, model: str) -> Performance | None:
    """What a model achieved in the latest matured week, by its own answers; none without an answer.

    Where flagged events are blocked, what was let through stands for what was not.
    """
    rows = answers.matured()
    rows = rows[rows["model"] == model]
    if blocks := usecase.intervention.blocks_flagged:
        rows = rows[rows["weight"] > 0.0]
    if rows.empty:
        return None
    prices, weight = prices_of(usecase.cost, rows), rows["weight"] if blocks else None
    return measure(rows["y"], rows["score"], rows["decision"], prices, groups=RowGroups(rows["day"]), weight=weight)


@step(name="compare groups", run_name="compare the groups of {usecase.name}")
def matured_fairness(usecase: UseCase, answers: MaturedAnswers) -> FairnessReport | None:
    """The decisions of the latest matured week by sensitive group and slice; none without rows or groups.

    Where flagged events are blocked only rates of flags are compared: recall by group hangs on labels that nobody
    will learn.
    """
    columns = dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices))
    has_labels = not usecase.intervention.blocks_flagged
    # Who was flagged is known of everybody, what they were only of those who were let through.
    rows = answers.matured() if has_labels else answers.latest().assign(y=0)
    if not columns or rows.empty:
        return None
    groups = pd.DataFrame({name: event_column(rows, name) for name in columns})
    return assess_fairness(groups, rows["y"], rows["decision"], usecase.fairness, labelled=has_labels)


@step(
    name="recompute features",
    run_name="recompute the features of the newest window of {usecase.name}",
    tags=("database",),
    retried=True,
)
def measure_skew(store: Store, usecase: UseCase, model: ScoringModel, newest: ServedWindow) -> SkewReport:
    """Build the window's features again from the logged raw events and compare them bit by bit."""
    window, logged_features = newest.report.window, newest.features
    assert window is not None
    assert logged_features is not None
    context = TimeWindow(window.start - usecase.longest_window, window.end)
    events = store.log.events(usecase.name, context, {c.name: c.type for c in usecase.columns})
    statements = store.labels.history(usecase.name, as_of=window.end)
    rebuilt_features = model.plan.build(events, statements, window.end).set_index(events[usecase.event_id])
    return feature_skew(logged_features, rebuilt_features[rebuilt_features.index.isin(logged_features.index)])


def drifted_features(finding: DriftFinding) -> Mapping[str, float | None]:
    """The alarm's features with the size of the newest window's shift (PSI above chance)."""
    shifts = {feature.name: feature.excess for feature in finding.latest.features}
    return {name: shifts.get(name) for name in finding.alarm.features}
