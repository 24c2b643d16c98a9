"""The guard of a ramp: conditions, the sample ratio, and what counts as not known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.errors import GuardError
from monitoring.rollout.ramp_guard import (
    DEFAULT_GUARD,
    ArmFigures,
    GuardCondition,
    challenger_figures,
    check_sample_ratio,
    guard_verdict,
    judge_guard,
    parse_guard,
    reasons_of,
)
from monitoring.rollout.sample_ratio import sample_ratio


def arms(
    events: int = 1000,
    alerts: int = 10,
    failures: int = 0,
    units: int = 500,
    control: tuple[int, int, int] = (9000, 90, 4500),
) -> list[ArmFigures]:
    other, flagged, seen = control
    return [
        ArmFigures("challenger", True, 0.1, events, alerts, failures, units),
        ArmFigures("champion", False, 0.9, other, flagged, 0, seen),
    ]


def verdict(text: str, figures: Sequence[ArmFigures], p99_ms: float | None = 3.0) -> str:
    return guard_verdict(judge_guard(parse_guard(text), figures, p99_ms))


def test_a_guard_is_read_as_it_is_written() -> None:
    guard = parse_guard(" error_rate<0.01, alert_rate_ratio > 0.5 ,min_events=20")
    assert guard.conditions == (GuardCondition("error_rate", "<", 0.01), GuardCondition("alert_rate_ratio", ">", 0.5))
    assert guard.min_events == 20
    assert parse_guard("").conditions == ()
    assert len(parse_guard(DEFAULT_GUARD).conditions) == 4


@pytest.mark.parametrize(
    "text", ["nonsense", "error_rate", "error_rate=1", "recall<0.5", "error_rate<", "error_rate<nan", "p99_ms<-1"]
)
def test_a_part_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(GuardError, match=text):
        parse_guard(f"p99_ms<100,{text}")


def test_healthy_arms_hold() -> None:
    assert verdict(DEFAULT_GUARD, arms()) == "holds"


@pytest.mark.parametrize(
    ("figures", "p99_ms", "name"),
    [
        (arms(failures=30), 3.0, "error_rate"),
        (arms(alerts=40), 3.0, "alert_rate_ratio"),
        (arms(alerts=0, events=4000, control=(36000, 360, 4500)), 3.0, "alert_rate_ratio"),
        (arms(), 130.0, "p99_ms"),
        (arms(units=900), 3.0, "sample_ratio_p"),
    ],
)
def test_each_figure_can_break_it_alone_and_says_so(figures: list[ArmFigures], p99_ms: float, name: str) -> None:
    checks = judge_guard(parse_guard(DEFAULT_GUARD), figures, p99_ms)
    assert guard_verdict(checks) == "breached"
    assert [reason.partition(":")[0] for reason in reasons_of(checks, "FAIL")] == [name]


def test_a_figure_beyond_its_limit_by_chance_is_no_breach_yet() -> None:
    assert verdict("alert_rate_ratio<1.5", arms(alerts=16)) == "waits"
    assert verdict("error_rate<0.01", arms(failures=11)) == "waits"
    assert (
        verdict("alert_rate_ratio<1.5", arms(events=100_000, alerts=1700, control=(900_000, 9000, 4500))) == "breached"
    )


def test_few_events_do_not_hold_but_they_can_break() -> None:
    assert verdict("error_rate<0.01", arms(events=99, units=50, control=(900, 9, 450))) == "waits"
    assert verdict("error_rate<0.01", arms(events=20, failures=12, units=50, control=(900, 9, 450))) == "breached"
    assert verdict("error_rate<0.01,min_events=50", arms(events=99, units=50, control=(900, 9, 450))) == "holds"


def test_no_alert_at_all_is_a_breach_once_chance_cannot_explain_it() -> None:
    assert verdict("alert_rate_ratio>0.5", arms(alerts=0)) == "waits"
    assert verdict("alert_rate_ratio>0.5", arms(events=100_000, alerts=0)) == "breached"
    assert verdict("alert_rate_ratio<1.5", arms(alerts=500, control=(9000, 0, 4500))) == "breached"


def test_what_is_not_known_never_passes() -> None:
    assert verdict("p99_ms<100", arms(), None) == "waits"
    assert verdict("alert_rate_ratio<1.5", arms(control=(0, 0, 0))[:1]) == "waits"
    assert verdict("alert_rate_ratio<1.5", arms(alerts=1, control=(900, 0, 4500))) == "waits"
    assert [figure.value for figure in challenger_figures([]).values()] == [None, None, None]


def test_the_sample_ratio_has_the_published_digits() -> None:
    even = check_sample_ratio([ArmFigures("a", True, 0.5, units=49_500), ArmFigures("b", False, 0.5, units=50_500)])
    assert even.chi2 == pytest.approx(10.0)
    assert even.p == pytest.approx(0.00156540226, rel=1e-8)
    assert not even.mismatch
    canary = check_sample_ratio([ArmFigures("a", True, 0.05, units=5210), ArmFigures("b", False, 0.95, units=95_290)])
    assert canary.chi2 == pytest.approx(7.16941608, rel=1e-8)
    assert canary.p == pytest.approx(0.00741569091, rel=1e-8)


@given(st.integers(200, 10_000), st.integers(200, 10_000), st.floats(0.05, 0.95))
def test_two_arms_agree_with_the_formula_for_a_control_and_a_canary(control: int, canary: int, share: float) -> None:
    found = check_sample_ratio(
        [ArmFigures("a", True, share, units=canary), ArmFigures("b", False, 1.0 - share, units=control)]
    )
    known = sample_ratio(control, canary, share)
    assert found.chi2 == pytest.approx(known.chi2)
    assert found.p == pytest.approx(known.p, abs=1e-12)
    assert found.mismatch == known.mismatch


def test_a_unit_in_an_arm_without_a_share_is_a_mismatch() -> None:
    found = check_sample_ratio([ArmFigures("a", True, 1.0, units=10), ArmFigures("b", False, 0.0, units=1)])
    assert found.mismatch


def test_few_units_and_single_arms_tell_nothing() -> None:
    few = check_sample_ratio([ArmFigures("a", True, 0.05, units=9), ArmFigures("b", False, 0.95, units=81)])
    assert (few.p, few.mismatch) == (None, False)
    assert check_sample_ratio([ArmFigures("a", True, 1.0, units=10_000), ArmFigures("b", False, 0.0)]).p is None
    assert check_sample_ratio([]).p is None


def test_three_arms_have_two_degrees_of_freedom() -> None:
    shares = [("a", 0.5, 520), ("b", 0.25, 240), ("c", 0.25, 240)]
    found = check_sample_ratio([ArmFigures(name, False, share, units=n) for name, share, n in shares])
    assert found.chi2 == pytest.approx(1.6)
    assert found.p == pytest.approx(0.449328964)
