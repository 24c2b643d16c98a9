"""What became of past decisions: figures by day and segment, concept drift, estimates beside the truth.

Only matured rows hold truth. What is said of younger days is an estimate, is called one, and is held
against the truth once it is there.

Concept drift is measured against the first 28 matured days that the version itself answered, not against the test
window of its training, whose rows were chosen and which a twin answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from monitoring.core.measured import UNKNOWN, Measurement
from monitoring.performance.cbpe import estimate_by_confidence
from monitoring.performance.cost import prices_of
from monitoring.performance.measure import Counts, Performance, measure
from monitoring.policies import CostModel
from monitoring.stats.bootstrap import Resamples, Units
from monitoring.stats.ranking import RankTable, average_precision

MIN_DAYS: Final = 7
"""Days of each period below which no difference is given: fewer blocks say little about each other."""
SHOWN_FIGURES: Final = ("recall", "precision", "average_precision", "cost", "calibration_ratio")


@dataclass(frozen=True)
class GroupPerformance:
    """Matured figures of one day (``column`` is ``day``) or of one segment."""

    column: str
    group: str
    performance: Performance


@dataclass(frozen=True)
class ConceptDrift:
    """Matured figures of the latest days minus those of the reference period, resampled by day.

    Attributes:
        reference_days, current_days: first and last day and number of days of each period.
        differences: ``recall precision average_precision cost_per_row calibration_ratio``; 95 % intervals.
        lost: whether recall has fallen, or cost a row risen, beyond its interval.
    """

    reference_days: tuple[str, str, int]
    current_days: tuple[str, str, int]
    differences: Mapping[str, Measurement]
    lost: bool


@dataclass(frozen=True)
class DayEstimate:
    """Expected recall and precision of one day whose labels are not mature."""

    day: str
    rows: int
    recall: float | None
    precision: float | None
    kind: Literal["estimate"] = "estimate"


@dataclass(frozen=True)
class Estimate:
    """Confidence-based estimates of the days that have not matured; blind to concept drift.

    Attributes:
        recall, precision, auc_roc: over all those days.
        rows: answers of those days.
        prior: share of positives by black-box shift estimation, or none.
        days: the same day by day.
        kind: always ``estimate``.
    """

    recall: float | None
    precision: float | None
    auc_roc: float | None
    rows: int
    prior: float | None
    days: tuple[DayEstimate, ...]
    kind: Literal["estimate"] = "estimate"


@dataclass(frozen=True)
class CheckedEstimate:
    """A day's estimate beside what came out.

    Attributes:
        day: the day, matured by now.
        stored: whether the estimate was kept by an earlier check; else it was computed now from the scores.
        recall, precision: estimated.
        true_recall, true_precision: matured, with Wilson intervals.
    """

    day: str
    stored: bool
    recall: float | None
    precision: float | None
    true_recall: Measurement
    true_precision: Measurement


def measure_groups(rows: pd.DataFrame, keys: pd.Series, column: str, cost: CostModel) -> tuple[GroupPerformance, ...]:
    """Every figure of each group, in the order of the groups' names.

    Args:
        rows: matured rows: ``y score decision`` and the column that a miss costs, where there is one.
        keys: group of each row, with the index of ``rows``; rows without one are left out.
        column: what the groups are groups of.
        cost: prices.
    """
    groups = []
    for group, part in rows.groupby(keys, sort=True, observed=True):
        figures = measure(part["y"], part["score"], part["decision"], prices_of(cost, part))
        groups.append(GroupPerformance(column, str(group), figures))
    return tuple(groups)


def concept_drift(
    reference: pd.DataFrame, current: pd.DataFrame, cost: CostModel, repetitions: int = 1000, seed: int = 7
) -> ConceptDrift | None:
    """The differences with their day-block bootstrap intervals; none where a period has under seven days.

    Args:
        reference, current: matured rows: ``day y score decision`` and what ``cost`` needs; no common day.
        cost: prices.
        repetitions, seed: of the bootstrap; each period draws its own days.
    """
    if min(reference["day"].nunique(), current["day"].nunique()) < MIN_DAYS:
        return None
    reference_figures, current_figures = (
        _resample_figures(rows, cost, repetitions, seed + i) for i, rows in enumerate((reference, current))
    )
    interval = Resamples(np.empty((0, 0))).interval
    differences = {
        name: UNKNOWN
        if value is None or (reference_value := reference_figures[name][0]) is None
        else interval(value - reference_value, samples - reference_figures[name][1])
        for name, (value, samples) in current_figures.items()
    }
    recall, price = differences["recall"], differences["cost_per_row"]
    performance_lost = (recall.high is not None and recall.high < 0.0) or (price.low is not None and price.low > 0.0)
    return ConceptDrift(_period(reference), _period(current), differences, performance_lost)


def estimate(answers: pd.DataFrame, days: pd.Series, prior: float | None = None) -> Estimate | None:
    """Confidence-based estimates of young answers (``score decision``); none without any."""
    if answers.empty:
        return None
    overall = estimate_by_confidence(answers["score"], answers["decision"])
    daily = tuple(estimate_days(answers, days))
    return Estimate(overall.recall, overall.precision, overall.auc_roc, len(answers), prior, daily)


def estimate_days(answers: pd.DataFrame, days: pd.Series) -> list[DayEstimate]:
    """The estimate of each day, oldest first."""
    estimates = []
    for day, part in answers.groupby(days, sort=True):
        day_estimate = estimate_by_confidence(part["score"], part["decision"])
        estimates.append(DayEstimate(_name(day), len(part), day_estimate.recall, day_estimate.precision))
    return estimates


def check_estimates(
    daily: Sequence[GroupPerformance], stored: Mapping[str, DayEstimate], computed: Sequence[DayEstimate]
) -> tuple[CheckedEstimate, ...]:
    """Each matured day's estimate (the stored one where there is one) beside the truth."""
    computed_by_day = {day_estimate.day: day_estimate for day_estimate in computed}
    checked_estimates = []
    for day in daily:
        day_estimate = stored.get(day.group) or computed_by_day.get(day.group)
        if day_estimate is not None:
            truth = day.performance.metrics
            checked_estimates.append(
                CheckedEstimate(
                    day.group,
                    day.group in stored,
                    day_estimate.recall,
                    day_estimate.precision,
                    truth["recall"],
                    truth["precision"],
                )
            )
    return tuple(checked_estimates)


def day_names(days: pd.Series) -> pd.Series:
    """Business days as text, ``2026-03-01``."""
    names: pd.Series = days.dt.strftime("%Y-%m-%d")
    return names


def _name(day: object) -> str:
    return str(pd.Timestamp(str(day)).date())


def _period(rows: pd.DataFrame) -> tuple[str, str, int]:
    return _name(rows["day"].min()), _name(rows["day"].max()), int(rows["day"].nunique())


def _resample_figures(
    rows: pd.DataFrame, cost: CostModel, repetitions: int, seed: int
) -> dict[str, tuple[float | None, np.ndarray]]:
    """Each figure of one period, and the same over resampled days."""
    y, flag = rows["y"].to_numpy(dtype=np.int64), rows["decision"].to_numpy(dtype=bool)
    score = rows["score"].to_numpy(dtype=float)
    codes, distinct = pd.factorize(rows["day"], sort=True)
    units = Units(codes.astype(np.int64), len(distinct), True)
    resamples = Resamples.draw(units.count, repetitions, seed)
    money = prices_of(cost, rows).of_rows(y, flag)
    counts = Counts.of(y, flag)
    pairs = {
        "recall": (y * flag, y),
        "precision": (y * flag, flag),
        "cost_per_row": (money, np.ones(len(y))),
        "calibration_ratio": (y, score),
    }
    figures = {name: _ratio(units, resamples, top, base) for name, (top, base) in pairs.items()}
    precision_samples = (
        (average_precision(y, score), RankTable.of(y, score, units).average_precision(resamples))
        if counts.tp + counts.fn and np.isfinite(score).all()
        else (None, np.full(repetitions, np.nan))
    )
    return figures | {"average_precision": precision_samples}


def _ratio(units: Units, resamples: Resamples, top: np.ndarray, base: np.ndarray) -> tuple[float | None, np.ndarray]:
    total = float(np.sum(base))
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = resamples.sums(units.totals(top)) / resamples.sums(units.totals(base))
    return (float(np.sum(top)) / total if total > 0.0 else None), samples
