"""The threshold that costs least under the analysts' capacity, and what every other one would cost.

A threshold by the amount reads it from the feature vector: service, shadow, lists and audit all have the features,
only some have the event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monitoring.core.measured import Measurement
from monitoring.performance.cost import Prices, expected_gain
from monitoring.performance.cost_curve import CostCurve
from monitoring.policies import CapacityPolicy
from monitoring.stats.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, Resamples, Units, resampling_units
from monitoring.stats.ranking import descending_order, tie_ends

CURVE_POINTS = 200


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold on the calibrated score; scores at or above it are flagged.

    Attributes:
        value: the threshold.
        low, high: bootstrap interval of the rule's threshold. Where capacity does not bind and the
            costs are constants, the rule gives the same threshold on every sample.
        uncapped: the threshold that costs alone would give.
        capped: whether capacity raised it.
        alerts_per_day: flagged rows a day of the fold at ``value``.
        optimum: the threshold that would have cost least on the fold's own labels, with its interval;
            a check of the calibration, not a rule. Unknown without labels.
    """

    value: float
    low: float
    high: float
    uncapped: float
    capped: bool
    alerts_per_day: float
    optimum: Measurement


def calibrated_threshold(false_negative: float, false_positive: float) -> float:
    """t* = c_FP/(c_FP + c_FN): flag where the expected miss costs at least the expected alarm.

    It is right for calibrated scores only. Free mistakes on both sides give 1.
    """
    total = false_positive + false_negative
    return false_positive / total if total > 0.0 else 1.0


def choose_gain_cut(
    gain: ArrayLike, days: ArrayLike, capacity: CapacityPolicy, weight: ArrayLike | None = None
) -> float:
    """The smallest expected gain worth an alert: 0, or more where capacity binds."""
    g = np.asarray(gain, dtype=float)
    budget = _budget(days, capacity)
    return max(0.0, capacity_cut(g, budget, weight)) if budget is not None else 0.0


def choose_threshold(
    score: ArrayLike,
    days: ArrayLike,
    prices: Prices,
    capacity: CapacityPolicy,
    *,
    y: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> ThresholdChoice:
    """The threshold of a calibrated score: the cheapest one, raised until the analysts can cope.

    Args:
        score: calibrated score of each row of a fold that neither trained nor calibrated the model.
        days: business day of each row; alerts are averaged over the distinct days.
        prices: constants give t* = c_FP/(c_FP + c_FN); amounts give the one threshold whose expected
            cost on the fold is least.
        capacity: alerts a day, or none for no limit.
        y: 0/1 of each row, only for ``optimum``.
        weight: how many events each row stands for, in the capacity and in the cost; by default itself.
        bootstrap: of the intervals.
    """
    p, event_days = np.asarray(score, dtype=float), np.asarray(days)
    row_weights = _weights(p, weight)
    order = np.lexsort((prices.per_row(len(p)), p))
    units = resampling_units(order, event_days, bootstrap.seed)
    resamples = bootstrap.draw(units.count)
    uncapped, uncapped_samples = _cheapest(p, prices, units, resamples, row_weights)
    budget = _budget(event_days, capacity)
    value, samples = uncapped, uncapped_samples
    if budget is not None:
        value = max(uncapped, capacity_cut(p, budget, weight))
        samples = np.maximum(uncapped_samples, _cut_samples(p, budget, units, resamples, row_weights))
    interval = resamples.interval(value, samples)
    optimum = Measurement(None) if y is None else _optimum(np.asarray(y), p, prices, units, resamples, row_weights)
    alerts_per_day = float(row_weights[p >= value].sum()) / max(1, len(np.unique(event_days)))
    low = value if interval.low is None else interval.low
    high = value if interval.high is None else interval.high
    return ThresholdChoice(value, low, high, uncapped, value > uncapped, alerts_per_day, optimum)


def choose_least_saving(
    score: ArrayLike,
    days: ArrayLike,
    prices: Prices,
    capacity: CapacityPolicy,
    *,
    weight: ArrayLike | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> ThresholdChoice:
    """The least expected saving that is worth an alert: nothing, or more where the analysts cannot cope.

    With it the threshold of a row is (c_FP + saving) / (c_FP + amount); see :func:`amount_thresholds` for no
    limit. Arguments as in :func:`choose_threshold`; ``value``, ``low`` and ``high`` are money, ``uncapped`` is 0.
    """
    p, event_days = np.asarray(score, dtype=float), np.asarray(days)
    gain, row_weights = expected_gain(p, prices), _weights(p, weight)
    units = resampling_units(np.lexsort((gain,)), event_days, bootstrap.seed)
    resamples = bootstrap.draw(units.count)
    value, budget = choose_gain_cut(gain, event_days, capacity, weight), _budget(event_days, capacity)
    samples = np.zeros(bootstrap.repetitions)
    if budget is not None:
        samples = np.maximum(samples, _cut_samples(gain, budget, units, resamples, row_weights))
    interval = resamples.interval(value, samples)
    alerts_per_day = float(row_weights[gain >= value].sum()) / max(1, len(np.unique(event_days)))
    low = value if interval.low is None else interval.low
    high = value if interval.high is None else interval.high
    return ThresholdChoice(value, low, high, 0.0, value > 0.0, alerts_per_day, Measurement(None))


def capacity_cut(values: np.ndarray, budget: float, weight: ArrayLike | None = None) -> float:
    """The smallest observed value with at most ``budget`` rows at or above it.

    Tied rows are flagged together or not at all; when even the top tie is too many, the answer lies
    just above it. ``-inf`` when the budget holds every row. With weights a row counts for as many as it stands for.
    """
    if weight is not None:
        return _weighted_cut(values, budget, np.asarray(weight, dtype=float))
    max_rows = math.floor(budget)
    if max_rows >= len(values):
        return -math.inf
    ordered = np.sort(values)[::-1]
    limit = ordered[max_rows]  # the first value that no longer fits
    fitting_values = ordered[:max_rows][ordered[:max_rows] > limit]
    return float(fitting_values[-1]) if len(fitting_values) else float(np.nextafter(limit, np.inf))


def cost_curve(
    y: ArrayLike,
    score: ArrayLike,
    prices: Prices,
    points: int = CURVE_POINTS,
    threshold_in_use: float | None = None,
    weight: ArrayLike | None = None,
) -> CostCurve:
    """Cost, alerts and recall at up to ``points`` observed thresholds, closest together where little is flagged.

    The decisions of ``threshold_in_use`` are one more point. With ``weight`` all figures, alerts too, are
    of the events that the rows stand for.
    """
    truth, p = np.asarray(y, dtype=bool), np.asarray(score, dtype=float)
    order, ends, scores = _falling_order(p)
    points_kept = np.arange(len(ends))
    if len(ends) > points:
        points_kept = np.unique(np.geomspace(1, len(ends), points).round().astype(int)) - 1
    if threshold_in_use is not None and (flagged := int(np.count_nonzero(scores >= threshold_in_use))):
        points_kept = np.union1d(points_kept, [flagged - 1])
    run_ends = ends[points_kept]
    row_weights = _weights(p, weight)
    loss = (np.where(truth, prices.per_row(len(p)), 0.0) * row_weights)[order]
    hits, alarms = truth[order] * row_weights[order], ~truth[order] * row_weights[order]
    total, positives = float(loss.sum()), float(hits.sum()) or 1.0
    cost = total - np.cumsum(loss)[run_ends] + prices.false_alarm * np.cumsum(alarms)[run_ends]
    return CostCurve(
        (_just_above(scores), *scores[points_kept].tolist()),
        (total, *cost.tolist()),
        (0, *np.cumsum(row_weights[order])[run_ends].round().astype(int).tolist()),
        (0.0, *(np.cumsum(hits)[run_ends] / positives).tolist()),
    )


def _budget(days: ArrayLike, capacity: CapacityPolicy) -> float | None:
    """Alerts that the fold's days allow, or none for no limit."""
    if capacity.alerts_per_day is None:
        return None
    return float(capacity.alerts_per_day * len(np.unique(np.asarray(days))))


def _falling_order(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row positions by falling score, the last position of each distinct score, and that score."""
    if not len(p):
        raise ValueError("a threshold needs at least one scored row")
    order = descending_order(p)
    ends = tie_ends(p[order])
    return order, ends, p[order][ends]


def _weights(p: np.ndarray, weight: ArrayLike | None) -> np.ndarray:
    return np.ones(len(p)) if weight is None else np.asarray(weight, dtype=float)


def _weighted_cut(values: np.ndarray, budget: float, weight: np.ndarray) -> float:
    """:func:`capacity_cut` where rows stand for others."""
    if weight.sum() <= budget:
        return -math.inf
    order, ends, scores = _falling_order(values)
    fitting_runs = int(np.searchsorted(np.cumsum(weight[order])[ends], budget, side="right"))
    return float(scores[fitting_runs - 1]) if fitting_runs else _just_above(scores)


def _just_above(scores: np.ndarray) -> float:
    """A threshold that flags nothing, from falling scores."""
    return float(np.nextafter(scores[0], np.inf))


def _cheapest(
    p: np.ndarray, prices: Prices, units: Units, resamples: Resamples, row_weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """The threshold of least expected cost and its resampled values."""
    if np.ndim(prices.missed) == 0:
        value = calibrated_threshold(float(prices.missed), prices.false_alarm)
        return value, np.full(resamples.weights.shape[1], value)
    return _most_gaining_cut(expected_gain(p, prices) * row_weights, p, units, resamples)


def _most_gaining_cut(gain: np.ndarray, p: np.ndarray, units: Units, resamples: Resamples) -> tuple[float, np.ndarray]:
    """The score down to which flagging gains most, and its resampled values.

    Flagging down to a score adds up the gains of all rows at or above it.
    """
    order, ends, scores = _falling_order(p)
    ordered_gain, codes = gain[order], units.codes[order]

    def best(weights: np.ndarray | float) -> float:
        sums = np.cumsum(ordered_gain * weights)[ends]
        top = int(np.argmax(sums))
        return float(scores[top]) if sums[top] > 0.0 else _just_above(scores)

    return best(1.0), np.array([best(w[codes]) for w in resamples.weights.T])


def _cut_samples(
    p: np.ndarray, budget: float, units: Units, resamples: Resamples, row_weights: np.ndarray
) -> np.ndarray:
    """The capacity threshold of each repetition."""
    order, ends, scores = _falling_order(p)
    codes, ordered_weights = units.codes[order], row_weights[order]

    def cut(weights: np.ndarray) -> float:
        fitting_runs = int(np.searchsorted(np.cumsum(weights[codes] * ordered_weights)[ends], budget, side="right"))
        return float(scores[fitting_runs - 1]) if fitting_runs else _just_above(scores)

    return np.array([cut(w) for w in resamples.weights.T])


def _optimum(
    y: np.ndarray, p: np.ndarray, prices: Prices, units: Units, resamples: Resamples, row_weights: np.ndarray
) -> Measurement:
    """The threshold of least realised cost; unknown without both classes."""
    truth = np.asarray(y, dtype=bool)
    if not truth.any() or truth.all():
        return Measurement(None)
    savings = np.where(truth, prices.per_row(len(p)), -prices.false_alarm) * row_weights
    return resamples.interval(*_most_gaining_cut(savings, p, units, resamples))
