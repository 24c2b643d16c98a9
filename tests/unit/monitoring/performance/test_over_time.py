"""Figures by day and segment, concept drift, estimates beside the truth, change detectors, data quality."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.drift.data_quality import freshness, volume
from monitoring.performance.over_time import (
    check_estimates,
    concept_drift,
    day_names,
    estimate,
    estimate_days,
    measure_groups,
)
from monitoring.policies import CostModel
from monitoring.stats.change_detection import MAX_ROWS, detect_changes

COST = CostModel(false_negative=100.0, false_positive=1.0)
AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rows(days: int, seed: int, recall: float = 0.9, first: str = "2026-01-05", daily: int = 400) -> pd.DataFrame:
    """Matured rows of a calibrated model that catches a share of the positives."""
    rng = np.random.default_rng(seed)
    n = days * daily
    y = (rng.random(n) < 0.1).astype(np.int8)
    flag = np.where(y, rng.random(n) < recall, rng.random(n) < 0.02)
    score = np.clip(0.5 * flag + 0.4 * rng.random(n), 0, 1)
    day = pd.Timestamp(first) + pd.to_timedelta(np.arange(n) // daily, unit="D")
    return pd.DataFrame({"day": day, "y": y, "score": score, "decision": flag.astype(bool)})


def test_each_day_has_its_figures_with_intervals() -> None:
    table = rows(3, 1)
    found = measure_groups(table, day_names(table["day"]), "day", COST)
    assert [g.group for g in found] == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert sum(g.performance.rows for g in found) == len(table)
    for group in found:
        for name in ("recall", "precision", "average_precision", "cost", "calibration_ratio"):
            figure = group.performance.metrics[name]
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= (figure.value or 0.0) <= figure.high
    assert sum(g.performance.value("cost") or 0.0 for g in found) == pytest.approx(
        100.0 * (table["y"] & ~table["decision"]).sum() + ((1 - table["y"]) & table["decision"]).sum()
    )


def test_a_segment_that_is_empty_on_one_class_has_no_made_up_figure() -> None:
    table = rows(2, 2).assign(y=0)
    (only,) = measure_groups(table, pd.Series("all", index=table.index), "channel", COST)
    assert only.performance.value("recall") is None
    assert only.performance.value("average_precision") is None


def test_the_same_world_has_no_concept_drift_and_a_worse_one_has() -> None:
    reference = rows(28, 3)
    calm = concept_drift(reference, rows(7, 4, first="2026-02-02"), COST)
    assert calm is not None
    assert not calm.lost
    difference = calm.differences["recall"]
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < 0.0 < difference.high
    worse = concept_drift(reference, rows(7, 5, recall=0.6, first="2026-02-02"), COST)
    assert worse is not None
    assert worse.lost
    assert worse.differences["recall"].value == pytest.approx(-0.3, abs=0.06)
    assert (worse.differences["recall"].high or 0.0) < 0.0
    assert (worse.differences["cost_per_row"].low or 0.0) > 0.0
    assert (worse.differences["average_precision"].high or 0.0) < 0.0
    assert worse.reference_days == ("2026-01-05", "2026-02-01", 28)
    assert worse.current_days == ("2026-02-02", "2026-02-08", 7)


def test_the_interval_of_concept_drift_holds_no_difference_as_often_as_it_says() -> None:
    """Seven blocks are few, so a little less than 95 % is expected of a percentile interval."""
    missed = 0
    for seed in range(60):
        found = concept_drift(rows(28, seed), rows(7, 1000 + seed, first="2026-02-02"), COST, repetitions=300)
        assert found is not None
        low, high = found.differences["precision"].low, found.differences["precision"].high
        assert low is not None
        assert high is not None
        missed += not low <= 0.0 <= high
    assert missed <= 12


def test_few_days_give_no_difference() -> None:
    assert concept_drift(rows(28, 3), rows(6, 4), COST) is None
    assert concept_drift(rows(6, 3), rows(7, 4), COST) is None


def test_an_estimate_says_that_it_is_one_and_is_held_against_the_truth() -> None:
    rng = np.random.default_rng(8)
    p = rng.beta(1, 4, 4000)
    table = pd.DataFrame({"score": p, "decision": p > 0.4, "y": (rng.random(4000) < p).astype(np.int8)})
    table["day"] = pd.Timestamp("2026-02-01") + pd.to_timedelta(np.arange(4000) // 2000, unit="D")
    found = estimate(table, table["day"], prior=0.2)
    assert found is not None
    assert (found.kind, found.rows, found.prior) == ("estimate", 4000, 0.2)
    assert [d.kind for d in found.days] == ["estimate", "estimate"]
    daily = measure_groups(table, day_names(table["day"]), "day", COST)
    stored = {"2026-02-01": found.days[0]}
    checked = check_estimates(daily, stored, estimate_days(table, table["day"]))
    assert [(c.day, c.stored) for c in checked] == [("2026-02-01", True), ("2026-02-02", False)]
    for one in checked:
        assert one.true_recall.low is not None
        assert one.true_recall.low <= (one.recall or 0.0) <= (one.true_recall.high or 1.0)
    assert estimate(table.head(0), table["day"].head(0)) is None


@pytest.mark.parametrize(("after", "changes"), [(0.05, False), (0.6, True)])
def test_detectors_find_a_change_of_the_error_rate_and_no_other(after: float, changes: bool) -> None:
    rng = np.random.default_rng(2)
    errors = np.concatenate([rng.random(3000) < 0.05, rng.random(3000) < after])
    times = [AS_OF + timedelta(minutes=n) for n in range(len(errors))]
    found = {d.detector: d for d in detect_changes(errors, times)}
    assert set(found) == {"page_hinkley", "ddm", "adwin"}
    assert all(d.values == 6000 for d in found.values())
    for name in ("page_hinkley", "adwin"):
        assert (found[name].changes > 0) == changes
        latest = found[name].latest
        assert latest is None or latest >= times[3000]
    if changes:
        assert found["ddm"].changes > 0


def test_detectors_look_at_a_bounded_number_of_rows() -> None:
    found = detect_changes(np.zeros(MAX_ROWS + 10), [AS_OF] * (MAX_ROWS + 10))
    assert {d.values for d in found} == {MAX_ROWS}
    assert [d.changes for d in detect_changes([], [])] == [0, 0, 0]


def test_silence_is_unknown_and_not_fine() -> None:
    hour = timedelta(hours=1)
    assert freshness(AS_OF - timedelta(minutes=59), AS_OF, hour).status == "fresh"
    quiet = freshness(AS_OF - timedelta(minutes=61), AS_OF, hour)
    assert (quiet.status, quiet.age_s) == ("unknown", 3660.0)
    assert freshness(None, AS_OF, hour).status == "unknown"


@pytest.mark.parametrize(
    ("count", "before", "status"),
    [
        (100, [90, 110, 0, 100], "usual"),
        (40, [100, 100], "low"),
        (250, [100], "high"),
        (9, [0, 0], "unknown"),
        (0, [50], "low"),
    ],
)
def test_a_day_is_held_against_the_same_weekday(count: int, before: list[int], status: str) -> None:
    assert volume("2026-02-28", count, before).status == status
