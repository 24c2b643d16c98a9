"""Folds are cut by time; rows know nothing that came later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bentos.features.plan import FeaturePlan
from flows.errors import EvaluationError
from flows.sources.base import ABSENT
from flows.steps.data.folds import TrainingHistory, build_fold
from monitoring.core.calendar import TimeWindow
from monitoring.policies import CostModel
from tests.support.builders import fraud
from tests.support.folds import START, fold_of, noise

DAY = timedelta(days=1)


def history(days: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two payments a day of one card; every payment is labelled a day later, the last of each day as fraud."""
    times = pd.Series([START + timedelta(hours=12 * n) for n in range(2 * days)]).dt.as_unit("us")
    ids = [f"t{n}" for n in range(2 * days)]
    events = pd.DataFrame({"transaction_id": ids, "tx_time": times, "customer_id": "c1", "terminal_id": "m1"})
    events["amount"] = np.arange(2 * days, dtype=np.float64)
    labels = pd.DataFrame({"event_id": ids, "y": np.tile([0, 1], days).astype(np.int8), "observed_at": times + DAY})
    return events, labels.assign(source="chargeback")


def known(as_of: datetime, labels_from: pd.DataFrame | None = None) -> TrainingHistory:
    events, labels = history()
    labels = labels if labels_from is None else labels_from
    return TrainingHistory.at(fraud(), events, labels, labels, as_of)


def test_what_came_after_the_business_time_is_not_known():
    found = known(START + 3 * DAY)
    assert found.events["transaction_id"].tolist() == [f"t{n}" for n in range(6)]
    assert found.labels["event_id"].tolist() == [f"t{n}" for n in range(5)]


def test_a_row_that_only_says_that_no_label_came_is_no_revision():
    _, labels = history()
    found = known(START + 9 * DAY, labels.assign(source=[ABSENT, *["analyst"] * (len(labels) - 1)]))
    assert len(found.labels) == len(found.revisions) + 1


def test_a_fold_holds_the_labelled_rows_of_its_window_with_features_in_plan_order():
    plan = FeaturePlan.of(fraud())
    found = build_fold(fraud(), plan, known(START + 5 * DAY), TimeWindow(START + DAY, START + 4 * DAY))
    assert found.rows["event_id"].tolist() == [f"t{n}" for n in range(2, 8)]
    assert found.y.tolist() == [0, 1] * 3
    assert found.rows["day"].tolist() == [
        pd.Timestamp(START.replace(tzinfo=None) + d * DAY) for d in (1, 1, 2, 2, 3, 3)
    ]
    assert found.rows["entity"].tolist() == ["c1"] * 6
    assert found.features.dtype == np.float32
    assert found.features[:, plan.names.index("amount")].tolist() == [2, 3, 4, 5, 6, 7]
    assert found.features[:, plan.names.index("customer_count_30d")].tolist() == [3, 4, 5, 6, 7, 8]  # context counts


def test_rows_without_a_label_are_left_out():
    _, labels = history()
    found = build_fold(
        fraud(), FeaturePlan.of(fraud()), known(START + 9 * DAY, labels.iloc[4:]), TimeWindow(START, START + 9 * DAY)
    )
    assert found.rows["event_id"].iloc[0] == "t4"


def test_the_cost_of_a_miss_may_be_a_column():
    usecase = fraud().model_copy(update={"cost": CostModel(false_negative="amount", false_positive=2.0)})
    found = build_fold(usecase, FeaturePlan.of(usecase), known(START + 9 * DAY), TimeWindow(START, START + 2 * DAY))
    prices = found.prices(usecase)
    assert prices.of_rows([1, 0, 1, 0], [0, 0, 0, 1]).tolist() == [0.0, 0.0, 2.0, 2.0]
    assert fold_of(*noise(10)).prices(fraud()).missed == 100.0


def test_a_fold_is_halved_between_two_days():
    x, y = noise(80)
    first, second = fold_of(x, y, days=5).halves()
    assert (len(first), len(second)) == (48, 32)
    assert first.rows["event_time"].max() < second.rows["event_time"].min()
    assert (first.window.end, first.window.start) == (second.window.start, START)
    assert np.vstack([first.features, second.features]).tobytes() == x.tobytes()


def test_a_fold_of_one_day_cannot_be_halved():
    with pytest.raises(EvaluationError, match="two days or more"):
        fold_of(*noise(10), days=1).halves()


def test_windows_take_their_start_and_leave_their_end():
    found = fold_of(*noise(80), days=8).between("inner", TimeWindow(START + DAY, START + 2 * DAY))
    assert found.rows["event_time"].min() == datetime(2026, 1, 2, tzinfo=UTC)
    assert found.rows["event_time"].max() < datetime(2026, 1, 3, tzinfo=UTC)
