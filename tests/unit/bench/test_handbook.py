"""The published protocol removes exactly the cards whose compromise was known by then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from flows.steps.data.folds import Fold
from monitoring.core.calendar import TimeWindow
from tests.bench.quality import handbook
from tests.support.builders import fraud

START = datetime(2018, 7, 25, tzinfo=UTC)
DAY = timedelta(days=1)


def rows(*payments: tuple[int, str, int]) -> pd.DataFrame:
    """(day since START, card, fraud or not) as the rows of a fold."""
    days = pd.Series([pd.Timestamp(START.replace(tzinfo=None)) + day * DAY for day, _, _ in payments])
    return pd.DataFrame({"day": days, "entity": [c for _, c, _ in payments], "y": [y for _, _, y in payments]})


def removed(train: pd.DataFrame, between: pd.DataFrame, test: pd.DataFrame) -> list[bool]:
    found: list[bool] = handbook.known_compromised(train, between, test).tolist()
    return found


def test_a_card_with_a_fraud_in_the_training_week_never_enters_the_test():
    test = rows((14, "a", 0), (20, "a", 1), (14, "b", 1))
    assert removed(rows((0, "a", 1), (6, "b", 0)), rows((7, "b", 0)), test) == [True, True, False]


def test_a_fraud_of_the_waiting_week_is_known_eight_days_later():
    # Test day k drops the frauds of days 7 .. 7 + k - 1: that of day 9 is known from day 17 on.
    test = rows(*((day, "a", 0) for day in range(14, 21)))
    assert removed(rows((0, "b", 0)), rows((9, "a", 1)), test) == [False, False, False, True, True, True, True]


def test_the_last_waiting_day_is_never_known_in_the_test_week():
    test = rows(*((day, "a", 0) for day in range(14, 21)))
    assert not any(removed(rows((0, "b", 0)), rows((13, "a", 1)), test))


def test_the_earliest_of_several_frauds_counts():
    test = rows(*((day, "a", 0) for day in range(14, 21)))
    assert removed(rows((0, "b", 0)), rows((11, "a", 1), (7, "a", 1)), test) == [False, *[True] * 6]


def test_a_week_is_trained_and_tested_two_weeks_apart():
    plan = FeaturePlan.of(fraud())
    rng = np.random.default_rng(3)
    count = 6_000
    times = pd.Series(pd.to_datetime(START) + pd.to_timedelta(np.sort(rng.random(count)) * 21, unit="D"))
    times = times.dt.as_unit("us")
    features = rng.normal(size=(count, len(plan.names))).astype(np.float32)
    y = (features[:, 0] > 2).astype(np.int8)
    day, card = times.dt.tz_localize(None).dt.normalize(), rng.integers(0, 4_000, count)
    frame = pd.DataFrame({"event_time": times, "day": day, "y": y, "entity": card})
    every = Fold("all", TimeWindow(START, START + 21 * DAY), features, frame)
    settings = handbook.TUNED.model_copy(update={"trees": 10})
    found = handbook.run_week(every, plan, START, settings)
    assert found.auc_roc > 0.99
    assert found.average_precision > 0.95
    assert 0 < found.card_precision_at_100 < 1
    assert found == handbook.run_week(every, plan, START, settings)
