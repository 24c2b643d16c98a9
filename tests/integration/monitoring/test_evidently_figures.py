"""The figures that made our own PSI decide: what Evidently says of the same rows, from the real Evidently."""

import numpy as np
import pandas as pd
import pytest

from monitoring.drift.feature_drift import FeatureDrift, compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from monitoring.reports.evidently_report import evidently_psi

POLICY = DriftPolicy()
ROWS = 5000


def amounts() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two draws of the same lognormal amounts."""
    rng = np.random.default_rng(936)
    one, other = (pd.DataFrame({"amount": rng.lognormal(3, 1.5, ROWS).astype(np.float32)}) for _ in range(2))
    return one, other


def ours(reference: pd.DataFrame, current: pd.DataFrame) -> FeatureDrift:
    return compare_profile(ReferenceProfile.fit(reference, None, POLICY), current, POLICY).features[0]


def test_doubled_amounts_score_a_fiftieth_with_evidently_and_a_fifth_with_frozen_deciles() -> None:
    reference, current = amounts()
    current = current * np.float32(2)
    assert evidently_psi(reference, current)["amount"] == pytest.approx(0.0202, abs=3e-4)
    found = ours(reference, current)
    assert found.psi == pytest.approx(0.2138, abs=3e-4)
    assert found.band == "warning"


def test_half_the_values_missing_is_calm_with_evidently_and_severe_with_a_bin_for_missing_values() -> None:
    reference, current = amounts()
    current.loc[1::2, "amount"] = np.nan
    assert evidently_psi(reference, current)["amount"] == pytest.approx(0.0033, abs=3e-4)
    assert ours(reference, current).band == "severe"


def test_evidently_s_figure_of_the_same_doubling_moves_with_one_large_amount_and_ours_does_not() -> None:
    reference, current = amounts()
    current = current * np.float32(2)
    before, before_ours = evidently_psi(reference, current)["amount"], ours(reference, current).psi
    current.loc[0, "amount"] = 1e6
    after, after_ours = evidently_psi(reference, current)["amount"], ours(reference, current).psi
    assert before_ours is not None
    assert after < before / 4
    assert after_ours == pytest.approx(before_ours, rel=0.01)
