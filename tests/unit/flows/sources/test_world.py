from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.usecase.definition import Shift, SimulatorOptions
from flows.sources.worlds import card_transactions as w
from flows.sources.worlds.card_transactions import make_world, simulate

SMALL = SimulatorOptions(customers=120, terminals=240, days=40, seed=3)
WORLD = make_world(SMALL)
WHOLE = simulate(WORLD)


def days_of(frame: pd.DataFrame, options: SimulatorOptions) -> pd.Series:
    start = pd.Timestamp(options.start, tz="UTC")
    return (frame["event_time"] - start).dt.days


def shifted(*shifts: Shift) -> pd.DataFrame:
    return simulate(make_world(SMALL.model_copy(update={"shifts": shifts})))


@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 41), st.integers(0, 12))
def test_any_range_of_days_equals_that_part_of_the_whole_world(start: int, length: int) -> None:
    part = simulate(make_world(SMALL), start, start + length)
    days = days_of(WHOLE, SMALL)
    expected = WHOLE[(days >= start) & (days < start + length)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected)


def test_a_shorter_world_is_the_beginning_of_a_longer_one() -> None:
    short = simulate(make_world(SMALL.model_copy(update={"days": 10})))
    pd.testing.assert_frame_equal(short, WHOLE.iloc[: len(short)])


def test_the_seed_decides_the_world() -> None:
    again = simulate(make_world(SMALL))
    other = simulate(make_world(SMALL.model_copy(update={"seed": 4})))
    pd.testing.assert_frame_equal(again, WHOLE)
    assert not other["amount"].equals(WHOLE["amount"])


def test_events_are_in_order_of_time_with_unique_ids_and_whole_cents() -> None:
    assert WHOLE["event_time"].is_monotonic_increasing
    assert WHOLE["event_id"].is_unique
    assert str(WHOLE["event_time"].dtype) == "datetime64[us, UTC]"
    assert (WHOLE["amount"] >= 0).all()
    np.testing.assert_array_equal(WHOLE["amount"], WHOLE["amount"].round(2))


@pytest.fixture(scope="module")
def original() -> pd.DataFrame:
    """A month of a world of the handbook's size."""
    return simulate(make_world(SimulatorOptions(customers=5_000, terminals=10_000, days=30, seed=0)))


def test_the_world_has_the_numbers_of_the_published_one(original: pd.DataFrame) -> None:
    # Published data: 9,587 transactions a day, amounts 53.6 +/- 42.1, 17.4 % before seven o'clock;
    # frauds .88 % once compromises have run for 28 days (.84 % with the first weeks, which begin without).
    assert len(original) / 30 == pytest.approx(9_587, rel=0.03)
    assert original["amount"].mean() == pytest.approx(53.6, abs=2.0)
    assert original["amount"].std() == pytest.approx(42.1, abs=2.0)
    assert (original["event_time"].dt.hour <= 6).mean() == pytest.approx(0.174, abs=0.004)
    assert original["fraud"].mean() == pytest.approx(0.0088, abs=0.0008)
    shares = original["scenario"].value_counts(normalize=True)
    assert shares[1] == pytest.approx(0.00056, abs=0.0002)
    assert shares[2] == pytest.approx(0.0053, abs=0.0006)
    assert shares[3] == pytest.approx(0.0028, abs=0.0004)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_smaller_world_keeps_the_share_of_frauds(seed: int) -> None:
    frame = simulate(make_world(SimulatorOptions(seed=seed)))
    assert 0.0075 < frame["fraud"].mean() < 0.0105


def test_large_amounts_are_frauds_and_genuine_ones_are_not(original: pd.DataFrame) -> None:
    assert original.loc[original["amount"] > w.LARGE_AMOUNT, "fraud"].all()
    assert (original.loc[original["scenario"] == 1, "amount"] > w.LARGE_AMOUNT).all()


def test_two_terminals_and_three_customers_a_day_are_compromised_in_a_world_of_the_original_size() -> None:
    options = SimulatorOptions(customers=5_000, terminals=10_000)
    for day in (-20, 0, 1, 77):
        assert len(w._newly_compromised(options, "terminals", day)) == 2
        assert len(w._newly_compromised(options, "customers", day)) == 3


def test_compromises_of_a_small_world_are_spread_evenly() -> None:
    options = SimulatorOptions(customers=1_000, terminals=2_000)
    counts = [len(w._newly_compromised(options, "terminals", day)) for day in range(50)]
    assert max(counts) == 1
    assert sum(counts) == 20


def test_a_compromised_terminal_has_only_frauds_for_28_days(original: pd.DataFrame) -> None:
    options = SimulatorOptions(customers=5_000, terminals=10_000, days=30, seed=0)
    bad = f"m-{w._newly_compromised(options, 'terminals', 0)[0]:04d}"
    there = original[original["terminal_id"] == bad]
    first_weeks = days_of(there, options) < 28
    assert first_weeks.sum() > 5
    assert there.loc[first_weeks, "fraud"].all()


def test_a_customer_without_a_terminal_in_reach_uses_the_nearest() -> None:
    world = make_world(SMALL.model_copy(update={"radius": 1e-6}))
    assert (np.diff(world.first) == 1).all()
    frame = simulate(world, 0, 5)
    assert (frame.groupby("customer_id")["terminal_id"].nunique() == 1).all()


@pytest.mark.parametrize("kind", ["amount_scale", "fraud_scenario", "fraud_rate"])
def test_a_shift_changes_nothing_before_its_day(kind: str) -> None:
    changed = shifted(Shift(day=20, kind=kind, factor=3.0))
    before = days_of(changed, SMALL) < 20
    pd.testing.assert_frame_equal(changed[before], WHOLE[days_of(WHOLE, SMALL) < 20])
    assert not changed[~before].reset_index(drop=True).equals(WHOLE[days_of(WHOLE, SMALL) >= 20].reset_index(drop=True))


def test_scaled_amounts_leave_the_frauds_where_they_are() -> None:
    changed = shifted(Shift(day=20, kind="amount_scale", factor=1.5))
    after = days_of(WHOLE, SMALL) >= 20
    np.testing.assert_array_equal(changed["scenario"], WHOLE["scenario"])
    np.testing.assert_allclose(changed.loc[after, "amount"], WHOLE.loc[after, "amount"] * 1.5, atol=0.0051)


def test_two_shifts_of_one_kind_multiply() -> None:
    two = shifted(Shift(day=5, kind="amount_scale", factor=2.0), Shift(day=9, kind="amount_scale", factor=3.0))
    late = days_of(WHOLE, SMALL) >= 9
    np.testing.assert_allclose(two.loc[late, "amount"], WHOLE.loc[late, "amount"] * 6, atol=0.0051)


def test_a_higher_fraud_rate_compromises_more() -> None:
    options = SMALL.model_copy(update={"shifts": (Shift(day=10, kind="fraud_rate", factor=5.0),)})
    calm, busy = SMALL, options
    for kind in ("terminals", "customers"):
        usual = sum(len(w._newly_compromised(calm, kind, d)) for d in range(10, 40))
        more = sum(len(w._newly_compromised(busy, kind, d)) for d in range(10, 40))
        assert more == pytest.approx(5 * usual, abs=5)


def test_the_new_scenario_is_bursts_of_small_amounts_at_night() -> None:
    changed = shifted(Shift(day=20, kind="fraud_scenario", factor=1.5))
    burst = changed[changed["scenario"] == 4]
    by_card = burst.groupby([days_of(burst, SMALL), "customer_id"])
    assert len(by_card) == 30  # 1.5 cards a day for 20 days
    assert by_card.size().between(8, 16).all()
    assert (by_card["event_time"].max() - by_card["event_time"].min() < pd.Timedelta(hours=1)).all()
    assert burst["amount"].between(0.5, 5.0).all()
    assert (burst["event_time"].dt.hour < 7).all()
    assert (by_card["terminal_id"].nunique() > 5).all()
    assert (days_of(burst, SMALL) >= 20).all()


def test_days_outside_the_world_are_empty() -> None:
    assert simulate(WORLD, 40, 50).empty
    assert str(simulate(WORLD, 40, 50)["event_time"].dtype) == "datetime64[us, UTC]"
