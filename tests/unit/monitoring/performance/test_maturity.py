"""The maturity ledger: how labels arrive, and what of each day is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.core.calendar import BusinessCalendar
from monitoring.performance.cost import Prices
from monitoring.performance.label_maturity import (
    arrival_curve,
    build_ledger,
    exponential_point,
    revised_events,
    sum_decision_costs,
)
from monitoring.policies import LabelPolicy
from monitoring.policies.label_rules import LabelRules
from tests.support.vectors import digits

START = datetime(2026, 1, 1, tzinfo=UTC)
CALENDAR = BusinessCalendar()


def policy(**changes: object) -> LabelPolicy:
    values: dict[str, object] = {
        "column": "y",
        "matures_after": timedelta(days=7),
        "sources": ("chargeback", "analyst"),
    }
    return LabelPolicy.model_validate(values | {"absent_after_maturity": "negative"} | changes)


def events(*ages: float, amount: float = 10.0) -> pd.DataFrame:
    """Events at so many days after the start."""
    at = pd.to_datetime([START + timedelta(days=age) for age in ages], utc=True).as_unit("us")
    names = [f"e{i}" for i in range(len(ages))]
    return pd.DataFrame({"event_id": names, "event_time": at, "amount": amount, "decision": False})


def known(frame: pd.DataFrame, *labels: tuple[int, int, float], conflict: bool = False) -> pd.DataFrame:
    """(event, y, delay in days)."""
    at = [frame["event_time"][i] + pd.Timedelta(days=delay) for i, _, delay in labels]
    data = {"event_id": [f"e{i}" for i, _, _ in labels], "y": [y for _, y, _ in labels]}
    return pd.DataFrame(
        data | {"observed_at": pd.to_datetime(at, utc=True), "source": "chargeback", "conflict": conflict}
    )


def statements(*said: tuple[str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(said, columns=["event_id", "y", "source"])


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def test_the_95_percent_point_of_exponential_delays_is_that_of_the_reference() -> None:
    digits(exponential_point(14.0), "41.9403")


def test_the_curve_of_observed_delays_finds_the_same_point() -> None:
    n = 20_000
    frame = events(*np.zeros(n))
    delays = stats.expon(scale=14.0).ppf((np.arange(n) + 0.5) / n)
    curve = arrival_curve(frame, known(frame, *[(i, 1, float(d)) for i, d in enumerate(delays)]), day(400), policy())
    assert curve.basis == "observed"
    assert curve.point_days == pytest.approx(41.9403, abs=0.02)
    assert curve.arrived_by(np.array([0.0, 14.0, 1000.0])) == pytest.approx([0.0, 1 - np.exp(-1), 1.0], abs=0.006)


def test_young_cohorts_do_not_make_the_curve_too_fast() -> None:
    ages = [*([0.0] * 100), *([95.0] * 100)]
    frame = events(*ages)
    old = [(i, 1, 20.0 if i % 2 else 1.0) for i in range(100)]
    young = [(i, 1, 1.0) for i in range(100, 200) if i % 2 == 0]  # the slow half has not come
    curve = arrival_curve(frame, known(frame, *old, *young), day(100), policy())
    assert (curve.events, curve.labels, curve.share) == (100, 100, 1.0)
    assert curve.point_days == pytest.approx(20.0)


def test_few_labels_take_the_exponential_of_their_mean() -> None:
    frame = events(*([0.0] * 40))
    curve = arrival_curve(frame, known(frame, (0, 1, 10.0), (1, 1, 18.0)), day(100), policy())
    assert (curve.basis, curve.mean_days, curve.share) == ("exponential", 14.0, 0.05)
    assert curve.point_days == pytest.approx(41.9403, abs=5e-5)


def test_without_a_complete_cohort_nothing_is_expected() -> None:
    frame = events(0.0)
    curve = arrival_curve(frame, known(frame, (0, 1, 1.0)), day(3), policy())
    assert (curve.basis, curve.point_days, curve.share) == ("none", None, None)
    (one,) = build_ledger(frame, known(frame, (0, 1, 1.0)), statements(), curve, day(3), LabelRules(policy(), CALENDAR))
    assert one.expected_share is None


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=200))
def test_the_curve_rises_from_nothing_to_everything(delays: list[float]) -> None:
    frame = events(*([0.0] * len(delays)))
    curve = arrival_curve(frame, known(frame, *[(i, 1, d) for i, d in enumerate(delays)]), day(900), policy())
    found = curve.arrived_by(np.linspace(-1.0, 60.0 + 15.0 * max(delays), 500))
    assert (np.diff(found) >= 0.0).all()
    assert found[0] == 0.0
    assert found[-1] == pytest.approx(1.0)


def test_each_day_tells_what_is_open() -> None:
    frame = events(0.1, 0.2, 0.3, 0.4, 12.5)
    old = events(*([-90.0] * 10))
    curve = arrival_curve(old, known(old, *[(i, 1, 2.0) for i in range(5)]), day(15), policy())
    labels = pd.concat([known(frame, (0, 1, 1.0), (1, 0, 9.0)), known(frame, (2, 1, 1.0), conflict=True)])
    unknown = policy(absent_after_maturity="unknown")
    first, second = build_ledger(frame, labels, statements(), curve, day(15), LabelRules(unknown, CALENDAR))
    assert (first.events, first.matured, first.labelled, first.positives) == (4, True, 2, 1)
    assert (first.immature, first.unknown, first.late) == (0, 1, 1)
    assert (first.conflicting, first.conflicting_amount) == (1, 10.0)
    assert first.observed_share == 0.75
    assert (second.matured, second.immature, second.unknown) == (False, 1, 0)
    negative = build_ledger(frame, labels, statements(), curve, day(15), LabelRules(policy(), CALENDAR))
    assert negative[0].unknown == 0


def test_only_a_stronger_source_revises() -> None:
    said = statements(
        ("turned", 0, "analyst"), ("turned", 1, "chargeback"), ("agreed", 1, "analyst"), ("agreed", 1, "chargeback"),
        ("both", 0, "chargeback"), ("both", 1, "chargeback"), ("both", 1, "analyst"), ("alone", 1, "analyst"),
    )  # fmt: skip
    assert revised_events(said, policy()) == {"turned"}


def test_provisional_and_final_costs_are_never_added_up() -> None:
    frame = events(0.1, 0.2, 0.3, 12.1, 12.2)
    frame["decision"] = [False, True, False, False, True]
    labels = known(frame, (0, 1, 1.0), (3, 1, 1.0))
    provisional, final = sum_decision_costs(frame, labels, Prices(100.0, 1.0), day(15), LabelRules(policy(), CALENDAR))
    assert (final.labelled, final.missed, final.false_alarms, final.cost) == (3, 1, 1, 101.0)
    # The flagged young event without a label is no false alarm yet.
    assert (provisional.labelled, provisional.missed, provisional.false_alarms, provisional.cost) == (1, 1, 0, 100.0)
