"""The reference profile: frozen edges, categories, exact storage."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift.reference_profile import FeatureProfile, ReferenceProfile, fit_feature
from monitoring.drift.window_counts import FeatureCounts, histograms
from monitoring.policies import DriftPolicy
from monitoring.stats.distances import ks_distance

POLICY = DriftPolicy()


def frame(rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3, 1, rows).astype(np.float32)
    amount[::50] = np.nan
    return pd.DataFrame(
        {
            "amount": amount,
            "risk": (rng.random(rows) < 0.05).astype(np.float32),
            "weekend": (np.arange(rows) % 7 >= 5).astype(np.float32),
            "constant": np.full(rows, 3.0, np.float32),
            "code": rng.integers(0, 4, rows).astype(np.float32),
            "channel": rng.choice(["web", "shop", "phone"], rows, p=[0.6, 0.3, 0.1]),
        }
    )


def fitted(rows: int = 2000) -> ReferenceProfile:
    days = pd.Series(pd.date_range("2026-01-05", periods=28).repeat(-(-rows // 28))[:rows])
    scores = np.random.default_rng(1).beta(1, 30, rows)
    return ReferenceProfile.fit(
        frame(rows), scores, POLICY, calendar_features={"weekend"}, categorical_features={"code"}, days=days
    )


def one(values: object, kind: str = "numeric", bins: int = 10) -> FeatureProfile:
    return fit_feature("x", pd.Series(np.asarray(values, dtype=np.float32)), kind, bins, None)  # type: ignore[arg-type]  # the tests name the kind as text


def test_a_profile_survives_json_exactly_and_keeps_its_digest() -> None:
    profile = fitted()
    again = ReferenceProfile.from_json(json.loads(json.dumps(profile.to_json())))
    assert again == profile
    assert again.digest == profile.digest


def test_using_a_profile_does_not_change_what_is_stored() -> None:
    profile = fitted()
    before = profile.to_json()
    _ = [feature.points for feature in profile.features], profile.digest
    assert profile.to_json() == before


def test_the_digest_does_not_depend_on_the_order_of_rows() -> None:
    data = frame()
    other = data.sample(frac=1.0, random_state=3)
    assert ReferenceProfile.fit(data, None, POLICY).digest == ReferenceProfile.fit(other, None, POLICY).digest


def test_the_digest_changes_with_the_data() -> None:
    other = ReferenceProfile.fit(frame(seed=1), None, POLICY)
    assert other.digest != ReferenceProfile.fit(frame(), None, POLICY).digest


def test_a_stored_profile_that_is_not_one_is_refused() -> None:
    with pytest.raises(ValueError, match="ReferenceProfile"):
        ReferenceProfile.from_json({"features": 3})


def test_deciles_of_a_smooth_feature_hold_a_tenth_each() -> None:
    feature = one(np.arange(1000))
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series(np.arange(1000, dtype=np.float32)))
    assert histograms(feature, counts).reference.tolist() == [100] * 10 + [0]
    assert histograms(feature, counts).current.tolist() == [100] * 10 + [0]


def test_equal_edges_are_merged_and_no_reference_bin_is_empty() -> None:
    feature = one([0.0] * 700 + list(range(1, 301)))
    assert len(feature.edges) == 3
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series([0.0]))
    assert histograms(feature, counts).reference.tolist() == [700, 100, 100, 100, 0]


def test_a_mass_at_the_largest_value_keeps_a_bin_of_its_own() -> None:
    feature = one([0.0] * 50 + [1.0] * 950)
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series([0.5, 1.0, 2.0]))
    assert histograms(feature, counts).current.tolist() == [1, 2, 0]


def test_values_beyond_the_reference_fall_into_the_open_outer_bins() -> None:
    feature = one(np.arange(100))
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series([-1e30, 1e30, np.inf, -np.inf, np.nan]))
    current = histograms(feature, counts).current
    assert (current[0], current[-2], current[-1], current.sum()) == (2, 2, 1, 5)


def test_a_constant_is_noticed_and_its_movement_is_seen_both_ways() -> None:
    feature = one([3.0] * 500)
    assert feature.constant
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series([2.0, 3.0, 4.0, 4.0]))
    assert histograms(feature, counts).current.tolist() == [1, 1, 2, 0]
    assert not one([3.0, 4.0]).constant
    assert one([np.nan, np.nan]).constant


def test_missing_values_have_a_bin_of_their_own() -> None:
    feature = one([1.0, 2.0, np.nan, np.nan])
    assert (feature.rows, feature.missing) == (4, 2)


def test_unseen_levels_and_missing_levels_are_told_apart() -> None:
    feature = fit_feature("x", pd.Series(["a", "a", "b", None]), "categorical", 10, None)
    assert feature.counts == (2, 1, 0, 1)
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series(["b", "z", None, None]))
    assert counts.levels.tolist() == [0, 1, 1, 2]


def test_category_codes_are_levels_and_not_numbers() -> None:
    feature = fit_feature("x", pd.Series([0.0, 1.0, 1.0, np.nan], dtype="float32"), "categorical", 10, None)
    assert feature.coded
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series([0.0, 7.0, np.nan], dtype="float32"))
    assert counts.levels.tolist() == [0, 1, 1, 1]


def test_rare_levels_are_pooled_but_unseen_ones_stay_visible() -> None:
    values = pd.Series([f"c{i}" for i in range(100) for _ in range(10)] + ["big"] * 9000)
    feature = fit_feature("x", values, "categorical", 10, None)
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series(["big"] * 190 + ["c1"] * 8 + ["new"] * 2))
    assert histograms(feature, counts).current.tolist() == [190, 8, 2, 0]


def test_at_most_1001_quantiles_are_stored_for_a_smooth_feature() -> None:
    assert len(one(np.random.default_rng(0).normal(size=5000)).grid) == 1001


def test_a_profile_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        ReferenceProfile.fit(pd.DataFrame({"x": []}), None, POLICY)


def test_scores_may_be_of_other_rows_than_the_features() -> None:
    days = pd.Series(pd.date_range("2026-01-05", periods=2000, freq="1h").normalize())
    profile = ReferenceProfile.fit(frame(2000), np.linspace(0, 1, 50), POLICY, days=days, score_days=days.head(50))
    assert profile.score is not None
    assert (profile.rows, profile.score.rows) == (2000, 50)
    with pytest.raises(ValueError, match="score_days"):
        ReferenceProfile.fit(frame(2000), np.linspace(0, 1, 50), POLICY, days=days)
    with pytest.raises(ValueError, match="3 days"):
        ReferenceProfile.fit(frame(2000), None, POLICY, days=days.head(3))


def test_weekday_counts_add_up_to_the_whole() -> None:
    profile = fitted()
    amount, channel = profile.features[0], profile.features[5]
    week = np.sum(amount.weekdays, axis=0)
    assert week[-1] == amount.missing
    assert week[:-2].tolist() == np.asarray(amount.cumulative)[list(amount.coarse)].tolist()
    assert np.sum(channel.weekdays, axis=0).tolist() == list(channel.counts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32) | st.just(0.0), min_size=1, max_size=300),
    st.lists(st.floats(-1e6, 1e6, width=32) | st.just(0.0), min_size=1, max_size=300),
)
def test_the_distance_from_stored_quantiles_is_that_of_all_rows(a: list[float], b: list[float]) -> None:
    feature = one(a)
    counts = FeatureCounts.of(feature)
    counts.add(feature, pd.Series(np.asarray(b, dtype=np.float32)))
    h = histograms(feature, counts)
    stored = ks_distance(h.reference_below, h.reference_valid, h.current_below, h.current_valid)
    assert stored is not None
    # Below 1,000 rows every reference value is a stored point; only ground between two points is lost.
    both = np.concatenate([np.float32(a), np.float32(b)])
    left, right = (np.searchsorted(np.sort(np.float32(v)), both, side="right") / len(v) for v in (a, b))
    exact = np.max(np.abs(left - right))
    assert exact - 1 / len(a) - 1e-9 <= stored <= exact + 1e-9
