"""The frozen reference profile: what the features and scores of a model looked like when it was made.

It is stored with the model version and never recomputed from a window under test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from monitoring.policies import DriftPolicy

Kind = Literal["numeric", "categorical", "calendar"]


@dataclass(frozen=True)
class FeatureProfile:
    """One feature of the reference (also used for the score)."""

    name: str
    kind: Kind
    rows: int
    missing: int


@dataclass(frozen=True)
class ReferenceProfile:
    """All features of the reference and the score, with a stable digest."""

    features: tuple[FeatureProfile, ...]
    score: FeatureProfile | None
    rows: int
    prevalence: float | None = None

    @classmethod
    def fit(
        cls,
        features: pd.DataFrame,
        scores: np.ndarray | None,
        policy: DriftPolicy,
        *,
        calendar_features: Collection[str] = (),
        categorical_features: Collection[str] = (),
        days: pd.Series | None = None,
        labels: np.ndarray | None = None,
    ) -> Self:
        """Freeze a reference.

        Args:
            features: one column per feature (float32 numbers, or text for categories), one row per event.
            scores: calibrated score of each row, or none.
            policy: holds the number of bins.
            calendar_features: names that describe the calendar and raise no drift by themselves.
            categorical_features: names of number columns that are category codes. Text columns are
                categorical in any case.
            days: business day of each row (``BusinessCalendar.days_of``); with it, windows shorter
                than a week are later compared with the same weekdays.
            labels: 0/1 of each row (NaN unknown), for the prior-shift test.
        """
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` gives an equal profile."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote; ``ValueError`` for anything else."""
        raise NotImplementedError
