"""Drift of a window against the frozen reference profile, with a false-alarm budget.

A feature has a band only when its effect is large (PSI above its null expectation, or a
Kolmogorov-Smirnov distance) AND chance is ruled out over all features together. One odd window is a
line of a report; :func:`combine_windows` needs the same feature in several disjoint windows for an alarm.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement, StoredResult
from monitoring.drift.reference_profile import FeatureProfile, Kind, ReferenceProfile
from monitoring.drift.window_counts import FeatureCounts, WindowCounter, histograms
from monitoring.policies import DriftPolicy
from monitoring.stats.distances import benjamini_hochberg, ks_distance, ks_p, psi_test
from monitoring.stats.intervals import wilson

Band = Literal["none", "warning", "severe"]
WindowStatus = Literal["ok", "insufficient_data"]


@dataclass(frozen=True)
class FeatureDrift:
    """One feature (or the score) of a window against the reference. Shares lie in 0..1.

    ``importance`` is the feature's share of the model's mean absolute contributions on the reference.
    """

    name: str
    kind: Kind
    status: Literal["ok", "constant"]
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
    importance: float | None = None

    @property
    def weight(self) -> float:
        """The shift above chance times the importance; by the shift alone where importance is unknown."""
        return max(0.0, self.excess or 0.0) * (1.0 if self.importance is None else self.importance)


@dataclass(frozen=True)
class DriftReport(StoredResult):
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
    def ranked(self) -> tuple[FeatureDrift, ...]:
        """The features, most important shift first: its size weighted with the feature's importance."""
        return tuple(sorted(self.features, key=lambda f: (-f.weight, -max(0.0, f.excess or 0.0), f.name)))


@dataclass(frozen=True)
class DriftAlarm:
    """What several disjoint windows say together.

    Attributes:
        band: ``severe`` or ``warning`` when the same feature (or the score) reaches that band in
            ``windows_needed`` of the latest ``windows``; ``none`` otherwise; ``None`` when fewer
            windows than needed have enough rows.
        features: names that agree, the worst band first, then the shift that matters most to the model.
        score_moved: whether the score's distribution is among what agrees.
        windows: windows with enough rows that were looked at.
    """

    band: Band | None
    features: tuple[str, ...]
    score_moved: bool
    windows: int


@dataclass(frozen=True)
class PriorShift:
    """The matured share of positives against the reference's, exact binomial two-sided p."""

    rows: int
    positives: int
    share: Measurement
    reference: float
    p: float | None


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
        days: business day of each row; a window that does not hold all weekdays is then compared
            with the same weekdays of the reference.
        window: the span of time, kept in the report.

    Raises:
        ProfileMismatch: when a column of the profile is missing.
    """
    counter = WindowCounter(profile)
    counter.add(current, scores, days)
    return report_window(counter, policy, window)


def report_window(counter: WindowCounter, policy: DriftPolicy, window: TimeWindow | None = None) -> DriftReport:
    """The report of a window that was counted chunk by chunk."""
    profile = counter.profile
    if counter.rows < policy.min_rows:
        return DriftReport("insufficient_data", counter.rows, (), None, None, None, profile.digest, window)
    weekdays = counter.same_weekdays
    shares = profile.importance_shares
    measured_features = [
        replace(_measure(f, counter.features[f.name], weekdays, policy), importance=shares.get(f.name))
        for f in profile.features
    ]
    features = _judge_features(measured_features, policy)
    score = None
    if profile.score is not None and counter.score is not None:
        score = _judge_features([_measure(profile.score, counter.score, weekdays, policy)], policy)[0]
    raising_features = [f for f in features if f.raises]
    drifted_features = [f for f in raising_features if f.band != "none"]
    bands = [f.band for f in (*raising_features, *((score,) if score else ()))]
    share = len(drifted_features) / len(raising_features) if raising_features else None
    return DriftReport("ok", counter.rows, features, score, share, worst_band(bands), profile.digest, window)


def combine_windows(reports: Sequence[DriftReport], policy: DriftPolicy) -> DriftAlarm:
    """The alarm of the latest ``policy.windows`` disjoint windows, oldest first in ``reports``.

    One window in twenty or more looks odd by chance; the same feature in two of three does not.

    Raises:
        ValueError: when two windows overlap, for they would count the same rows twice.
    """
    latest_reports = list(reports)[-policy.windows :]
    _refuse_overlap(latest_reports)
    usable_reports = [r for r in latest_reports if r.status == "ok"]
    if len(usable_reports) < policy.windows_needed:
        return DriftAlarm(None, (), False, len(usable_reports))
    features_by_name = _group_by_name(usable_reports)
    votes = {
        name: _agreed_band([f.band for f in windows_of_feature], policy)
        for name, windows_of_feature in features_by_name.items()
    }
    agreeing_names = sorted(
        (n for n, band in votes.items() if band != "none"),
        key=lambda n: (-_ORDER[votes[n]], -features_by_name[n][-1].weight, n),
    )
    scores = [r.score.band for r in usable_reports if r.score is not None]
    score_band = _agreed_band(scores, policy)
    band = worst_band([score_band, *votes.values()])
    return DriftAlarm(band, tuple(agreeing_names), score_band != "none", len(usable_reports))


def prior_shift(positives: int, rows: int, reference: float) -> PriorShift:
    """Test matured prevalence against the reference's; ``p`` is ``None`` without rows."""
    p = float(stats.binomtest(positives, rows, reference).pvalue) if rows else None
    return PriorShift(rows, positives, wilson(positives, rows), reference, p)


def black_box_prior(flagged_share: float, recall: float, false_positive_rate: float) -> float | None:
    """Prevalence before labels are known, pi = (q - FPR)/(TPR - FPR), kept within 0..1.

    Black-box shift estimation (Lipton, Wang and Smola 2018): ``recall`` and ``false_positive_rate``
    are those of the model on the reference. ``None`` when the model does not tell the classes apart.
    """
    if recall <= false_positive_rate:
        return None
    return min(1.0, max(0.0, (flagged_share - false_positive_rate) / (recall - false_positive_rate)))


def worst_band(bands: Sequence[Band]) -> Band:
    """The most severe of some bands; ``none`` without any."""
    return max(bands, key=_ORDER.__getitem__, default="none")


_ORDER: dict[Band, int] = {"none": 0, "warning": 1, "severe": 2}


def _measure(
    feature: FeatureProfile, counts: FeatureCounts, weekdays: tuple[int, ...], policy: DriftPolicy
) -> FeatureDrift:
    """All figures of one feature; the band waits for the adjusted p values."""
    h = histograms(feature, counts, weekdays, policy.min_rows)
    psi = psi_test(h.reference, h.current, policy.alpha)
    ks = ks_distance(h.reference_below, h.reference_valid, h.current_below, h.current_valid)
    p = None if ks is None else ks_p(ks, h.reference_valid, h.current_valid)
    unseen_share = float(counts.levels[-2]) / counts.rows if feature.kind == "categorical" else None
    is_constant = feature.constant or counts.constant
    return FeatureDrift(
        feature.name, feature.kind, "constant" if is_constant else "ok", "none", feature.raises,
        psi.psi, psi.excess, psi.critical, psi.p, None, ks, p, None,
        counts.missing / counts.rows, feature.missing / feature.rows, unseen_share,
    )  # fmt: skip


def _judge_features(features: Sequence[FeatureDrift], policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
    """Adjust the p values over the features that may raise drift, then give each its band."""
    psi_p = _adjust_p({f.name: f.p for f in features if f.raises and f.p is not None})
    ks_p_ = _adjust_p({f.name: f.ks_p for f in features if f.raises and f.ks_p is not None})
    return tuple(_give_band(f, psi_p.get(f.name), ks_p_.get(f.name), policy) for f in features)


def _adjust_p(p: dict[str, float]) -> dict[str, float]:
    return dict(zip(p, benjamini_hochberg(list(p.values())).tolist(), strict=True))


def _give_band(feature: FeatureDrift, psi_p: float | None, ks_p_: float | None, policy: DriftPolicy) -> FeatureDrift:
    """Warn where the effect is large and chance is ruled out; only PSI can be severe.

    A feature that may not raise drift is shown by its own, unadjusted p.
    """
    band: Band = "none"
    p, excess = (psi_p if feature.raises else feature.p), feature.excess or 0.0
    if p is not None and p < policy.alpha and excess >= policy.psi_warning:
        band = "severe" if excess >= policy.psi_severe else "warning"
    p = ks_p_ if feature.raises else feature.ks_p
    if band == "none" and p is not None and p < policy.alpha and (feature.ks or 0.0) >= policy.ks_warning:
        band = "warning"
    return replace(feature, band=band, adjusted_p=psi_p, ks_adjusted_p=ks_p_)


def _agreed_band(bands: Sequence[Band], policy: DriftPolicy) -> Band:
    """The band that enough windows reach."""
    for band in ("severe", "warning"):
        if sum(1 for b in bands if _ORDER[b] >= _ORDER[band]) >= policy.windows_needed:
            return "severe" if band == "severe" else "warning"
    return "none"


def _group_by_name(reports: Sequence[DriftReport]) -> dict[str, list[FeatureDrift]]:
    features_by_name: dict[str, list[FeatureDrift]] = {}
    for report in reports:
        for feature in report.features:
            if feature.raises:
                features_by_name.setdefault(feature.name, []).append(feature)
    return features_by_name


def _refuse_overlap(reports: Sequence[DriftReport]) -> None:
    windows = [r.window for r in reports if r.window is not None]
    for earlier_window, later_window in itertools.pairwise(windows):
        if later_window.start < earlier_window.end:
            raise ValueError(
                f"drift windows must be disjoint and in order: {earlier_window.end} lies after {later_window.start}"
            )
