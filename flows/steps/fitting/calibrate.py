"""Fit what turns a raw score into a probability; :mod:`bentos.model.calibration` applies it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bentos.model.calibration import Calibrator, Floats, logit, sigmoid
from bentos.usecase.definition import TrainingPolicy

ISOTONIC_POSITIVES = 1_000
"""Below so many positives isotonic steps follow noise and Platt's two numbers are safer."""
_SMALLEST_SLOPE = 1e-3  # a model that ranks backwards keeps its order; the gates refuse it
_SLOPE = 1e-3
_ROUNDS = 100


def fit_calibrator(
    raw: NDArray[np.float32], y: NDArray[np.int8], kind: str = "auto", weight: Floats | None = None
) -> Calibrator:
    """Fit a calibrator on rows later than the booster's.

    Args:
        raw: scores in 0..1.
        y: labels 0 or 1, both present.
        kind: ``platt``, ``isotonic``, ``auto`` (Platt below 1,000 positives) or ``none``.
        weight: how many events each row stands for; without it each stands for itself. What is counted (positives
            for ``auto``, half an event as the smallest probability) are rows that were seen.
    """
    if kind == "none":
        return Calibrator()
    if kind == "auto":
        kind = "platt" if int(y.sum()) < ISOTONIC_POSITIVES else "isotonic"
    scores = np.asarray(raw, dtype=np.float64)
    return fit_platt(scores, y, weight) if kind == "platt" else fit_isotonic(scores, y, weight)


def fit_platt(raw: Floats, y: NDArray[np.int8], weight: Floats | None = None) -> Calibrator:
    """Platt scaling on log odds by Newton's method, with the smoothed targets of Platt (1999)."""
    positives = float(y.sum())
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    x = logit(raw)
    slope, intercept = _newton(x, target, weight)
    if slope < _SMALLEST_SLOPE:
        slope = _SMALLEST_SLOPE
        level, centre = (float(np.average(v, weights=weight)) for v in (target, x))
        intercept = float(logit(np.array([level]))[0]) - slope * centre
    return Calibrator("platt", slope=slope, intercept=intercept)


def fit_isotonic(raw: Floats, y: NDArray[np.int8], weight: Floats | None = None) -> Calibrator:
    """Isotonic regression as knots at the centres of its blocks, strictly rising.

    Joining centres keeps scores apart that a step would tie (Oron and Flournoy 2017), and a slight
    slope does so beyond the outer centres: a tie would change every ranking figure, and one at the top
    would make a capacity of k alerts impossible to meet. Values stay half an event away from 0 and 1,
    which no finite sample can show.
    """
    from scipy.optimize import isotonic_regression

    x, index, counts = np.unique(raw, return_inverse=True, return_counts=True)
    weights = counts if weight is None else np.bincount(index, weights=weight)
    mean = np.bincount(index, weights=y if weight is None else y * weight) / weights
    regression = isotonic_regression(mean, weights=weights)
    starts = np.asarray(regression.blocks[:-1])
    centres = np.add.reduceat(x * weights, starts) / np.add.reduceat(weights, starts)
    edge = 0.5 / len(raw)
    values = np.clip(regression.x[starts], edge, 1.0 - edge)
    return _with_slopes(centres.tolist(), values.tolist())


def fit_by_policy(
    raw: NDArray[np.float32], y: NDArray[np.int8], policy: TrainingPolicy, weight: Floats | None = None
) -> Calibrator:
    """The calibrator that the use case asks for."""
    return fit_calibrator(raw, y, policy.calibration, weight)


def _with_slopes(x: list[float], y: list[float]) -> Calibrator:
    """Knots at 0 and 1 whose values lie a little below the first and above the last."""
    if x[0] > 0.0:
        x, y = [0.0, *x], [y[0] * (1.0 - _SLOPE), *y]
    if x[-1] < 1.0:
        x, y = [*x, 1.0], [*y, y[-1] + (1.0 - y[-1]) * _SLOPE]
    return Calibrator("isotonic", knots_x=tuple(x), knots_y=tuple(y))


def _newton(x: Floats, target: Floats, weight: Floats | None) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of ``target`` on ``x``."""
    # A mean weight of one keeps the ridge below as small as it is without weights.
    row_weights = np.ones_like(x) if weight is None else weight / weight.mean()
    design = np.column_stack([x, np.ones_like(x)])
    coefficients = np.array([1.0, 0.0])
    for _ in range(_ROUNDS):
        p = sigmoid(design @ coefficients)
        hessian = design.T @ (design * (row_weights * p * (1 - p))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (row_weights * (target - p)))
        # Full Newton steps overshoot when the first guess is far away.
        coefficients = coefficients + step / max(1.0, float(np.abs(step).max()) / 2.0)
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(coefficients[0]), float(coefficients[1])
