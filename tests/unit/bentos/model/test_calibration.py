"""Calibrators keep the order of scores, stay probabilities and survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bentos.model.calibration import Calibrator, Threshold, logit, sigmoid

CALIBRATORS = [
    Calibrator(),
    Calibrator("platt", slope=0.7, intercept=-1.2),
    Calibrator("isotonic", knots_x=(0.1, 0.4, 0.9), knots_y=(0.01, 0.3, 0.8)),
]
SCORES = arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: c.kind)
@given(raw=SCORES)
def test_calibrated_scores_are_probabilities_in_the_order_of_the_raw_ones(calibrator: Calibrator, raw: np.ndarray):
    got = calibrator.apply(raw)
    assert got.dtype == np.float64
    assert ((got >= 0) & (got <= 1)).all()
    assert (np.diff(got[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: c.kind)
@given(raw=SCORES)
def test_one_score_at_a_time_gives_the_bits_of_the_batch(calibrator: Calibrator, raw: np.ndarray):
    batch = calibrator.apply(raw)
    assert batch.tobytes() == b"".join(calibrator.apply(raw[i : i + 1]).tobytes() for i in range(len(raw)))


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: c.kind)
def test_a_calibrator_survives_json(calibrator: Calibrator):
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator


@given(st.floats(-700, 700))
def test_sigmoid_never_overflows_and_undoes_logit(x: float):
    p = sigmoid(np.array([x]))
    assert 0 <= p[0] <= 1
    if 1e-6 < p[0] < 1 - 1e-6:
        assert logit(p)[0] == pytest.approx(x, abs=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "platt", "slope": 0.0},
        {"kind": "platt", "slope": float("nan")},
        {"kind": "isotonic"},
        {"kind": "isotonic", "knots_x": (0.1, 0.2), "knots_y": (0.5,)},
        {"kind": "isotonic", "knots_x": (0.2, 0.1), "knots_y": (0.1, 0.2)},
        {"kind": "isotonic", "knots_x": (0.1, 0.2), "knots_y": (0.5, 0.4)},
        {"kind": "isotonic", "knots_x": (0.1,), "knots_y": (1.5,)},
        {"kind": "spline"},
    ],
)
def test_a_calibrator_that_is_no_rising_map_to_probabilities_is_refused(fields: dict):
    with pytest.raises(ValueError, match=r"slope|knots|kind"):
        Calibrator.from_json(fields)


def test_a_threshold_flags_scores_at_it_and_survives_json():
    threshold = Threshold(0.2, 0.1, 0.3, cost_optimal=0.01, alerts_per_day=100, false_negative=100.0, false_positive=1)
    assert threshold.flags(np.array([0.19, 0.2, 0.21])).tolist() == [False, True, True]
    assert Threshold.from_json(json.loads(json.dumps(threshold.to_json()))) == threshold


def test_a_threshold_outside_its_interval_is_refused():
    with pytest.raises(ValueError, match="inside its interval"):
        Threshold(0.5, 0.1, 0.3)
