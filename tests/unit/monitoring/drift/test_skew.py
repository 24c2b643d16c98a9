"""Feature skew between served and recomputed features."""

import numpy as np
import pandas as pd
import pytest

from monitoring.drift.feature_skew import SkewReport, feature_skew


def table(rows: int = 50, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return pd.DataFrame(values, columns=["amount", "count", "risk"], index=[f"e{i}" for i in range(rows)])


def test_equal_features_have_no_skew_whatever_the_order_of_rows() -> None:
    one = table()
    report = feature_skew(one, one.sample(frac=1.0, random_state=2)[["risk", "amount", "count"]])
    assert (report.rows, report.share, report.features) == (50, 0.0, ())


def test_one_bit_is_skew() -> None:
    other = table()
    other.iloc[3, 1] = np.nextafter(other.iloc[3, 1], np.float32(np.inf))
    report = feature_skew(table(), other)
    assert report.share == pytest.approx(0.02)
    assert [(f.name, f.different) for f in report.features] == [("count", 1)]
    assert report.features[0].largest is not None
    assert report.features[0].largest < 1e-6


def test_missing_equals_missing_and_differs_from_a_number() -> None:
    one, other = table(), table()
    one.iloc[0, 0] = other.iloc[0, 0] = np.nan
    assert feature_skew(one, other).different_rows == 0
    one.iloc[1, 0] = np.nan
    report = feature_skew(one, other)
    assert (report.different_rows, report.features[0].largest) == (1, None)


def test_minus_zero_is_zero() -> None:
    one, other = table(), table()
    one.iloc[0, 0], other.iloc[0, 0] = 0.0, -0.0
    assert feature_skew(one, other).different_rows == 0


def test_rows_and_columns_of_one_side_only_are_counted_or_left_out() -> None:
    report = feature_skew(table(50)[["amount", "risk"]], table(40))
    assert (report.rows, report.missing_logged, report.missing_recomputed) == (40, 0, 10)
    assert report.share == 0.0


def test_no_common_row_has_an_unknown_share() -> None:
    assert feature_skew(table(0), table()).share is None


def test_repeated_ids_and_disjoint_features_are_refused() -> None:
    with pytest.raises(ValueError, match="repeated"):
        feature_skew(pd.concat([table(), table()]), table())
    with pytest.raises(ValueError, match="nothing to compare"):
        feature_skew(table(), table().add_prefix("x_"))


def test_the_worst_features_come_first_and_the_report_survives_json() -> None:
    other = table()
    other["risk"] += 1
    other.iloc[:5, 0] += 1
    report = feature_skew(table(), other)
    assert [f.name for f in report.features] == ["risk", "amount"]
    assert SkewReport.from_json(report.to_json()) == report
