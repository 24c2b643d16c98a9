"""Our verdict over Evidently's page, and what it says of Evidently's figures."""

import numpy as np
import pandas as pd

from monitoring.drift.feature_drift import DriftReport, compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from monitoring.reports.drift_header import DriftHeading, bands_differ, drift_header

STRICT, LAX = DriftPolicy(), DriftPolicy(psi_warning=0.5, psi_severe=0.8, ks_warning=0.9)


def moved(policy: DriftPolicy) -> DriftReport:
    """Amounts that moved by half a standard deviation: PSI about .25."""
    rng = np.random.default_rng(1)
    reference, current = (pd.DataFrame({"amount": rng.normal(m, 1, 4000).astype(np.float32)}) for m in (0.0, 0.4))
    return compare_profile(ReferenceProfile.fit(reference, None, policy), current, policy)


def header(policy: DriftPolicy, theirs: float) -> str:
    return drift_header(DriftHeading("Drift", moved(policy), policy=policy), {"amount": theirs}, (), (4000, 4000))


def test_the_bands_of_evidently_s_figures_are_those_of_the_policy() -> None:
    ours, calm = moved(STRICT).features[0], moved(LAX).features[0]
    assert (ours.band, calm.band) == ("warning", "none")
    assert [bands_differ(ours, theirs, STRICT) for theirs in (0.09, 0.11, 0.26)] == [True, False, True]
    assert [bands_differ(calm, theirs, LAX) for theirs in (0.09, 0.26, 0.51)] == [False, False, True]


def test_the_page_names_the_band_that_the_policy_gives_evidently_s_figure() -> None:
    assert "amount: warning here, severe there" in header(STRICT, 0.3)
    assert "Evidently's band is another for" not in header(LAX, 0.3)
    assert "amount: none here, severe there" in header(LAX, 0.9)


def test_a_shift_that_only_the_distance_sees_is_explained_by_the_policy_s_own_limit() -> None:
    narrow = DriftPolicy(psi_warning=0.5, psi_severe=0.8, ks_warning=0.1)
    assert moved(narrow).features[0].band == "warning"
    assert "here the Kolmogorov-Smirnov distance warns" in header(narrow, 0.01)
