"""Gates: every check is shown, and what is missing never passes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Check, Evidence, Verdict, at_least, combine_checks
from monitoring.errors import UnfairWindow
from monitoring.performance import gates
from monitoring.performance.gates import judge_gates
from monitoring.policies import GatePolicy

POLICY = GatePolicy()
START = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = TimeWindow(START, START + timedelta(days=7))
GOOD = Evidence(
    model="dev-fraud/2",
    metrics={
        "average_precision": Measurement(0.7, 0.65, 0.75),
        "recall": Measurement(0.8, 0.75, 0.85),
        "calibration_error": Measurement(0.01, 0.005, 0.02),
    },
    rows=60_000,
    positives=400,
    window=WINDOW,
    baseline={"average_precision": Measurement(0.6)},
    latency_p99_ms=3.0,
    model_mb=0.4,
    trained_until=START,
)


def with_metric(name: str, value: float | None) -> Evidence:
    return replace(GOOD, metrics={**GOOD.metrics, name: Measurement(value)})


def test_a_good_model_passes_every_gate_and_each_is_shown() -> None:
    verdict = judge_gates(GOOD, None, POLICY)
    assert verdict.outcome == "pass"
    assert verdict.as_of == WINDOW.end
    assert [c.name for c in verdict.checks] == [
        "matured_rows",
        "average_precision",
        "recall",
        "calibration_error",
        "single_event_p99_ms",
        "model_mb",
        "baseline_gain",
    ]
    assert verdict.check("recall") == Check("recall", 0.8, 0.5, pytest.approx(0.3), "PASS", "interval 0.7500 to 0.8500")  # type: ignore[arg-type]  # approx stands for a float


@pytest.mark.parametrize("name", ["average_precision", "recall", "calibration_error"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_missing_or_nan_metric_is_insufficient_and_never_a_pass(name: str, value: float | None) -> None:
    verdict = judge_gates(with_metric(name, value), None, POLICY)
    assert verdict.outcome == "insufficient"
    assert verdict.check(name).status == "INSUFFICIENT"


def test_a_metric_that_was_never_measured_is_insufficient() -> None:
    verdict = judge_gates(replace(GOOD, metrics={}), None, POLICY)
    assert {c.status for c in verdict.checks} == {"PASS", "INSUFFICIENT"}
    assert verdict.outcome == "insufficient"


@pytest.mark.parametrize("field", ["latency_p99_ms", "model_mb"])
def test_an_unmeasured_latency_or_size_is_insufficient(field: str) -> None:
    for value in (None, math.nan):
        assert judge_gates(replace(GOOD, **{field: value}), None, POLICY).outcome == "insufficient"


def test_a_failed_floor_fails_even_when_something_else_is_missing() -> None:
    verdict = judge_gates(replace(with_metric("recall", 0.3), latency_p99_ms=None), None, POLICY)
    assert verdict.outcome == "fail"
    assert any("recall is 0.3" in reason for reason in verdict.reasons)


def test_too_few_rows_are_insufficient() -> None:
    assert judge_gates(replace(GOOD, rows=9_999), None, POLICY).outcome == "insufficient"


def test_the_baseline_must_be_beaten_and_not_only_reached() -> None:
    verdict = judge_gates(replace(GOOD, baseline={"average_precision": Measurement(0.7)}), None, POLICY)
    assert verdict.check("baseline_gain").status == "FAIL"
    assert judge_gates(replace(GOOD, baseline={}), None, POLICY).outcome == "insufficient"


def test_the_champion_is_compared_on_the_same_rows() -> None:
    champion = replace(GOOD, model="dev-fraud/1", metrics={"average_precision": Measurement(0.73)})
    verdict = judge_gates(GOOD, champion, POLICY)
    assert verdict.champion == "dev-fraud/1"
    assert verdict.check("champion_gain").status == "FAIL"
    assert verdict.check("champion_gain").margin == pytest.approx(-0.01)
    near = replace(champion, metrics={"average_precision": Measurement(0.71)})
    assert judge_gates(GOOD, near, POLICY).outcome == "pass"
    assert judge_gates(GOOD, replace(champion, metrics={}), POLICY).outcome == "insufficient"


def test_a_champion_measured_on_another_window_is_refused() -> None:
    other = TimeWindow(START, START + timedelta(days=6))
    with pytest.raises(UnfairWindow, match="same rows"):
        judge_gates(GOOD, replace(GOOD, window=other), POLICY)


def test_a_test_window_inside_the_training_data_is_refused() -> None:
    with pytest.raises(UnfairWindow, match="test on later rows"):
        judge_gates(replace(GOOD, trained_until=START + timedelta(seconds=1)), None, POLICY)


def test_a_verdict_survives_json_and_keeps_its_digest() -> None:
    verdict = judge_gates(GOOD, GOOD, POLICY)
    again = Verdict.from_json(verdict.to_json())
    assert again == verdict
    assert again.digest == verdict.digest
    assert Evidence.from_json(GOOD.to_json()) == GOOD


def test_the_digest_of_a_verdict_follows_its_evidence() -> None:
    assert judge_gates(GOOD, None, POLICY).digest != judge_gates(with_metric("recall", 0.81), None, POLICY).digest


def test_a_verdict_with_another_word_for_its_outcome_is_refused() -> None:
    data = judge_gates(GOOD, None, POLICY).to_json() | {"outcome": "fine"}
    with pytest.raises(ValueError, match="outcome"):
        Verdict.from_json(data)


def test_nothing_checked_is_not_a_pass() -> None:
    assert combine_checks([]) == "insufficient"


METRIC = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(METRIC, METRIC, METRIC, METRIC)
def test_no_verdict_passes_unless_every_figure_is_finite(
    precision: float | None, recall: float | None, error: float | None, latency: float | None
) -> None:
    metrics = {
        "average_precision": Measurement(precision),
        "recall": Measurement(recall),
        "calibration_error": Measurement(error),
    }
    verdict = judge_gates(replace(GOOD, metrics=metrics, latency_p99_ms=latency), None, POLICY)
    figures = (precision, recall, error, latency)
    if verdict.outcome == "pass":
        assert all(f is not None and math.isfinite(f) for f in figures)
    assert Verdict.from_json(verdict.to_json()).digest == verdict.digest


def test_a_gate_of_ones_own_is_one_row_and_decides_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def f1(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
        yield at_least("f1", candidate.value("f1"), 0.4)

    monkeypatch.setattr(gates, "GATES", [*gates.GATES, f1])
    assert judge_gates(with_metric("f1", 0.5), None, POLICY).check("f1").status == "PASS"
    refused = judge_gates(with_metric("f1", 0.3), None, POLICY)
    assert (refused.outcome, refused.reasons[-1]) == ("fail", "f1 is 0.3, the limit is 0.4 (fail)")
    assert judge_gates(with_metric("f1", None), None, POLICY).outcome == "insufficient"
