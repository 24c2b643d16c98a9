"""Fitted calibrators turn skewed scores into the share of positives."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.model.calibration import sigmoid
from flows.steps.fitting.calibrate import ISOTONIC_POSITIVES, fit_calibrator, fit_isotonic, fit_platt


def skewed(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw scores, labels and true probabilities, where logit(p) = 1.5 logit(raw) - 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-2, 1.5, rows)
    truth = sigmoid(1.5 * x - 1.0)
    return sigmoid(x).astype(np.float32), (rng.random(rows) < truth).astype(np.int8), truth


def test_platt_finds_slope_and_intercept_again():
    raw, y, _ = skewed(200_000)
    fitted = fit_platt(raw.astype(np.float64), y)
    assert fitted.slope == pytest.approx(1.5, abs=0.05)
    assert fitted.intercept == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrated_means_match_the_share_of_positives_in_each_fifth(kind: str):
    raw, y, _ = skewed(60_000)
    p = fit_calibrator(raw, y, kind).apply(raw)
    for part in np.array_split(np.argsort(raw), 5):
        assert p[part].mean() == pytest.approx(y[part].mean(), abs=0.01)


def test_auto_is_platt_below_a_thousand_positives_and_isotonic_from_there():
    raw, y, _ = skewed(60_000)
    few = np.flatnonzero(y)[: ISOTONIC_POSITIVES - 1]
    kept = np.concatenate([few, np.flatnonzero(y == 0)])
    assert fit_calibrator(raw[kept], y[kept]).kind == "platt"
    assert fit_calibrator(raw, y).kind == "isotonic"


def test_a_model_that_ranks_backwards_keeps_its_order_and_the_prevalence():
    raw, y, _ = skewed(20_000)
    fitted = fit_platt(1.0 - raw.astype(np.float64), y)
    assert fitted.slope > 0
    assert fitted.apply(raw).mean() == pytest.approx(y.mean(), abs=0.01)


def test_perfectly_separated_scores_do_not_run_away():
    raw = np.concatenate([np.full(50, 0.1), np.full(50, 0.9)])
    y = np.repeat([0, 1], 50).astype(np.int8)
    p = fit_platt(raw, y).apply(raw)
    assert p[0] == pytest.approx(1 / 52, abs=1e-6)
    assert p[-1] == pytest.approx(51 / 52, abs=1e-6)


def test_isotonic_scores_never_reach_certainty():
    raw = np.linspace(0.01, 0.99, 40)
    y = (raw > 0.5).astype(np.int8)
    p = fit_isotonic(raw, y).apply(np.array([0.0, 1.0]))
    assert p.tolist() == pytest.approx([0.5 / 40, 1 - 0.5 / 40], abs=1e-4)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrating_ties_no_scores_that_were_apart(kind: str):
    raw, y, _ = skewed(20_000)
    distinct = np.unique(raw)
    assert (np.diff(fit_calibrator(raw, y, kind).apply(distinct)) > 0).all()


def test_fitting_does_not_depend_on_the_order_of_rows():
    raw, y, _ = skewed(5_000)
    order = np.random.default_rng(3).permutation(len(raw))
    assert fit_calibrator(raw, y, "isotonic").knots_y == pytest.approx(
        fit_calibrator(raw[order], y[order], "isotonic").knots_y
    )
    assert fit_calibrator(raw, y, "platt").slope == pytest.approx(fit_calibrator(raw[order], y[order], "platt").slope)


def test_without_a_calibrator_scores_stay_as_the_booster_gave_them():
    raw, y, _ = skewed(1000)
    assert fit_calibrator(raw, y, "none").apply(raw).tolist() == raw.astype(np.float64).tolist()
