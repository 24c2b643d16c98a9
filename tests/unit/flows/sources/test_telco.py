"""The simulated world of telephone customers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bentos.usecase.definition import Shift, SimulatorOptions
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.sources.labels import as_table
from flows.sources.worlds.telco_customers import COLUMNS, simulate_customers

CHURN = load_usecase("churn")
SMALL = SimulatorOptions(world="telco", customers_a_day=60, days=12, seed=3)
WHOLE = simulate_customers(SMALL)
BOUND_FIBRE = (WHOLE["InternetService"] == "Fiber optic") & (WHOLE["Contract"] != "Month-to-month")


def shifted(kind: str, factor: float, day: int = 6) -> pd.DataFrame:
    return simulate_customers(SMALL.model_copy(update={"shifts": (Shift(day=day, kind=kind, factor=factor),)}))  # type: ignore[arg-type]  # a kind of shift


@settings(max_examples=20, deadline=None)
@given(st.integers(-3, 13), st.integers(0, 8))
def test_any_range_of_days_equals_that_part_of_the_whole_world(start: int, length: int) -> None:
    days = (WHOLE["event_time"] - pd.Timestamp(SMALL.start, tz="UTC")).dt.days
    expected = WHOLE[(days >= start) & (days < start + length)].reset_index(drop=True)
    pd.testing.assert_frame_equal(simulate_customers(SMALL, start, start + length), expected)


def test_the_seed_decides_the_world() -> None:
    pd.testing.assert_frame_equal(simulate_customers(SMALL), WHOLE)
    assert not simulate_customers(SMALL.model_copy(update={"seed": 4}))["leaves"].equals(WHOLE["leaves"])


def test_customers_come_in_order_of_time_with_ids_of_their_own() -> None:
    assert WHOLE["event_time"].is_monotonic_increasing
    assert WHOLE["event_id"].is_unique
    assert len(WHOLE) == 12 * 60


def test_a_day_is_shaped_like_the_telco_table() -> None:
    month = simulate_customers(SMALL.model_copy(update={"days": 60, "customers_a_day": 240}))
    assert 0.23 < month["leaves"].mean() < 0.29
    assert 60 < month["MonthlyCharges"].mean() < 70
    assert month["tenure"].between(0, 72).all()
    assert (month["TotalCharges"].isna() == (month["tenure"] == 0)).all()
    leaving = month.groupby("Contract")["leaves"].mean()
    assert leaving["Month-to-month"] > 3 * leaving["One year"] > 3 * leaving["Two year"]


def test_nobody_without_internet_or_telephone_has_what_needs_it() -> None:
    offline = WHOLE[WHOLE["InternetService"] == "No"]
    assert set(offline["TechSupport"]) == {"No internet service"}
    assert set(WHOLE[WHOLE["PhoneService"] == "No"]["MultipleLines"]) == {"No phone service"}


def test_a_price_rise_scales_this_months_charge_from_its_day_on_and_no_earlier_one() -> None:
    dearer = shifted("price_rise", 1.2)
    before, after = slice(0, 6 * 60), slice(6 * 60, None)
    pd.testing.assert_frame_equal(dearer[before], WHOLE[before])
    ratio = dearer["MonthlyCharges"][after] / WHOLE["MonthlyCharges"][after]
    np.testing.assert_allclose(ratio, 1.2, atol=0.001)
    pd.testing.assert_series_equal(dearer["TotalCharges"], WHOLE["TotalCharges"])
    assert dearer["leaves"][after].sum() > WHOLE["leaves"][after].sum()


def test_a_rival_takes_fibre_customers_on_long_contracts_and_nobody_else() -> None:
    rival = shifted("rival_offer", 1.0, day=0)
    assert rival["leaves"][BOUND_FIBRE].mean() > WHOLE["leaves"][BOUND_FIBRE].mean() + 0.3
    pd.testing.assert_series_equal(rival["leaves"][~BOUND_FIBRE], WHOLE["leaves"][~BOUND_FIBRE])
    assert (rival["tempted"] == BOUND_FIBRE).all()
    assert not WHOLE["tempted"].any()


def test_a_shift_of_another_world_is_refused() -> None:
    with pytest.raises(ValidationError, match="'telco' has no shift 'fraud_rate'; it has price_rise, rival_offer"):
        SimulatorOptions(world="telco", shifts=(Shift(day=1, kind="fraud_rate"),))
    with pytest.raises(ValidationError, match="'cards' has no shift 'price_rise'"):
        SimulatorOptions(shifts=(Shift(day=1, kind="price_rise"),))


def test_the_churn_case_reads_the_world_without_a_refused_row_and_labels_mature() -> None:
    source = open_source(CHURN, "simulator", days=5, customers_a_day=50)
    read = source.read(source.extent())
    assert (len(read.events), len(read.quarantine), len(read.revisions)) == (250, 0, 250)
    waited = read.revisions["observed_at"] - read.events["event_time"]
    assert (waited == timedelta(days=30)).all()
    assert not {"leaves", "tempted"} & set(read.events)


def test_a_file_with_times_keeps_them_though_the_use_case_asks_for_none(tmp_path: Path) -> None:
    world = simulate_customers(SMALL).drop(columns=["event_id", "tempted"])
    world.assign(Churn=np.where(world["leaves"] == 1, "Yes", "No")).to_csv(tmp_path / "t.csv", index=False)
    source = open_source(CHURN, "csv", path=str(tmp_path / "t.csv"))
    read = source.read(source.extent())
    assert read.events["event_time"].tolist() == world["event_time"].tolist()
    assert (read.revisions["observed_at"] - read.events["event_time"] == timedelta(days=30)).all()


def test_every_column_of_the_table_is_made() -> None:
    wanted = {c.external_name for c in CHURN.columns} - {CHURN.event_time}
    assert wanted == set(COLUMNS)
    assert wanted <= set(WHOLE.columns)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_simulated_table_that_was_written_reads_back_the_same(tmp_path: Path, ending: str) -> None:
    source = open_source(CHURN, "simulator", days=4, customers_a_day=50)
    made = source.read(source.extent())
    table, file = as_table(made, CHURN), tmp_path / f"customers.{ending}"
    table.to_csv(file, index=False) if ending == "csv" else table.to_parquet(file, index=False)
    again = open_source(CHURN, ending, path=str(file))
    read = again.read(again.extent())
    assert set(made.revisions["y"]) == {0, 1}
    pd.testing.assert_frame_equal(read.revisions, made.revisions)
    assert read.events["event_time"].tolist() == made.events["event_time"].tolist()
