"""Drift of a window against the frozen reference profile, with a false-alarm budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from monitoring.calendar import TimeWindow
from monitoring.measured import digest_of, from_plain, to_plain
from monitoring.policies import DriftPolicy
from monitoring.profile import Kind, ReferenceProfile

Band = Literal["none", "warning", "severe"]
WindowStatus = Literal["ok", "insufficient_data"]


@dataclass(frozen=True)
class FeatureDrift:
    """One feature (or the score) of a window against the reference. Shares lie in 0..1."""

    name: str
    kind: Kind
    status: Literal["ok", "insufficient_data", "constant"]
    band: Band
    raises: bool
    psi: float | None
    excess: float | None
    critical: float | None
    p: float | None
    adjusted_p: float | None
    ks: float | None
    ks_p: float | None
    ks_adjusted_p: float | None
    missing_share: float | None
    reference_missing_share: float | None
    unseen_share: float | None


@dataclass(frozen=True)
class DriftReport:
    """All features of one window.

    Attributes:
        status: ``insufficient_data`` when the window has fewer than ``min_rows`` rows; then there is
            no band, no share and no gauge, rather than a zero.
        share: share of the features that may raise drift whose band is not ``none``.
        band: the worst band among those features and the score.
    """

    status: WindowStatus
    rows: int
    features: tuple[FeatureDrift, ...]
    score: FeatureDrift | None
    share: float | None
    band: Band | None
    profile_digest: str
    window: TimeWindow | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_of(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        return from_plain(cls, data)


@dataclass(frozen=True)
class DriftAlarm:
    """What several disjoint windows say together.

    Attributes:
        band: ``severe`` or ``warning`` when the same feature (or the score) reaches that band in
            ``windows_needed`` of the latest ``windows``; ``none`` otherwise; ``None`` when fewer
            windows than needed have enough rows.
        features: names that agree, worst first.
        score_moved: whether the score's distribution is among what agrees.
        windows: windows with enough rows that were looked at.
    """

    band: Band | None
    features: tuple[str, ...]
    score_moved: bool
    windows: int


def compare_profile(
    profile: ReferenceProfile,
    current: pd.DataFrame,
    policy: DriftPolicy,
    scores: np.ndarray | None = None,
    *,
    days: pd.Series | None = None,
    window: TimeWindow | None = None,
) -> DriftReport:
    """Compare a window with the reference.

    Args:
        profile: the frozen reference.
        current: the window's features, at least the profile's columns.
        policy: bands, level, minimum rows.
        scores: calibrated score of each row, or none.
        days: business day of each row; see :meth:`ReferenceProfile.fit`.
        window: the span of time, kept in the report.

    Raises:
        ProfileMismatch: when a column of the profile is missing.
    """
    raise NotImplementedError


def combine(reports: Sequence[DriftReport], policy: DriftPolicy) -> DriftAlarm:
    """The alarm of the latest ``policy.windows`` disjoint windows (oldest first in ``reports``)."""
    raise NotImplementedError
