"""What one drift check looks at: the log's latest days against the champion's frozen reference.

Score drift uses scores made again by the reference's own model: for days after a promotion the window holds answers
of two versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.data.split import business_time_before
from flows.steps.drift.data_quality import measure_data_quality
from flows.steps.drift.over_time import Aftermath, measure_aftermath
from flows.steps.drift.served_windows import WindowDrift, features_by_event, measure_window
from flows.steps.fitting.contributions import mean_contributions
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import to_plain
from monitoring.drift.data_quality import QualityReport
from monitoring.drift.feature_drift import DriftAlarm, DriftReport, combine_windows
from monitoring.drift.feature_skew import SkewReport, feature_skew
from monitoring.performance.cost import prices_of
from monitoring.performance.fairness import FairnessReport, assess_fairness
from monitoring.performance.measure import Performance, RowGroups, matured_answers, measure
from monitoring.stats.distances import ndcg
from monitoring.stats.label_weights import label_weights
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


def check_drift(
    store: Store,
    usecase: UseCase,
    ref: ModelRef,
    model: ScoringModel,
    as_of: datetime,
    *,
    skew: bool = True,
    aftermath: bool = True,
) -> DriftFinding:
    """Compare each of the policy's windows with the model's reference and combine them.

    Without ``aftermath`` no matured day is looked at one by one, nothing is estimated, and no detector runs.
    """
    windows = windows_before(usecase, as_of)
    window_drifts = [measure_window(store, usecase, model, window) for window in windows]
    reports = tuple(window_drift.report for window_drift in window_drifts)
    return DriftFinding(
        ref.label,
        as_of,
        reports,
        combine_windows(reports, usecase.drift),
        matured_performance(store, usecase, as_of, model=ref.label),
        measure_skew(store, usecase, model, windows[-1]) if skew else None,
        matured_fairness(store, usecase, as_of),
        measure_aftermath(store, usecase, ref, model, as_of) if aftermath else None,
        attribution_drift(model, window_drifts[-1], usecase.drift.min_rows),
        _quality(store, usecase, as_of),
    )


def attribution_drift(model: ScoringModel, window_drift: WindowDrift, min_rows: int) -> Attribution | None:
    """The ranking of what the model leans on in a window, against the one frozen with its reference."""
    reference = model.profile.importance
    if not reference or window_drift.report.rows < min_rows:
        return None
    current = mean_contributions(model.booster, window_drift.sample)
    names = model.profile.names
    changes = sorted(zip(names, reference, current, strict=True), key=lambda row: -abs(row[2] - row[1]))
    return Attribution(ndcg(reference, current), len(window_drift.sample), tuple(changes[:5]))


@step(name="check data quality", run_name="check the data quality of {usecase.name}", tags=("database",), retried=True)
def _quality(store: Store, usecase: UseCase, as_of: datetime) -> QualityReport:
    """Freshness, volume, duplicates and quarantine against the check before."""
    last_report = store.reports.latest(usecase.name, "drift", as_of=as_of)
    last_quality = None if last_report is None else last_report.payload.get("quality")
    return measure_data_quality(store, usecase.name, usecase.calendar, as_of, usecase.drift.stale_after, last_quality)


@step(
    name="measure the matured week",
    run_name="measure the matured week of {usecase.name}",
    tags=("database",),
    retried=True,
)
def matured_performance(
    store: Store, usecase: UseCase, as_of: datetime, days: int = 7, model: str | None = None
) -> Performance | None:
    """What was achieved in the latest ``days`` whose labels have all matured; none without an answer.

    With a model, by its own answers: those of the champion before say nothing about it.
    """
    window, rows = _matured_rows(store, usecase, as_of, days)
    if model is not None and len(rows):
        rows = rows[rows["model"] == model].reset_index(drop=True)
    if rows.empty:
        return None
    cost_rows = add_cost_column(store, usecase, window, rows)
    if usecase.intervention.blocks_flagged:
        return _weighted_performance(store, usecase, as_of, window, cost_rows)
    prices = prices_of(usecase.cost, cost_rows)
    return measure(rows["y"], rows["score"], rows["decision"], prices, groups=RowGroups(rows["day"]))


def _weighted_performance(
    store: Store, usecase: UseCase, as_of: datetime, window: TimeWindow, rows: pd.DataFrame
) -> Performance | None:
    """The same where flagged events are blocked: what was let through stands for what was not."""
    actions = store.actions.latest(usecase.name, as_of, window).set_index("event_id")["action"]
    labels = store.labels.resolved_labels(usecase.name, as_of, usecase.label, window)
    has_label = rows["event_id"].isin(labels["event_id"])
    actual_actions = rows["event_id"].map(actions).tolist()
    weight, _ = label_weights(rows["action"].tolist(), rows["propensity"], actual_actions, has_label)
    has_weight = weight > 0.0
    weighted_rows = rows[has_weight].reset_index(drop=True)
    if weighted_rows.empty:
        return None
    prices = prices_of(usecase.cost, weighted_rows)
    return measure(
        weighted_rows["y"],
        weighted_rows["score"],
        weighted_rows["decision"],
        prices,
        groups=RowGroups(weighted_rows["day"]),
        weight=weight[has_weight],
    )


@step(name="compare groups", run_name="compare the groups of {usecase.name}", tags=("database",), retried=True)
def matured_fairness(store: Store, usecase: UseCase, as_of: datetime, days: int = 7) -> FairnessReport | None:
    """The decisions of the latest matured ``days`` by sensitive group and slice; none without rows or groups.

    Where flagged events are blocked only rates of flags are compared: recall by group hangs on labels that nobody
    will learn.
    """
    columns = dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices))
    if not columns:
        return None
    window, rows = _matured_rows(store, usecase, as_of, days)
    if usecase.intervention.blocks_flagged:
        # Who was flagged is known of everybody, what they were only of those who were let through.
        rows = store.log.answers(usecase.name, window).assign(y=0)
    if rows.empty:
        return None
    column_types = {usecase.event_id: "identifier"} | {name: usecase.column(name).type for name in columns}
    events = store.log.events(usecase.name, window, column_types)
    rows_with_groups = rows.merge(events.rename(columns={usecase.event_id: "event_id"}), on="event_id", how="left")
    has_labels = not usecase.intervention.blocks_flagged
    return assess_fairness(
        rows_with_groups[list(columns)],
        rows_with_groups["y"],
        rows_with_groups["decision"],
        usecase.fairness,
        labelled=has_labels,
    )


def matured_rows(store: Store, usecase: UseCase, as_of: datetime, days: int = 7) -> pd.DataFrame:
    """The answers of the latest matured ``days`` with their label ``y``."""
    return _matured_rows(store, usecase, as_of, days)[1]


def _matured_rows(store: Store, usecase: UseCase, as_of: datetime, days: int) -> tuple[TimeWindow, pd.DataFrame]:
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    window = TimeWindow(business_time_before(usecase.calendar, end, timedelta(days=days)), end)
    answers = store.log.answers(usecase.name, window)
    labels = store.labels.known(usecase.name, as_of, usecase.label, window)
    blocked_ids = blocked_events(store, usecase, window, as_of)
    return window, matured_answers(answers, labels, as_of, usecase.label, usecase.calendar, blocked_ids)


def add_cost_column(store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the event column that a miss costs, where the policy names one."""
    cost = usecase.cost.false_negative
    if not isinstance(cost, str):
        return rows
    events = store.log.events(usecase.name, window, {usecase.event_id: "identifier", cost: usecase.column(cost).type})
    return rows.merge(events.rename(columns={usecase.event_id: "event_id"}), on="event_id", how="left")


def add_cost_column_over_span(store: Store, usecase: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    """The same for rows of any days."""
    if rows.empty:
        return rows
    first, last = rows["event_time"].min().to_pydatetime(), rows["event_time"].max().to_pydatetime()
    return add_cost_column(store, usecase, TimeWindow(first, last + timedelta(microseconds=1)), rows)


@step(
    name="recompute features",
    run_name="recompute the features of {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}",
    tags=("database",),
    retried=True,
)
def measure_skew(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow) -> SkewReport:
    """Build the window's features again from the logged raw events and compare them bit by bit."""
    logged_features = features_by_event(store, usecase, model, window)
    context = TimeWindow(window.start - usecase.longest_window, window.end)
    events = store.log.events(usecase.name, context, {c.name: c.type for c in usecase.columns})
    statements = store.labels.history(usecase.name, as_of=window.end)
    rebuilt_features = model.plan.build(events, statements, window.end).set_index(events[usecase.event_id])
    return feature_skew(logged_features, rebuilt_features[rebuilt_features.index.isin(logged_features.index)])


def drifted_features(finding: DriftFinding) -> Mapping[str, float | None]:
    """The alarm's features with the size of the newest window's shift (PSI above chance)."""
    shifts = {feature.name: feature.excess for feature in finding.latest.features}
    return {name: shifts.get(name) for name in finding.alarm.features}
