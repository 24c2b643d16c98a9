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
from flows.steps.data.split import back
from flows.steps.drift.data_quality import data_quality
from flows.steps.drift.over_time import Aftermath, look_back
from flows.steps.drift.served_windows import Looked, by_event, look_at
from flows.steps.fitting.contributions import mean_contributions
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import to_plain
from monitoring.drift.data_quality import QualityReport
from monitoring.drift.feature_drift import DriftAlarm, DriftReport, combine
from monitoring.drift.feature_skew import SkewReport, feature_skew
from monitoring.performance.cost import prices_of
from monitoring.performance.fairness import FairnessReport, assess
from monitoring.performance.measure import Performance, matured, measure
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
        plain: dict[str, Any] = to_plain(self)
        # The exporter reads the estimate beside the matured figures.
        guessed = None if self.aftermath is None else plain["aftermath"].pop("estimate")
        return plain | {"outcome": self.outcome, "estimate": guessed}


def windows_before(usecase: UseCase, as_of: datetime) -> list[TimeWindow]:
    """The policy's disjoint windows that end with the last whole business day before ``as_of``."""
    calendar, policy = usecase.calendar, usecase.drift
    end = calendar.start_of(calendar.day_of(as_of))
    windows = []
    for _ in range(policy.windows):
        start = back(calendar, end, policy.window)
        windows.append(TimeWindow(start, end))
        end = start
    return windows[::-1]


def answering(store: Store, usecase: UseCase, name: str, window: TimeWindow) -> ModelRef | None:
    """The version of a model that gave the newest answer as champion: who was in office, by the log itself."""
    label = newest_champion(store.database, usecase.name, window, name)
    return None if label is None else ModelRef.parse(label)


def in_office(store: Store, registry: ModelRegistry, model: str, usecase: UseCase, as_of: datetime) -> ModelRef:
    """Who answered the newest event of the windows under test; where nobody did, the registry's champion.

    Raises:
        RoleVacant: there is no champion either.
    """
    windows = windows_before(usecase, as_of)
    ref = answering(store, usecase, model, TimeWindow(windows[0].start, windows[-1].end))
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
    seen = [look_at(store, usecase, model, window) for window in windows]
    reports = tuple(one.report for one in seen)
    return DriftFinding(
        ref.label,
        as_of,
        reports,
        combine(reports, usecase.drift),
        matured_performance(store, usecase, as_of, model=ref.label),
        skew_of(store, usecase, model, windows[-1]) if skew else None,
        matured_fairness(store, usecase, as_of),
        look_back(store, usecase, ref, model, as_of) if aftermath else None,
        attribution_drift(model, seen[-1], usecase.drift.min_rows),
        _quality(store, usecase, as_of),
    )


def attribution_drift(model: ScoringModel, seen: Looked, min_rows: int) -> Attribution | None:
    """The ranking of what the model leans on in a window, against the one frozen with its reference."""
    then = model.profile.importance
    if not then or seen.report.rows < min_rows:
        return None
    now = mean_contributions(model.booster, seen.sample)
    names = model.profile.names
    moved = sorted(zip(names, then, now, strict=True), key=lambda row: -abs(row[2] - row[1]))
    return Attribution(ndcg(then, now), len(seen.sample), tuple(moved[:5]))


@step(name="check data quality", run_name="check the data quality of {usecase.name}", tags=("database",), retried=True)
def _quality(store: Store, usecase: UseCase, as_of: datetime) -> QualityReport:
    """Freshness, volume, duplicates and quarantine against the check before."""
    before = store.reports.latest(usecase.name, "drift", as_of=as_of)
    known = None if before is None else before.payload.get("quality")
    return data_quality(store, usecase.name, usecase.calendar, as_of, usecase.drift.stale_after, known)


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
    priced = with_cost_column(store, usecase, window, rows)
    if usecase.intervention.blocks_flagged:
        return _weighted_performance(store, usecase, as_of, window, priced)
    prices = prices_of(usecase.cost, priced)
    return measure(rows["y"], rows["score"], rows["decision"], prices, days=rows["day"])


def _weighted_performance(
    store: Store, usecase: UseCase, as_of: datetime, window: TimeWindow, rows: pd.DataFrame
) -> Performance | None:
    """The same where flagged events are blocked: what was let through stands for what was not."""
    done = store.actions.latest(usecase.name, as_of, window).set_index("event_id")["action"]
    known = store.labels.resolved(usecase.name, as_of, usecase.label, window)
    labelled = rows["event_id"].isin(known["event_id"])
    really = rows["event_id"].map(done).tolist()
    weight, _ = label_weights(rows["action"].tolist(), rows["propensity"], really, labelled)
    kept = weight > 0.0
    seen = rows[kept].reset_index(drop=True)
    if seen.empty:
        return None
    prices = prices_of(usecase.cost, seen)
    return measure(seen["y"], seen["score"], seen["decision"], prices, days=seen["day"], weight=weight[kept])


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
    wanted = {usecase.event_id: "identifier"} | {name: usecase.column(name).type for name in columns}
    events = store.log.events(usecase.name, window, wanted)
    both = rows.merge(events.rename(columns={usecase.event_id: "event_id"}), on="event_id", how="left")
    judged = not usecase.intervention.blocks_flagged
    return assess(both[list(columns)], both["y"], both["decision"], usecase.fairness, labelled=judged)


def matured_rows(store: Store, usecase: UseCase, as_of: datetime, days: int = 7) -> pd.DataFrame:
    """The answers of the latest matured ``days`` with their label ``y``."""
    return _matured_rows(store, usecase, as_of, days)[1]


def _matured_rows(store: Store, usecase: UseCase, as_of: datetime, days: int) -> tuple[TimeWindow, pd.DataFrame]:
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    window = TimeWindow(back(usecase.calendar, end, timedelta(days=days)), end)
    answers = store.log.answers(usecase.name, window)
    known = store.labels.known(usecase.name, as_of, usecase.label, window)
    hidden = blocked_events(store, usecase, window, as_of)
    return window, matured(answers, known, as_of, usecase.label, usecase.calendar, hidden)


def with_cost_column(store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the event column that a miss costs, where the policy names one."""
    cost = usecase.cost.false_negative
    if not isinstance(cost, str):
        return rows
    events = store.log.events(usecase.name, window, {usecase.event_id: "identifier", cost: usecase.column(cost).type})
    return rows.merge(events.rename(columns={usecase.event_id: "event_id"}), on="event_id", how="left")


def with_cost_column_of(store: Store, usecase: UseCase, rows: pd.DataFrame) -> pd.DataFrame:
    """The same for rows of any days."""
    if rows.empty:
        return rows
    first, last = rows["event_time"].min().to_pydatetime(), rows["event_time"].max().to_pydatetime()
    return with_cost_column(store, usecase, TimeWindow(first, last + timedelta(microseconds=1)), rows)


@step(
    name="recompute features",
    run_name="recompute the features of {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}",
    tags=("database",),
    retried=True,
)
def skew_of(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow) -> SkewReport:
    """Build the window's features again from the logged raw events and compare them bit by bit."""
    logged = by_event(store, usecase, model, window)
    context = TimeWindow(window.start - usecase.longest_window, window.end)
    events = store.log.events(usecase.name, context, {c.name: c.type for c in usecase.columns})
    statements = store.labels.history(usecase.name, as_of=window.end)
    built = model.plan.build(events, statements, window.end).set_index(events[usecase.event_id])
    return feature_skew(logged, built[built.index.isin(logged.index)])


def drifted_features(finding: DriftFinding) -> Mapping[str, float | None]:
    """The alarm's features with the size of the newest window's shift (PSI above chance)."""
    sizes = {feature.name: feature.excess for feature in finding.latest.features}
    return {name: sizes.get(name) for name in finding.alarm.features}
