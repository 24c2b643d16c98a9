"""Evidence is measured on rows later than everything the model was made of."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count

import numpy as np
import pandas as pd
import pytest

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import builtin_usecases, parse_usecase
from flows.errors import EvaluationError, OneClass
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.evaluation.evaluate import candidate_evidence, constant_feature_notes, single_event_p99_ms
from flows.steps.fitting.build import Recipe, build_model, fit_threshold, reference_window
from monitoring.core.calendar import TimeWindow
from monitoring.performance.gates import judge_gates
from tests.support.builders import NOON, card_event, card_frame, case, fraud, label, label_frame, tiny_model
from tests.support.folds import START, fold_of

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
    assert max(model.profile.importance_shares, key=model.profile.importance_shares.__getitem__) == PLAN.names[0]
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


def events_of(rows: int) -> pd.DataFrame:
    times = pd.Series(pd.to_datetime(START) + pd.to_timedelta(np.arange(rows), unit="min")).dt.as_unit("us")
    events = pd.DataFrame({"transaction_id": [f"t{n}" for n in range(rows)], "tx_time": times})
    return events.assign(customer_id="c1", terminal_id="m1", amount=12.5)


def test_single_events_are_timed_through_windows_features_and_booster():
    assert single_event_p99_ms(fraud(), tiny_model(), events_of(300)) > 0.0


def clock_of(spent_ms: Callable[[int, int], float]) -> Callable[[], float]:
    """A clock on which event ``n`` of pass ``p`` takes ``spent_ms(p, n)``; 150 events are timed in each pass."""
    calls, now = count(), 0.0

    def tick() -> float:
        nonlocal now
        measured, ends = divmod(next(calls), 2)
        now += spent_ms(*divmod(measured, 150)) / 1000.0 if ends else 0.0
        return now

    return tick


def test_a_pause_of_the_machine_is_not_held_against_a_model():
    slowed = clock_of(lambda turn, n: 500.0 if n % 3 == turn else 2.0)
    assert single_event_p99_ms(fraud(), tiny_model(), events_of(300), slowed) == pytest.approx(2.0)


def test_events_that_are_dear_each_time_are():
    dear = clock_of(lambda turn, n: 150.0 + turn if n % 20 == 0 else 2.0)
    assert single_event_p99_ms(fraud(), tiny_model(), events_of(300), dear) == pytest.approx(150.0)


def test_features_that_never_change_are_noted():
    every = fold()
    every.features[:, 2] = 4.0
    every.features[:, 3] = np.nan
    assert constant_feature_notes(every, PLAN) == (
        "feature during_night is constant in the small fold",
        "feature customer_count_1d is constant in the small fold",
    )


def test_without_a_calibrator_the_whole_late_fold_chooses_the_threshold():
    every = fold()
    train, late = every.between("train", span(0, 10)), every.between("late", span(10, 17))
    first, _ = late.halves()
    # A short fold may begin with days that hold one class only.
    quiet = replace(late, rows=late.rows.assign(y=np.where(late.rows.index < len(first), 0, late.y)))
    told = tiny_model().metadata
    with pytest.raises(OneClass):
        build_model(Recipe(fraud(), PLAN, 7), train, quiet, quiet, told)
    training = fraud().training.model_copy(update={"calibration": "none"})
    bare = fraud().model_copy(update={"training": training})
    model = build_model(Recipe(bare, PLAN, 7), train, quiet, quiet, told)
    said = model.score(quiet.features)
    assert said.calibrated.tolist() == said.raw.astype(np.float64).tolist()


def test_sensitive_groups_are_judged_on_the_test_rows_and_reach_the_verdict():
    usecase = with_groups({"sensitive": ["terminal_id"], "max_parity_difference": 0.05})
    every = fold()
    # Terminal "b" sees the large amounts, so it is flagged far more often than "a".
    grouped = replace(
        every, rows=every.rows.assign(**{"group.terminal_id": np.where(every.features[:, 0] > 25, "b", "a")})
    )
    train, calibration, test = (grouped.between(str(w), span(*w)) for w in ((0, 10), (10, 17), (17, 24)))
    model = build_model(Recipe(usecase, PLAN, 7), train, calibration, calibration, tiny_model().metadata)

    found = candidate_evidence(usecase, model, "dev-fraud/1", train, test, len(every), latency_ms=1.5)
    verdict = judge_gates(found, None, usecase.gates)

    assert verdict.check("parity:terminal_id=b").status == "FAIL"
    assert verdict.outcome == "fail"
    assert any("parity:terminal_id=b" in reason for reason in verdict.reasons)


def test_the_events_of_a_fold_bring_the_values_of_sensitive_columns():
    usecase = case(fairness={"sensitive": ["channel"], "slices": ["amount"], "edges": {"amount": [50.0]}})
    events = card_frame(card_event(1, channel="app"), card_event(2, amount=70.0), usecase=usecase)
    labels = label_frame(label(1, 1, DAY), label(2, 0, DAY))
    known = TrainingHistory.at(usecase, events, labels, labels, NOON + 30 * DAY)

    built = build_fold(usecase, FeaturePlan.of(usecase), known, TimeWindow(NOON - DAY, NOON + DAY))

    assert built.groups.to_dict("list") == {"channel": ["app", "web"], "amount": [10.0, 70.0]}


def with_groups(fairness: dict[str, object]) -> UseCase:
    data = tomllib.loads(builtin_usecases()["fraud"].read_text())
    return parse_usecase(data | {"fairness": fairness})


def test_the_threshold_is_chosen_on_rows_that_did_not_fit_the_calibrator():
    capacity = fraud().capacity.model_copy(update={"alerts_per_day": 3.0})
    usecase, every = fraud().model_copy(update={"capacity": capacity}), fold()
    train, late = every.between("train", span(0, 10)), every.between("late", span(10, 17))
    model = build_model(Recipe(usecase, PLAN, 7), train, late, late, tiny_model().metadata)
    chosen = {}
    for name, rows in zip(("first", "second", "all"), (*late.halves(), late), strict=True):
        chosen[name] = fit_threshold(usecase, rows, model.score(rows.features).calibrated, 7)
    assert model.threshold == chosen["second"]
    assert len({cut.value for cut in chosen.values()}) == 3
