"""Evidence is measured on rows later than everything the model was made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from bentos.features import FeaturePlan
from flows.errors import EvaluationError, OneClass
from flows.steps.build import Recipe, build_model, reference_window
from flows.steps.evaluate import candidate_evidence, constant_features, single_event_p99_ms
from flows.steps.table import Fold
from monitoring.calendar import TimeWindow
from tests.builders import fraud, tiny_model
from tests.folds import START, fold_of

DAY = timedelta(days=1)
PLAN = FeaturePlan.of(fraud())


def fold(rows: int = 2_400, days: int = 24, seed: int = 4) -> Fold:
    """Random features of the fraud plan; the amount decides the label, a tenth are positive."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 10.0, (rows, len(PLAN.names))).astype(np.float32)
    y = (x[:, 0] + rng.normal(0, 5, rows) > 38).astype(np.int8)
    return fold_of(x, y, days)


def span(start: int, end: int) -> TimeWindow:
    return TimeWindow(START + start * DAY, START + end * DAY)


def test_a_model_is_built_and_measured_in_order_of_time():
    every = fold()
    train, calibration, test = (every.between(str(w), span(*w)) for w in ((0, 10), (10, 17), (17, 24)))
    model = build_model(Recipe(fraud(), PLAN, 7), train, calibration, calibration, tiny_model().metadata)
    model.check_golden()
    assert (model.metadata.rows, model.metadata.positives) == (len(train), train.positives)
    assert model.metadata.training_end == (START + 10 * DAY).isoformat()
    assert model.profile.score is not None
    assert model.profile.score.rows == len(calibration)
    assert model.threshold.low <= model.threshold.value <= model.threshold.high
    assert model.threshold.cost_optimal == pytest.approx(1 / 101)

    found = candidate_evidence(fraud(), model, "dev-fraud/1", train, test, len(every), latency_ms=1.5)
    assert (found.window, found.trained_until) == (test.window, calibration.window.end)
    assert (found.rows, found.positives, found.latency_p99_ms) == (len(every), test.positives, 1.5)
    assert found.value("average_precision") > 0.8
    assert found.baseline["average_precision"].value is not None
    # The baseline may flag as many rows as the model does, no more.
    assert found.baseline["alert_rate"].value == found.metrics["alert_rate"].value

    with pytest.raises(EvaluationError, match="training ends at"):
        candidate_evidence(fraud(), model, "dev-fraud/1", train, calibration, len(every), latency_ms=1.5)
    quiet = replace(test, rows=test.rows.assign(y=0))
    with pytest.raises(OneClass, match="test fold are negative"):
        candidate_evidence(fraud(), model, "dev-fraud/1", train, quiet, len(every), latency_ms=1.5)


def test_the_reference_is_at_least_a_week_and_never_longer_than_what_is_matured():
    assert reference_window(fraud(), span(0, 40)) == span(33, 40)
    assert reference_window(fraud(), span(0, 3)) == span(0, 3)
    longer = fraud().split.model_copy(update={"test": 14 * DAY})
    assert reference_window(fraud().model_copy(update={"split": longer}), span(0, 40)) == span(26, 40)
    shorter = fraud().split.model_copy(update={"test": DAY})
    assert reference_window(fraud().model_copy(update={"split": shorter}), span(0, 40)) == span(33, 40)


def test_single_events_are_timed_through_windows_features_and_booster():
    rows = 300
    times = pd.Series(pd.to_datetime(START) + pd.to_timedelta(np.arange(rows), unit="min")).dt.as_unit("us")
    events = pd.DataFrame({"transaction_id": [f"t{n}" for n in range(rows)], "tx_time": times})
    events = events.assign(customer_id="c1", terminal_id="m1", amount=12.5)
    assert single_event_p99_ms(fraud(), tiny_model(), events) > 0.0


def test_features_that_never_change_are_noted():
    every = fold()
    every.features[:, 2] = 4.0
    every.features[:, 3] = np.nan
    assert constant_features(every, PLAN) == (
        "feature during_night is constant in the small fold",
        "feature customer_count_1d is constant in the small fold",
    )
