"""The figures of a month, counted by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from monitoring.performance.cost import Prices
from monitoring.reports.month import MonthFigures, month_figures

ROWS = pd.DataFrame(
    {
        "day": pd.to_datetime(["2026-03-01"] * 4 + ["2026-03-02"] * 4),
        "y": [1, 1, 0, 0, 1, 0, 0, 0],
        "decision": [True, False, True, False, True, True, True, False],
        "amount": [300.0, 100.0, 50.0, 1000.0, 600.0, 10.0, 20.0, 7920.0],
    }
)


def test_a_month_by_amount() -> None:
    found = month_figures(ROWS, Prices(ROWS["amount"].to_numpy(), 2.0), "amount")
    assert (found.days, found.events, found.alerts, found.positives, found.caught) == (2, 8, 5, 3, 2)
    assert (found.amount, found.fraud_amount, found.caught_amount) == (10_000.0, 1_000.0, 900.0)
    assert found.fraud_bp == pytest.approx(1000.0)
    assert found.value_detection_rate == pytest.approx(0.9)
    assert found.false_alarms_per_fraud == pytest.approx(1.5)
    assert found.cost == pytest.approx(100.0 + 3 * 2.0)
    assert found.recall.value == pytest.approx(2 / 3)


def test_a_month_without_amounts_counts_events() -> None:
    found = month_figures(ROWS.drop(columns="amount"), Prices(100.0, 1.0), None)
    assert (found.amount, found.fraud_amount) == (None, None)
    assert found.fraud_bp == pytest.approx(3750.0)
    assert found.value_detection_rate == pytest.approx(2 / 3)
    assert found.cost == pytest.approx(103.0)


def test_a_month_without_fraud_has_no_rate_of_it() -> None:
    honest = ROWS[ROWS["y"] == 0]
    found = month_figures(honest, Prices(100.0, 1.0), "amount")
    assert (found.fraud_bp, found.value_detection_rate, found.false_alarms_per_fraud) == (0.0, None, None)
    assert MonthFigures.from_json(found.to_json()) == found
