"""Drift reports: bands, false alarms, weekdays, several windows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import (
    DriftReport,
    black_box_prior,
    combine_windows,
    compare_profile,
    prior_shift,
    report_window,
)
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.drift.window_counts import WindowCounter
from monitoring.errors import ProfileMismatch
from monitoring.policies import DriftPolicy
from tests.support.vectors import digits
from tests.unit.monitoring.drift.test_profile import fitted, frame

POLICY = DriftPolicy()
START = datetime(2026, 3, 2, tzinfo=UTC)


def wide(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 20)).astype(np.float32)
    values[:, 0] += shift
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(20)])


def day(n: int) -> TimeWindow:
    return TimeWindow(START + timedelta(days=n), START + timedelta(days=n + 1))


WIDE = ReferenceProfile.fit(wide(20_000, 1), None, POLICY)


def test_the_same_distribution_raises_nothing() -> None:
    report = compare_profile(fitted(), frame(2000, 9), POLICY, np.random.default_rng(5).beta(1, 30, 2000))
    assert (report.status, report.band, report.share) == ("ok", "none", 0.0)


def test_doubled_amounts_are_severe_and_named() -> None:
    current = frame(1000, 9)
    current["amount"] *= 3
    report = compare_profile(fitted(), current, POLICY)
    amount = report.features[0]
    assert (amount.name, amount.band, report.band) == ("amount", "severe", "severe")
    assert report.share == pytest.approx(1 / 5)  # the calendar feature is not among the five


def test_half_the_values_missing_is_severe() -> None:
    current = frame(1000, 9)
    current.loc[::2, "amount"] = np.nan
    drift = compare_profile(fitted(), current, POLICY).features[0]
    assert drift.band == "severe"
    assert drift.missing_share == pytest.approx(0.5, abs=0.02)
    assert drift.reference_missing_share == pytest.approx(0.02)


def test_unseen_categories_are_severe_and_counted() -> None:
    current = frame(1000, 9)
    current.loc[:299, "channel"] = "kiosk"
    drift = compare_profile(fitted(), current, POLICY).features[5]
    assert (drift.band, drift.unseen_share) == ("severe", pytest.approx(0.3))


def test_a_moved_score_is_drift_of_the_score() -> None:
    report = compare_profile(fitted(), frame(1000, 9), POLICY, np.random.default_rng(5).beta(3, 10, 1000))
    assert report.score is not None
    assert (report.score.band, report.band, report.share) == ("severe", "severe", 0.0)


def test_too_few_rows_say_so_and_give_no_number() -> None:
    for rows in (0, 5, 199):
        report = compare_profile(fitted(), frame(2000).head(rows), POLICY)
        assert (report.status, report.band, report.share, report.features) == ("insufficient_data", None, None, ())


def test_a_missing_column_is_an_error_that_names_it() -> None:
    with pytest.raises(ProfileMismatch, match="amount"):
        compare_profile(fitted(), frame().drop(columns="amount"), POLICY)


def test_a_calendar_feature_raises_nothing_by_itself() -> None:
    current = frame(1000, 9)
    current["weekend"] = np.float32(1.0)
    report = compare_profile(fitted(), current, POLICY)
    weekend = report.features[2]
    assert (weekend.kind, weekend.raises, weekend.band, report.band) == ("calendar", False, "severe", "none")


def test_a_short_window_is_compared_with_the_same_weekdays() -> None:
    days = pd.Series(pd.date_range("2026-01-05", periods=28).repeat(400))
    values = pd.DataFrame({"volume": np.where(days.dt.dayofweek >= 5, 10.0, 1.0).astype(np.float32)})
    values["volume"] += np.random.default_rng(0).random(len(values)).astype(np.float32)
    profile = ReferenceProfile.fit(values, None, POLICY, days=days)
    saturday = days == pd.Timestamp("2026-01-10")
    window, its_days = values[saturday], days[saturday]
    assert compare_profile(profile, window, POLICY).band == "severe"
    assert compare_profile(profile, window, POLICY, days=its_days).band == "none"


def test_a_weekend_flag_alarms_every_day_under_the_bare_rule_and_never_beside_the_same_weekdays() -> None:
    days = pd.Series(pd.date_range("2026-01-05", periods=140).repeat(300))
    reference = pd.DataFrame({"weekend": (days.dt.dayofweek >= 5).astype(np.float32)})
    # Not declared a calendar feature, so that the same weekdays alone keep it calm.
    profile = ReferenceProfile.fit(reference.head(84 * 300), None, POLICY, days=days.head(84 * 300))
    bare, ours, reports = 0, 0, []
    for n in range(84, 140):
        rows = slice(n * 300, (n + 1) * 300)
        current = reference.iloc[rows].reset_index(drop=True)
        bare += (compare_profile(profile, current, POLICY).features[0].psi or 0.0) > 0.1
        reports.append(compare_profile(profile, current, POLICY, days=days.iloc[rows], window=day(n)))
        ours += combine_windows(reports, POLICY).band not in (None, "none")
    assert (bare, ours) == (56, 0)
    assert [r.features[0].raises for r in reports] == [True] * 56
    assert {r.band for r in reports} == {"none"}


def test_a_constant_column_is_marked() -> None:
    report = compare_profile(fitted(), frame(1000, 9), POLICY)
    assert [f.name for f in report.features if f.status == "constant"] == ["constant"]


def test_a_significant_but_tiny_shift_raises_nothing() -> None:
    current = wide(200_000, 3, shift=0.05)
    drift = compare_profile(WIDE, current, POLICY).features[0]
    assert drift.adjusted_p is not None
    assert drift.adjusted_p < 0.05
    assert drift.band == "none"


def test_two_months_without_drift_raises_no_alarm_while_the_bare_rule_alarms() -> None:
    reports = [compare_profile(WIDE, wide(200, 100 + n), POLICY, window=day(n)) for n in range(60)]
    bare = sum(any((f.psi or 0) > 0.1 for f in r.features) for r in reports)
    ours = sum(combine_windows(reports[: n + 1], POLICY).band not in (None, "none") for n in range(60))
    assert bare > 15
    assert ours == 0


def test_a_lasting_shift_is_noticed_on_its_second_day() -> None:
    reports = [
        compare_profile(WIDE, wide(1000, 50 + n, shift=1.0 if n >= 3 else 0.0), POLICY, window=day(n)) for n in range(6)
    ]
    alarms = [combine_windows(reports[: n + 1], POLICY) for n in range(6)]
    assert [a.band for a in alarms] == [None, "none", "none", "none", "severe", "severe"]
    assert alarms[4].features == ("f0",)
    assert not alarms[4].score_moved


def test_two_features_that_drift_once_each_are_no_alarm() -> None:
    quiet = wide(1000, 60)
    first, second = quiet.copy(), quiet.copy()
    first["f1"] += 2
    second["f2"] += 2
    reports = [compare_profile(WIDE, f, POLICY) for f in (first, second, quiet)]
    assert combine_windows(reports, POLICY).band == "none"


def test_windows_without_enough_rows_do_not_vote() -> None:
    reports = [compare_profile(WIDE, wide(10, n), POLICY) for n in range(3)]
    alarm = combine_windows(reports, POLICY)
    assert (alarm.band, alarm.windows) == (None, 0)


def test_overlapping_windows_are_refused() -> None:
    reports = [compare_profile(WIDE, wide(300, n), POLICY, window=day(0)) for n in range(2)]
    with pytest.raises(ValueError, match="disjoint"):
        combine_windows(reports, POLICY)


def test_counting_in_chunks_gives_the_same_report() -> None:
    current, scores = frame(70_000, 9), np.random.default_rng(5).beta(1, 30, 70_000)
    counter = WindowCounter(fitted())
    for start in range(0, 70_000, 7_001):
        counter.add(current[start : start + 7_001], scores[start : start + 7_001])
    assert report_window(counter, POLICY).digest == compare_profile(fitted(), current, POLICY, scores).digest


def test_the_order_of_rows_does_not_matter() -> None:
    current = frame(1000, 9)
    shuffled = current.sample(frac=1.0, random_state=1)
    assert compare_profile(fitted(), current, POLICY) == compare_profile(fitted(), shuffled, POLICY)


def test_a_report_survives_json() -> None:
    report = compare_profile(fitted(), frame(1000, 9), POLICY, np.full(1000, 0.01), window=day(0))
    assert DriftReport.from_json(report.to_json()) == report
    assert DriftReport.from_json(report.to_json()).digest == report.digest


def test_prior_shift_has_the_published_digits() -> None:
    digits(prior_shift(80, 10_000, 0.005).p, "8.74691e-5")
    assert prior_shift(0, 0, 0.005).p is None


def test_black_box_prior_has_the_published_digits() -> None:
    digits(black_box_prior(0.02, 0.8, 0.01), ".0126582278")
    assert black_box_prior(0.02, 0.01, 0.01) is None
    assert black_box_prior(0.001, 0.8, 0.01) == 0.0


def test_features_are_ranked_by_their_drift_weighted_with_their_importance() -> None:
    reference = wide(5000, 1)
    names = list(reference.columns)
    weights = [1.0] * len(names)
    weights[names.index("f1")] = 8.0
    profile = ReferenceProfile.fit(reference, None, POLICY, importance=weights)
    current = wide(2000, 2).assign(f0=lambda t: t["f0"] + 1.2, f1=lambda t: t["f1"] + 0.8)
    plain = compare_profile(ReferenceProfile.fit(reference, None, POLICY), current, POLICY)
    assert [f.name for f in plain.ranked[:2]] == ["f0", "f1"], "without importance the larger shift is first"
    report = compare_profile(profile, current, POLICY)
    assert [f.name for f in report.ranked[:2]] == ["f1", "f0"]
    assert report.ranked[0].importance == pytest.approx(8 / (8 + len(names) - 1))
    assert sum(f.importance or 0.0 for f in report.features) == pytest.approx(1.0)
    days = [replace(report, window=day(n)) for n in range(3)]
    assert combine_windows(days, POLICY).features[:2] == ("f1", "f0")


def test_a_profile_without_importance_is_still_read() -> None:
    stored = ReferenceProfile.fit(wide(300, 1), None, POLICY).to_json()
    del stored["importance"]
    assert ReferenceProfile.from_json(stored).importance_shares == {}
    with pytest.raises(ValueError, match="importances"):
        ReferenceProfile.fit(wide(300, 1), None, POLICY, importance=[1.0])


def only(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"f0": values.astype(np.float32)})


def test_chance_is_taken_off_before_a_psi_counts() -> None:
    # Every second decile holds 40 rows in place of 20: PSI .12, of which nine bins of 300 rows explain .03.
    edges = np.linspace(0.0, 1.0, 11)
    profile = ReferenceProfile.fit(only(np.linspace(0.0, 1.0, 20_001)), None, POLICY)
    window = np.repeat((edges[:-1] + edges[1:]) / 2, [40, 20] * 5)
    few = compare_profile(profile, only(window), POLICY).features[0]
    many = compare_profile(profile, only(np.repeat(window, 100)), POLICY).features[0]

    assert few.psi == pytest.approx(many.psi, abs=0.005)
    assert few.psi is not None
    assert few.psi > POLICY.psi_warning
    assert few.adjusted_p is not None
    assert few.adjusted_p < POLICY.alpha
    assert (few.band, many.band) == ("none", "warning")


def test_a_gap_between_distributions_must_be_beyond_chance_among_all_features() -> None:
    even = (np.arange(200) + 0.5) / 200
    profile = ReferenceProfile.fit(only(np.linspace(0.0, 1.0, 20_001)), None, POLICY)
    alone = compare_profile(profile, only(even**1.32), POLICY).features[0]
    names = [f"f{i}" for i in range(20)]
    wide_profile = ReferenceProfile.fit(
        pd.DataFrame(dict.fromkeys(names, np.linspace(0.0, 1.0, 20_001).astype(np.float32))), None, POLICY
    )
    window = pd.DataFrame(dict.fromkeys(names, even.astype(np.float32))).assign(f0=(even**1.32).astype(np.float32))
    among = compare_profile(wide_profile, window, POLICY).features[0]

    assert among.ks == alone.ks
    assert among.ks_p == alone.ks_p
    assert (alone.band, among.band) == ("warning", "none")
