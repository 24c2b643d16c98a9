"""How fast a window is compared with the frozen reference, beside Evidently's data-drift preset."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from monitoring.drift.feature_drift import compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from monitoring.reports.evidently_report import evidently_psi

_ROUNDS: Final = 3
_MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class DriftFigures:
    """What was measured in one run, both sides from the same frames in memory.

    Attributes:
        rows, columns: of the window under test.
        ours_s: seconds of a whole report of ours (PSI, KS on the stored quantiles, missing share, chance
            and bands) against the stored profile; median of three.
        evidently_s: seconds of Evidently's data-drift preset with ``num_method="psi"``, imports left out.
        ratio: ``evidently_s / ours_s``.
        peak_mb: most memory that our pass allocated beyond the frames, in 1e6 bytes, from a pass of its own.
    """

    rows: int
    columns: int
    ours_s: float
    evidently_s: float
    ratio: float
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def bench_drift(
    rows: int = 1_000_000,
    columns: int = 20,
    reference_rows: int = 100_000,
    seed: int = 7,
    told: Callable[[str], None] = lambda _: None,
) -> DriftFigures:
    """Measure. The profile is made beforehand, as it is stored with a model; both sides get float32."""
    policy = DriftPolicy()
    reference, current = (made_features(n, columns, seed + i) for i, n in enumerate((reference_rows, rows)))
    profile = ReferenceProfile.fit(reference, None, policy)
    told("our comparison")
    ours = median(_seconds(lambda: compare_profile(profile, current, policy)) for _ in range(_ROUNDS))
    peak = _peak(lambda: compare_profile(profile, current, policy))
    told("Evidently's comparison")
    evidently_psi(reference.head(500), current.head(500))  # its imports take seconds and are not its speed
    theirs = _seconds(lambda: evidently_psi(reference, current))
    return DriftFigures(rows, columns, round(ours, 4), round(theirs, 3), round(theirs / ours, 1), round(peak, 2))


def made_features(rows: int, columns: int, seed: int) -> pd.DataFrame:
    """Smooth, skewed, counted and partly missing numbers, as features are: float32."""
    rng = np.random.default_rng(seed)

    def column(number: int) -> np.ndarray:
        kind = number % 4
        if kind == 0:
            return rng.normal(size=rows)
        if kind == 1:
            return rng.lognormal(3.0, 1.0, rows)
        if kind == 2:
            return rng.poisson(3.0, rows).astype(float)
        values = rng.gamma(2.0, 2.0, rows)
        values[rng.random(rows) < 0.05] = np.nan
        return values

    return pd.DataFrame({f"feature_{n}": column(n).astype(np.float32) for n in range(columns)})


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _peak(action: Callable[[], object]) -> float:
    """Most memory that numpy and Python held at once above what was there before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        action()
        return (tracemalloc.get_traced_memory()[1] - before) / _MEGABYTE
    finally:
        tracemalloc.stop()
