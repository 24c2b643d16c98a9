"""What an offer to the flagged customers earns, and the gate on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.measured import Measurement
from monitoring.core.verdict import Evidence, above_limit
from monitoring.performance.gates import judge_gates
from monitoring.performance.profit import measure_profit, offer_of
from monitoring.policies import GatePolicy, ProfitPolicy
from tests.unit.monitoring.performance.test_gates import GOOD

CAMPAIGN = ProfitPolicy(offer_cost=10.0, saved_value=100.0, acceptance_rate=0.3, contact_cost=1.0)
LABELS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def policy(**changes: Any) -> ProfitPolicy:
    return CAMPAIGN.model_copy(update=changes)


def judged(metrics: dict[str, Measurement], **changes: Any) -> Any:
    evidence: Evidence = replace(GOOD, metrics={**GOOD.metrics, **metrics})
    return judge_gates(evidence, None, GatePolicy(profit=policy(**changes)))


def test_a_vector_worked_out_by_hand() -> None:
    # A caught churner earns .3 x (100 - 10) - 1 = 26, a stayer who gets the offer loses 10 + 1 = 11.
    y, flagged = [1, 1, 0, 0, 1], [1, 0, 1, 0, 1]
    assert offer_of(CAMPAIGN).of_rows(y, flagged).tolist() == [26.0, 0.0, -11.0, 0.0, 26.0]
    found = measure_profit(y, flagged, offer_of(CAMPAIGN))
    assert found["profit"].value == 41.0
    assert found["profit_per_customer"].value == pytest.approx(8.2)
    # An offer to everybody earns 3 x 26 - 2 x 11 = 56.
    assert found["profit_above_everybody"].value == pytest.approx((41 - 56) / 5)


def test_the_published_form_of_the_profit_gives_the_same_figure() -> None:
    # Verbraken and others 2013: CLV (g (1 - delta) - phi) pi0 F0 - CLV (delta + phi) pi1 F1, a customer.
    rng = np.random.default_rng(3)
    y, flagged = rng.random(400) < 0.3, rng.random(400) < 0.5
    clv, delta, phi, g = 100.0, 0.1, 0.01, 0.3
    caught, wasted = (y & flagged).mean(), (~y & flagged).mean()
    published = clv * (g * (1 - delta) - phi) * caught - clv * (delta + phi) * wasted
    found = measure_profit(y, flagged, offer_of(CAMPAIGN))
    assert found["profit_per_customer"].value == pytest.approx(published)


def test_the_value_of_a_customer_may_be_a_column_and_a_missing_one_is_worth_nothing() -> None:
    monthly = policy(saved_value="monthly", saved_times=6.0)
    found = offer_of(monthly, np.array([50.0, np.nan, -5.0])).of_rows([1, 1, 1], [1, 1, 1])
    assert found.tolist() == pytest.approx([0.3 * 290 - 1, -4.0, -4.0])
    with pytest.raises(ValueError, match="column 'monthly'"):
        offer_of(monthly)


@given(LABELS)
def test_no_offers_earn_nothing(rows: list[tuple[bool, bool]]) -> None:
    y = [truth for truth, _ in rows]
    found = measure_profit(y, [False] * len(y), offer_of(CAMPAIGN))
    assert found["profit"] == found["profit_per_customer"] == Measurement(0.0, 0.0, 0.0)


@given(LABELS)
def test_an_offer_to_everybody_is_nothing_above_itself(rows: list[tuple[bool, bool]]) -> None:
    y = [truth for truth, _ in rows]
    found = measure_profit(y, [True] * len(y), offer_of(CAMPAIGN))
    assert found["profit_above_everybody"] == Measurement(0.0, 0.0, 0.0)


@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows: list[tuple[bool, bool]], random: Any) -> None:
    mixed = rows.copy()
    random.shuffle(mixed)
    first, second = (measure_profit(*zip(*part, strict=True), offer_of(CAMPAIGN)) for part in (rows, mixed))
    for name, figure in first.items():
        other = second[name]
        assert (figure.value, figure.low, figure.high) == pytest.approx((other.value, other.low, other.high))


@given(LABELS)
def test_catching_one_more_churner_never_earns_less(rows: list[tuple[bool, bool]]) -> None:
    y, flagged = np.array(rows, dtype=bool).T
    before = offer_of(CAMPAIGN).of_rows(y, flagged).sum()
    assert offer_of(CAMPAIGN).of_rows(y, flagged | y).sum() >= before


def test_no_rows_give_no_figure() -> None:
    assert not any(figure.known for figure in measure_profit([], [], offer_of(CAMPAIGN)).values())


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.1, 4.0, "PASS"), (0.0, 4.0, "INSUFFICIENT"), (-3.0, -0.1, "FAIL"), (-1.0, 0.0, "FAIL")],
)
def test_the_gate_looks_at_the_bounds_and_not_at_the_figure(low: float, high: float, status: str) -> None:
    check = above_limit("profit_per_customer", Measurement((low + high) / 2, low, high), 0.0)
    assert (check.status, check.margin) == (status, low)


def test_a_figure_without_an_interval_never_passes() -> None:
    assert above_limit("profit_per_customer", Measurement(5.0), 0.0).status == "INSUFFICIENT"


def test_a_declared_offer_adds_its_gates_beside_the_others() -> None:
    earning = {"profit_per_customer": Measurement(8.0, 6.0, 9.0), "profit_above_everybody": Measurement(3.0, 1.0, 5.0)}
    verdict = judged(earning)
    assert verdict.outcome == "pass"
    assert [c.name for c in verdict.checks][-2:] == ["profit_per_customer", "profit_above_everybody"]
    assert judged(earning, min_per_customer=7.0).outcome == "insufficient"
    assert judged(earning, min_above_everybody=6.0).outcome == "fail"
    names = [c.name for c in judged(earning, min_above_everybody=None).checks]
    assert "profit_above_everybody" not in names


def test_an_offer_whose_profit_was_not_measured_holds_the_model_back() -> None:
    assert judged({}).outcome == "insufficient"


def test_without_a_declared_offer_there_is_no_such_gate() -> None:
    assert not any("profit" in check.name for check in judge_gates(GOOD, None, GatePolicy()).checks)


def test_the_area_under_the_curve_is_a_gate_where_it_is_declared() -> None:
    known = replace(GOOD, metrics={**GOOD.metrics, "auc_roc": Measurement(0.85, 0.83, 0.87)})
    assert judge_gates(known, None, GatePolicy(min_auc_roc=0.8)).check("auc_roc").status == "PASS"
    assert judge_gates(known, None, GatePolicy(min_auc_roc=0.9)).outcome == "fail"
    assert judge_gates(GOOD, None, GatePolicy(min_auc_roc=0.8)).outcome == "insufficient"
