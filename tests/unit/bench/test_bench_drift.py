from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from monitoring.drift.feature_drift import compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from tests.bench.__main__ import main as bench
from tests.bench.speed.drift import made_features

POLICY = DriftPolicy()


def test_the_bench_of_drift_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["drift", "--rows", "3000", "--columns", "4", "--reference", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rows", "columns", "ours_s", "evidently_s", "ratio", "peak_mb"}
    assert (found["rows"], found["columns"]) == (3000, 4)
    assert found["evidently_s"] > 0
    assert bench(["drift", "--rows", "0", "--json"]) == 2


def peak(frame: pd.DataFrame, profile: ReferenceProfile, scores: np.ndarray, days: pd.Series) -> int:
    tracemalloc.start()
    try:
        compare_profile(profile, frame, POLICY, scores, days=days)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_comparison_does_not_grow_with_the_window() -> None:
    columns = 6
    frame = made_features(800_000, columns, 1).astype(float)  # float64: each column has to be converted
    frame["feature_5"] = np.where(frame["feature_1"] > 30, "web", "shop")
    scores = np.linspace(0, 1, len(frame))
    days = pd.Series(pd.Timestamp("2026-01-05"), index=frame.index).astype("datetime64[ns]")
    profile = ReferenceProfile.fit(
        frame.head(5000), scores[:5000], POLICY, days=days.head(5000), calendar_features=("feature_4",)
    )
    short = peak(frame.head(200_000), profile, scores[:200_000], days.head(200_000))
    assert peak(frame, profile, scores, days) < short * 1.2 + 100_000
