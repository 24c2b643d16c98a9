"""Groups are compared by whole intervals, and too little evidence is never fair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.performance.fairness import (
    MISSING,
    OTHER,
    FairnessReport,
    GroupComparison,
    assess_fairness,
    group_names,
)
from monitoring.policies import FairnessPolicy


def rows_of(**groups: tuple[int, int, int, int]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Frame, labels and decisions of groups given as (caught, missed, false alarms, quiet)."""
    names, y, flags = [], [], []
    for name, (caught, missed, alarms, quiet) in groups.items():
        names += [name] * (caught + missed + alarms + quiet)
        y += [1] * (caught + missed) + [0] * (alarms + quiet)
        flags += [1] * caught + [0] * missed + [1] * alarms + [0] * quiet
    return pd.DataFrame({"region": names}), np.array(y), np.array(flags)


def one(report: FairnessReport, measure: str, group: str = "a") -> GroupComparison:
    return next(c for c in report.comparisons if c.measure == measure and c.group == group)


def test_the_published_figures_of_parity_opportunity_and_impact_are_reproduced() -> None:
    # a: 120 of 1,000 flagged, 40 of 60 caught; b, made the larger: 180 of 1,000 and 70 of 90.
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(40, 20, 80, 860))
    policy = FairnessPolicy(sensitive=("region",), reference={"region": "b"})

    report = assess_fairness(frame, y, flags, policy)

    parity, opportunity, impact = (one(report, m).difference for m in ("parity", "opportunity", "impact"))
    assert (parity.value, parity.low, parity.high) == pytest.approx((-0.06, -0.0912382745, -0.0287510426), abs=1e-10)
    assert (opportunity.value, opportunity.low, opportunity.high) == pytest.approx(
        (-0.111111111, -0.257070899, 0.0320980580), abs=1e-9
    )
    assert (impact.value, impact.low, impact.high) == pytest.approx((0.666666667, 0.538389988, 0.825506519), abs=1e-9)


def test_an_interval_inside_passes_beyond_fails_and_across_is_insufficient() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(40, 20, 80, 860))
    reference = {"region": "b"}

    wide = assess_fairness(
        frame, y, flags, FairnessPolicy(sensitive=("region",), reference=reference, max_parity_difference=0.1)
    )
    narrow = assess_fairness(
        frame, y, flags, FairnessPolicy(sensitive=("region",), reference=reference, max_parity_difference=0.02)
    )
    across = assess_fairness(
        frame, y, flags, FairnessPolicy(sensitive=("region",), reference=reference, max_parity_difference=0.05)
    )

    assert one(wide, "parity").status == "PASS"
    assert one(narrow, "parity").status == "FAIL"
    assert narrow.status == "FAIL"
    assert one(across, "parity").status == "INSUFFICIENT"


def test_a_group_with_few_positives_is_insufficient_and_never_fair() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(3, 2, 20, 180))

    report = assess_fairness(frame, y, flags, FairnessPolicy(sensitive=("region",)))

    assert one(report, "opportunity").status == "INSUFFICIENT"
    assert "30 positives" in one(report, "opportunity").detail
    assert report.status == "INSUFFICIENT"


def test_three_of_five_against_seventy_of_ninety_says_nothing_even_where_five_are_looked_at() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(3, 2, 20, 180))

    found = one(assess_fairness(frame, y, flags, FairnessPolicy(sensitive=("region",), min_positives=1)), "opportunity")

    assert (found.difference.low, found.difference.high) == pytest.approx((-0.554298840, 0.120554687), abs=1e-9)
    assert found.status == "INSUFFICIENT"


def test_the_largest_group_is_the_reference_unless_one_is_declared() -> None:
    frame, y, flags = rows_of(a=(40, 20, 80, 860), b=(70, 20, 110, 900))

    assert assess_fairness(frame, y, flags, FairnessPolicy(sensitive=("region",))).comparisons[0].reference == "b"
    declared = FairnessPolicy(sensitive=("region",), reference={"region": "a"})
    assert assess_fairness(frame, y, flags, declared).comparisons[0].reference == "a"


def test_a_failure_among_many_groups_must_be_beyond_chance() -> None:
    # Alone the group fails narrowly; among forty equal groups the same figures may be chance.
    odd = (0, 0, 26, 374)
    quiet = (0, 0, 16, 384)
    policy = FairnessPolicy(sensitive=("region",), max_parity_difference=0.001, max_groups=50)
    alone = assess_fairness(*rows_of(base=(0, 0, 800, 19200), a=odd), policy)
    crowd = assess_fairness(*rows_of(base=(0, 0, 800, 19200), a=odd, **{f"g{i}": quiet for i in range(40)}), policy)

    assert one(alone, "parity").status == "FAIL"
    assert one(crowd, "parity").status == "INSUFFICIENT"
    assert one(crowd, "parity").difference == one(alone, "parity").difference


def test_a_use_case_without_sensitive_columns_has_no_comparison_and_passes() -> None:
    frame, y, flags = rows_of(a=(10, 2, 3, 50))

    report = assess_fairness(frame, y, flags, FairnessPolicy(slices=("region",)))

    assert report.status == "PASS"
    assert report.comparisons == ()
    assert [s.group for s in report.slices] == ["a"]
    assert report.slices[0].recall.value == pytest.approx(10 / 12)


def test_numbers_are_cut_at_declared_edges_and_missing_values_are_a_group() -> None:
    policy = FairnessPolicy(sensitive=("age",), edges={"age": (30.0, 50.0)})

    names = group_names(pd.Series([29.9, 30.0, 50.0, None, -1.0]), policy, "age")

    assert names.tolist() == ["below 30", "30 to 50", "50 and above", MISSING, "below 30"]


def test_small_groups_beyond_the_limit_are_one_group() -> None:
    frame, y, flags = rows_of(**{f"g{i:02d}": (2, 1, 1, 30 - i) for i in range(12)})

    report = assess_fairness(frame, y, flags, FairnessPolicy(slices=("region",), max_groups=5))

    assert len(report.slices) == 5
    assert report.slices[-1].group == OTHER
    assert sum(s.rows for s in report.slices) == len(frame)


def test_only_failures_block_unless_the_policy_wants_evidence_too() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(3, 2, 20, 180))
    lenient = FairnessPolicy(sensitive=("region",))
    strict = FairnessPolicy(sensitive=("region",), insufficient_blocks=True)

    report = assess_fairness(frame, y, flags, lenient)

    assert "INSUFFICIENT" not in {check.status for check in report.checks(lenient)}
    assert "INSUFFICIENT" in {check.status for check in report.checks(strict)}


def test_a_stored_report_reads_back_equal() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(40, 20, 80, 860))
    report = assess_fairness(frame, y, flags, FairnessPolicy(sensitive=("region",)))

    assert FairnessReport.from_json(report.to_json()) == report


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_slices_account_for_every_row_in_any_order(rows: list[tuple[str, bool, bool]]) -> None:
    policy = FairnessPolicy(sensitive=("region",))

    def run(order: list[tuple[str, bool, bool]]) -> FairnessReport:
        frame = pd.DataFrame({"region": [r[0] for r in order]})
        return assess_fairness(frame, [r[1] for r in order], [r[2] for r in order], policy)

    report = run(rows)
    assert sum(s.rows for s in report.slices) == len(rows)
    assert sum(s.caught for s in report.slices) == sum(y and f for _, y, f in rows)
    assert {(s.group, s.rows) for s in run(rows[::-1]).slices} == {(s.group, s.rows) for s in report.slices}


def explored(
    seed: int, rows: int, share: float, *, truth: dict[str, float]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """A stream of which a third of the flagged events were blocked, but for a share let through by a draw."""
    rng = np.random.default_rng(seed)
    group = rng.choice(list(truth), rows)
    flags = rng.random(rows) < np.array([truth[name] for name in group])
    y = rng.random(rows) < np.where(flags, 0.5, 0.02)
    blocked = flags & (rng.random(rows) < (np.where(group == "a", 0.9, 0.1)))
    kept = ~blocked | (rng.random(rows) < share)
    weight = np.where(blocked, 1.0 / share, 1.0)
    return pd.DataFrame({"region": group[kept]}), y[kept], flags[kept], weight[kept]


def test_weights_give_the_rates_of_everybody_where_the_flagged_of_one_group_are_blocked_more_often() -> None:
    policy = FairnessPolicy(sensitive=("region",), reference={"region": "b"}, max_parity_difference=0.05)
    frame, y, flags, weight = explored(3, 40_000, 0.2, truth={"a": 0.2, "b": 0.2})

    as_seen = assess_fairness(frame, y, flags, policy)
    weighted = assess_fairness(frame, y, flags, policy, weight=weight)

    assert one(as_seen, "parity").status == "FAIL", "four in five of the flagged of one group are not there"
    assert one(weighted, "parity").status == "PASS"
    assert "weighted, worth" in one(weighted, "parity").detail
    shares = {s.group: s.flag_share.value for s in weighted.slices}
    assert shares == pytest.approx({"a": 0.2, "b": 0.2}, abs=0.01)
    assert {s.group: s.rows for s in weighted.slices} == {s.group: s.rows for s in as_seen.slices}


def test_intervals_of_weighted_rates_hold_the_truth_as_often_as_they_say() -> None:
    policy = FairnessPolicy(sensitive=("region",), reference={"region": "b"})
    truth = {"a": 0.12, "b": 0.1}
    held = []
    for seed in range(300):
        frame, y, flags, weight = explored(seed, 3_000, 0.1, truth=truth)
        found = assess_fairness(frame, y, flags, policy, weight=weight)
        parity, impact = one(found, "parity").difference, one(found, "impact").difference
        assert parity.low is not None
        assert parity.high is not None
        assert impact.low is not None
        assert impact.high is not None
        held.append((parity.low <= 0.02 <= parity.high, impact.low <= 1.2 <= impact.high))
    assert np.mean(held, axis=0) == pytest.approx([0.95, 0.95], abs=0.03)


def test_a_few_rows_that_stand_for_many_are_a_few_rows_of_evidence() -> None:
    frame, y, flags = rows_of(b=(70, 20, 110, 800), a=(40, 20, 80, 860))
    weight = np.where((frame["region"] == "a") & (np.arange(len(frame)) % 100 == 0), 100.0, 1.0)
    policy = FairnessPolicy(sensitive=("region",), reference={"region": "b"}, min_rows=100)

    found = one(assess_fairness(frame, y, flags, policy, weight=weight), "parity")

    assert found.status == "INSUFFICIENT"
    assert found.detail == "fewer than 100 effective rows"


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans(), st.floats(0.5, 100.0)),
        min_size=1, max_size=200,
    ),
    st.floats(0.01, 50.0),
)  # fmt: skip
def test_only_proportions_of_weights_matter_and_equal_ones_are_the_counts(
    rows: list[tuple[str, bool, bool, float]], scale: float
) -> None:
    policy = FairnessPolicy(sensitive=("region",), min_rows=1, min_positives=1, max_groups=3)
    frame, weight = pd.DataFrame({"region": [r[0] for r in rows]}), np.array([r[3] for r in rows])
    y, flags = [r[1] for r in rows], [r[2] for r in rows]

    def bounds(weight: np.ndarray | None) -> list[float]:
        found = assess_fairness(frame, y, flags, policy, weight=weight)
        figures = [f for s in found.slices for f in (s.flag_share, s.recall, s.precision)]
        figures += [c.difference for c in found.comparisons]
        return [np.nan if v is None else v for f in figures for v in (f.value, f.low, f.high)]

    assert bounds(np.full(len(rows), scale)) == pytest.approx(bounds(None), abs=1e-6, rel=1e-6, nan_ok=True)
    assert bounds(weight * scale) == pytest.approx(bounds(weight), abs=1e-6, rel=1e-6, nan_ok=True)
