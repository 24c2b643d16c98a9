"""Alerts a day against money: the same as counting by hand, whatever the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.performance.capacity import CapacityCurve, capacity_curve
from monitoring.performance.cost import Prices, merit_of


def rows(seed: int, days: int, size: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, size + 1, days)
    day = np.repeat(pd.date_range("2026-03-01", periods=days), sizes)
    n = len(day)
    frame = pd.DataFrame({"day": day, "y": (rng.random(n) < 0.2).astype(np.int8), "amount": rng.integers(1, 90, n)})
    return frame.assign(score_a=np.round(rng.random(n), 1), score_b=np.round(rng.random(n), 1))


def by_hand(frame: pd.DataFrame, side: str, alerts: int) -> tuple[list[float], float]:
    """Cost of each day and caught positives, flagging the first ``alerts`` by score and then by time."""
    costs, caught = [], 0
    for _, day in frame.groupby("day"):
        order = day[f"score_{side}"].sort_values(ascending=False, kind="stable").index[:alerts]
        flagged = day.index.isin(order)
        missed = day["amount"][(day["y"] == 1) & ~flagged].sum()
        costs.append(float(missed + 2.0 * ((day["y"] == 0) & flagged).sum()))
        caught += int(((day["y"] == 1) & flagged).sum())
    return costs, caught


@given(seed=st.integers(0, 10_000), days=st.integers(2, 5), now=st.sampled_from([None, 1, 4]))
def test_every_point_is_what_counting_gives(seed: int, days: int, now: int | None) -> None:
    frame = rows(seed, days, 30)
    curve = capacity_curve(frame, Prices(frame["amount"].to_numpy(dtype=float), 2.0), now)
    assert curve.days == days
    assert now is None or now in [point.alerts for point in curve.points]
    for point in curve.points:
        (cost_a, caught_a), (cost_b, _) = (by_hand(frame, side, point.alerts) for side in "ab")
        assert point.cost_a.value == pytest.approx(np.mean(cost_a))
        assert point.saving.value == pytest.approx(np.mean(cost_a) - np.mean(cost_b))
        if (total := frame["y"].sum()) > 0:
            assert point.recall_a == pytest.approx(caught_a / total)
        else:
            assert point.recall_a is None


def test_rows_that_stand_for_others_count_as_many() -> None:
    frame = rows(1, 3, 20)
    twice = capacity_curve(frame.assign(weight=2.0), Prices(10.0, 1.0), 2)
    once = capacity_curve(frame, Prices(10.0, 1.0), 2)
    for a, b in zip(twice.points, once.points, strict=True):
        assert a.cost_b.value == pytest.approx(2.0 * (b.cost_b.value or 0.0))
        assert a.recall_b == b.recall_b


def test_a_curve_without_a_day_has_no_point_and_survives_its_json() -> None:
    empty = capacity_curve(rows(1, 2, 5).head(0), Prices(10.0, 1.0), 5)
    assert (empty.days, empty.points) == (0, ())
    full = capacity_curve(rows(3, 4, 25), Prices(10.0, 1.0), 5)
    assert CapacityCurve.from_json(full.to_json()) == full


def test_a_version_whose_threshold_goes_by_the_amount_is_ranked_by_what_an_alert_saves() -> None:
    rng = np.random.default_rng(5)
    n = 4000
    p, amount = rng.beta(1, 9, n), rng.lognormal(3, 1.5, n)
    frame = pd.DataFrame({"day": pd.Timestamp("2026-03-01"), "y": (rng.random(n) < p).astype(np.int8)})
    frame = frame.assign(day=pd.to_datetime("2026-03-01") + pd.to_timedelta(np.arange(n) % 20, unit="D"))
    frame = frame.assign(score_a=p, score_b=p, threshold_a=0.2, threshold_b=2.0 / (2.0 + amount))
    curve = capacity_curve(frame, Prices(amount, 2.0), 10)
    (point,) = [one for one in curve.points if one.alerts == 10]
    assert point.saving.value is not None
    assert point.saving.value > 0.0
    assert merit_of(frame, "a", Prices(amount, 2.0)) is None
    assert merit_of(frame, "b", Prices(100.0, 2.0)) is None
