"""Answers that are made in simulated time are those that the service would have logged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bentos.model.calibration import Threshold
from bentos.registry.ports import ModelRef
from flows.steps.tracking.training_record import threshold_figures
from monitoring.core.calendar import BusinessCalendar
from monitoring.policies.label_rules import LabelRules
from monitoring.store import memory_store
from tests.support.builders import fraud, tiny_model
from tests.support.log.logged import at, days
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers, log_shadow

BY_AMOUNT = Threshold(2.0, 1.5, 3.0, 0.0, None, "amount", 5.0, "amount")


def test_each_event_is_logged_with_the_threshold_of_its_amount_by_champion_and_shadow() -> None:
    usecase, model = fraud(), replace(tiny_model(), threshold=BY_AMOUNT)
    amounts = [5.0, 45.0, 495.0]
    features = model.golden.features[:3].copy()
    features[:, model.plan.names.index("amount")] = amounts
    events = pd.DataFrame(
        {
            "transaction_id": ["a", "b", "c"], "tx_time": [pd.Timestamp(at(0.1))] * 3, "customer_id": ["c"] * 3,
            "terminal_id": ["t"] * 3, "amount": amounts,
        }
    )  # fmt: skip
    arrived, store = EventBatch(events, features, at(0.1)), memory_store()
    log_answers(store, usecase, LoadedVersion(ModelRef("dev-fraud", "1"), model), arrived)
    log_shadow(store, usecase, LoadedVersion(ModelRef("dev-fraud", "2"), tiny_model(threshold=0.3)), arrived)
    rows = store.log.paired(
        "fraud", ("dev-fraud/1", "dev-fraud/2"), days(0, 1), at(30), LabelRules(usecase.label, BusinessCalendar()),
    )  # fmt: skip
    store.close()
    assert rows["threshold_a"].tolist() == pytest.approx([0.7, 0.14, 0.014])
    assert rows["threshold_b"].tolist() == [0.3] * 3
    assert rows["flag_a"].tolist() == (rows["score_a"] >= rows["threshold_a"]).tolist()
    assert model.decide(np.array([0.1]), np.array([0.014])).tolist() == [True]


def test_a_cut_is_recorded_under_the_name_of_what_it_is() -> None:
    assert threshold_figures(BY_AMOUNT) == {"least_saving": 2.0, "least_saving_low": 1.5, "least_saving_high": 3.0}
    one = threshold_figures(Threshold(0.2, 0.1, 0.3))
    assert one == {"threshold": 0.2, "threshold_low": 0.1, "threshold_high": 0.3}
