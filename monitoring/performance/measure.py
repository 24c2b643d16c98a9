"""What a model achieved on rows whose labels are known, figure by figure, each with its interval.

Accuracy is not here: at one positive in two hundred, never flagging is 99.5 % accurate.
A figure that cannot be computed is ``Measured(None)``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monitoring.core.calendar import BusinessCalendar
from monitoring.core.measured import UNKNOWN, Measurement, StoredResult
from monitoring.performance.card_precision import card_precision
from monitoring.performance.cost import Prices
from monitoring.policies import LabelPolicy
from monitoring.stats.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, Resamples, Units, mean_bootstrap, resampling_units
from monitoring.stats.calibration_error import equal_mass_bins, log_losses
from monitoring.stats.intervals import wilson
from monitoring.stats.ranking import RankTable, auc_roc, average_precision

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Counts:
    """Decisions against truth."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, y: ArrayLike, flagged: ArrayLike) -> Counts:
        """Count two 0/1 arrays."""
        cell = np.asarray(y, dtype=np.int64) * 2 + np.asarray(flagged, dtype=np.int64)
        tn, fp, fn, tp = np.bincount(cell, minlength=4).tolist()
        return cls(tp, fp, fn, tn)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.tp + self.fp + self.fn + self.tn


@dataclass(frozen=True)
class Performance(StoredResult):
    """All figures of one model on one set of rows.

    Attributes:
        rows, positives, flagged: counts.
        metrics: ``average_precision auc_roc recall precision false_positive_rate alert_rate
            prevalence f1 mcc brier log_loss calibration_ratio calibration_error``, and where they were
            asked for ``cost cost_per_row card_precision``.
        units: what was resampled, ``days`` or ``rows``.
        short_days: days with fewer than k entities in the card precision.
    """

    rows: int
    positives: int
    flagged: int
    metrics: Mapping[str, Measurement]
    units: str
    short_days: int = 0

    def value(self, name: str) -> float | None:
        """A metric's value, ``None`` when it is unknown or was not asked for."""
        return self.metrics.get(name, UNKNOWN).value


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Which rows belong together.

    Attributes:
        days: business day of each row.
        entities: entity of each row; with ``days`` it adds ``card_precision``.
        top_k: entities a day of the card precision.
    """

    days: ArrayLike | None = None
    entities: ArrayLike | None = None
    top_k: int = 100


def measure(
    y: ArrayLike,
    score: ArrayLike,
    flagged: ArrayLike,
    prices: Prices | None = None,
    *,
    groups: RowGroups | None = None,
    weight: ArrayLike | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> Performance:
    """Measure a model.

    Proportions have Wilson intervals. All else is resampled: by day from 20 days on, else by row. Where rows stand
    for others, proportions are resampled too, and ``card_precision`` is left out: a list of the k entities on top
    knows of no entity that was not seen.

    Args:
        y: 0/1 of each row, matured.
        score: calibrated score of each row.
        flagged: the decision on each row.
        prices: adds the cost figures.
        groups: day and entity of each row.
        weight: how many events each row stands for. Counts stay those of rows, all figures are of the events.
        bootstrap: of the intervals.
    """
    days, entities = (None, None) if groups is None else (groups.days, groups.entities)
    truth, p = np.asarray(y, dtype=np.int64), np.asarray(score, dtype=float)
    flag = np.asarray(flagged, dtype=bool)
    counts, weights = Counts.of(truth, flag), None if weight is None else np.asarray(weight, dtype=float)
    costs = None if prices is None else prices.of_rows(truth, flag)
    units = _units(truth, p, costs, days, bootstrap.seed)
    resamples = bootstrap.draw(max(1, units.count))
    metrics = (
        dict(proportions(counts, bootstrap.confidence))
        if weights is None
        else _weighted_proportions(truth, flag, weights, units, resamples)
    )
    metrics |= _decision_figures(truth, flag, weights, units, resamples)
    metrics |= _score_figures(truth, p, weights, units, resamples)
    if costs is not None:
        metrics |= _cost_figures(costs, weights, units, resamples)
    short_days = 0
    if groups is not None and entities is not None and days is not None and weights is None:
        cards = card_precision(entities, days, truth, p, groups.top_k)
        metrics["card_precision"] = mean_bootstrap(
            cards.daily, bootstrap.repetitions, bootstrap.seed, bootstrap.confidence
        )
        short_days = cards.short_days
    flagged_rows = counts.tp + counts.fp
    return Performance(
        counts.rows, counts.tp + counts.fn, flagged_rows, metrics, "days" if units.days else "rows", short_days
    )


def proportions(counts: Counts, confidence: float = 0.95) -> dict[str, Measurement]:
    """Recall, precision, false-positive rate, alert rate and prevalence with Wilson intervals."""
    positives, alerts = counts.tp + counts.fn, counts.tp + counts.fp
    return {
        "recall": wilson(counts.tp, positives, confidence),
        "precision": wilson(counts.tp, alerts, confidence),
        "false_positive_rate": wilson(counts.fp, counts.fp + counts.tn, confidence),
        "alert_rate": wilson(alerts, counts.rows, confidence),
        "prevalence": wilson(positives, counts.rows, confidence),
    }


def f1_score(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> np.ndarray:
    """F1 of counts; NaN where nothing is positive and nothing flagged."""
    t, f, n = (np.asarray(v, dtype=float) for v in (tp, fp, fn))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * t / (2 * t + f + n))


def matthews_correlation(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> np.ndarray:
    """Matthews correlation of counts; NaN where a row or column of the table is empty."""
    t, f, n, r = (np.asarray(v, dtype=float) for v in (tp, fp, fn, tn))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((t * r - f * n) / (np.sqrt((t + f) * (t + n)) * np.sqrt((r + f) * (r + n))))


def daily_performance(
    days: pd.Series, y: ArrayLike, flagged: ArrayLike, prices: Prices | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Matured figures of each day, oldest first.

    Columns: ``day rows positives tp fp fn tn``, then ``recall precision false_positive_rate alert_rate
    prevalence`` each with ``_low`` and ``_high`` (Wilson; NaN where unknown), and ``cost`` with prices.
    """
    truth, flag = np.asarray(y, dtype=np.int64), np.asarray(flagged, dtype=np.int64)
    codes, distinct = pd.factorize(days, sort=True)
    table = np.bincount(codes * 4 + truth * 2 + flag, minlength=4 * len(distinct)).reshape(-1, 4)
    counts = [Counts(tp, fp, fn, tn) for tn, fp, fn, tp in table.tolist()]
    frame = pd.DataFrame(
        [_daily_row(day, day_counts, confidence) for day, day_counts in zip(distinct, counts, strict=True)]
    )
    if prices is not None and len(frame):
        frame["cost"] = np.bincount(codes, weights=prices.of_rows(truth, flag), minlength=len(distinct))
    return frame


def matured_answers(
    answers: pd.DataFrame,
    labels: pd.DataFrame,
    as_of: datetime,
    policy: LabelPolicy,
    calendar: BusinessCalendar,
    unknown: Collection[str] = (),
) -> pd.DataFrame:
    """The answers of whole matured days with their label.

    An early label does not let a young event in: only days whose every event is old enough count.

    Args:
        answers: ``event_id``, ``event_time`` and any other columns, one row per event.
        labels: a labels frame (``event_id y observed_at source``), one row per event, as known at ``as_of``.
        as_of: business time of the look; later labels are ignored.
        policy: maturity, and what a matured row without a label is.
        calendar: defines the days.
        unknown: ids of events whose missing label is no negative: they were blocked.

    Returns:
        ``answers`` with ``y`` (int8) and ``day``; rows of unknown truth are left out.
    """
    matured_until = pd.Timestamp(calendar.matured_until(as_of, policy.matures_after))
    old_answers = answers[answers["event_time"] < matured_until]
    known_labels = labels[labels["observed_at"] <= pd.Timestamp(as_of)]
    y = label_events(old_answers["event_id"], known_labels.set_index("event_id")["y"], policy, unknown)
    matured_rows = old_answers[y.notna()].copy()
    matured_rows["y"] = y[y.notna()].astype("int8")
    matured_rows["day"] = calendar.days_of(matured_rows["event_time"])
    return matured_rows


def label_events(
    ids: pd.Series[Any], y_by_event: pd.Series[Any], policy: LabelPolicy, unknown: Collection[str] = ()
) -> pd.Series[Any]:
    """The label of each event; where the policy says that absence means negative, 0 for those without one.

    Args:
        ids: of the events.
        y_by_event: what is known, by event id, one row per event.
        policy: what absence means.
        unknown: ids of events whose missing label is no negative: they were blocked.

    Returns:
        0 and 1 with the index of ``ids``, NaN where the truth is unknown.
    """
    y = ids.map(y_by_event)
    return y.mask(y.isna() & ~ids.isin(unknown), 0.0) if policy.absent_after_maturity == "negative" else y


def _units(y: np.ndarray, p: np.ndarray, costs: np.ndarray | None, days: ArrayLike | None, seed: int) -> Units:
    """Resampling units; the keys make random groups independent of how the table was sorted."""
    keys = (y, p) if costs is None else (costs, y, p)
    return resampling_units(np.lexsort(keys), days, seed)


def _weighted_proportions(
    y: np.ndarray, flag: np.ndarray, weight: np.ndarray, units: Units, resamples: Resamples
) -> dict[str, Measurement]:
    """:func:`proportions` where rows stand for others: ratios of resampled sums."""
    truth, all_rows = y == 1, np.ones(len(y), dtype=bool)

    def rate(top: np.ndarray, base: np.ndarray) -> Measurement:
        total = float(weight[base].sum())
        if not total:
            return UNKNOWN
        with np.errstate(invalid="ignore", divide="ignore"):
            samples = resamples.sums(units.totals(weight * top)) / resamples.sums(units.totals(weight * base))
        return resamples.interval(float(weight[top].sum()) / total, samples)

    return {
        "recall": rate(truth & flag, truth),
        "precision": rate(truth & flag, flag),
        "false_positive_rate": rate(~truth & flag, ~truth),
        "alert_rate": rate(flag, all_rows),
        "prevalence": rate(truth, all_rows),
    }


def _decision_figures(
    y: np.ndarray, flag: np.ndarray, weight: np.ndarray | None, units: Units, resamples: Resamples
) -> dict[str, Measurement]:
    """F1 and Matthews correlation from the table of each unit."""
    cells = np.bincount(units.codes * 4 + y * 2 + flag, weight, minlength=4 * units.count)
    table = cells.reshape(-1, 4).T.astype(float)
    all_tn, all_fp, all_fn, all_tp = table.sum(axis=1)
    tn, fp, fn, tp = (resamples.sums(cell) for cell in table)
    f1, mcc = float(f1_score(all_tp, all_fp, all_fn)), float(matthews_correlation(all_tp, all_fp, all_fn, all_tn))
    return {
        "f1": resamples.interval(f1, f1_score(tp, fp, fn)),
        "mcc": resamples.interval(mcc, matthews_correlation(tp, fp, fn, tn)),
    }


def _score_figures(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray | None, units: Units, resamples: Resamples
) -> dict[str, Measurement]:
    """Ranking and calibration; all unknown when there is no row or a score is not a number."""
    names = ("average_precision", "auc_roc", "brier", "log_loss", "calibration_ratio", "calibration_error")
    if not len(p) or not np.isfinite(p).all():
        return dict.fromkeys(names, UNKNOWN)
    ranking = {"average_precision": UNKNOWN, "auc_roc": UNKNOWN}
    if y.any():
        table = RankTable.of(y, p, units, weight=weight)
        precision = average_precision(y, p, weight=weight)
        ranking["average_precision"] = resamples.interval(precision, table.average_precision(resamples))
        ranking["auc_roc"] = resamples.interval(auc_roc(y, p, weight), table.auc(resamples))
    return ranking | _calibration_figures(y, p, weight, units, resamples)


def _calibration_figures(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray | None, units: Units, resamples: Resamples
) -> dict[str, Measurement]:
    """Each figure is a function of sums per unit."""
    weights = np.ones(len(p)) if weight is None else weight
    squares, losses, hits, expected = ((p - y) ** 2 * weights, log_losses(y, p) * weights, y * weights, p * weights)
    resampled_weight, total = resamples.sums(units.totals(weights)), float(weights.sum())
    bins = equal_mass_bins(p, CALIBRATION_BINS, weight)
    cell, size = bins * units.count + units.codes, CALIBRATION_BINS * units.count
    gaps = np.bincount(cell, weights=(p - y) * weights, minlength=size).reshape(CALIBRATION_BINS, -1)

    def mean(values: np.ndarray) -> Measurement:
        return resamples.interval(float(values.sum()) / total, resamples.sums(units.totals(values)) / resampled_weight)

    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.float64(hits.sum()) / expected.sum()
        ratios = resamples.sums(units.totals(hits)) / resamples.sums(units.totals(expected))
    error = float(np.abs(gaps.sum(axis=1)).sum() / total)
    errors = np.abs(gaps @ resamples.weights).sum(axis=0) / resampled_weight
    return {
        "brier": mean(squares),
        "log_loss": mean(losses),
        "calibration_ratio": resamples.interval(float(ratio), ratios),
        "calibration_error": resamples.interval(error, errors),
    }


def _cost_figures(
    costs: np.ndarray, weight: np.ndarray | None, units: Units, resamples: Resamples
) -> dict[str, Measurement]:
    """Cost of all rows and of one row."""
    if not len(costs):
        return {"cost": UNKNOWN, "cost_per_row": UNKNOWN}
    weights = np.ones(len(costs)) if weight is None else weight
    rows, resampled_cost = resamples.sums(units.totals(weights)), resamples.sums(units.totals(costs * weights))
    total = float((costs * weights).sum())
    return {
        "cost": resamples.interval(total, resampled_cost),
        "cost_per_row": resamples.interval(total / float(weights.sum()), resampled_cost / rows),
    }


def _daily_row(day: Any, counts: Counts, confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {"day": day, "rows": counts.rows, "positives": counts.tp + counts.fn}
    row |= {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn}
    for name, figure in proportions(counts, confidence).items():
        row |= {
            name: _nan_if_none(figure.value),
            f"{name}_low": _nan_if_none(figure.low),
            f"{name}_high": _nan_if_none(figure.high),
        }
    return row


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value
