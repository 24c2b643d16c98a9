"""The guardrail of segments: a challenger that gains on the whole must not lose one of its parts.

A segment with as many positives as a whole comparison needs has to be non-inferior by itself. A smaller one
cannot show that within reasonable time; it stops a promotion only where its loss is certain, at the level
divided by the number of segments that are looked at (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from monitoring.comparison.discordance import segment_levels
from monitoring.comparison.paired import bounded_ratio
from monitoring.core.verdict import Check, Status
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import AnytimeT

MIN_POSITIVES: Final = 30
"""Positives below which nothing is said of a segment."""


@dataclass(frozen=True)
class SliceGain:
    """Recall gained in one segment.

    Attributes:
        name: ``column = level``.
        positives: that were seen.
        gain: difference of pooled recalls at the policy's level.
        certain: the same at the level divided by the number of segments.
    """

    name: str
    positives: int
    gain: AnytimeT
    certain: AnytimeT


def measure_segments(paired: pd.DataFrame, segments: Sequence[str], policy: PromotionPolicy) -> tuple[SliceGain, ...]:
    """The segments with enough positives, in the order of their columns and levels.

    Args:
        paired: as in :func:`monitoring.comparison.paired.compare_paired`, with the columns of ``segments``.
        segments: columns; those that are absent are left out.
        policy: rule and level of the bounds.
    """
    series = list(_series(paired, segments))
    strict_policy = policy.model_copy(update={"alpha": policy.alpha / max(1, len(series))})
    return tuple(
        SliceGain(
            name,
            seen_positives,
            bounded_ratio(recall_gains, positives, policy),
            bounded_ratio(recall_gains, positives, strict_policy),
        )
        for name, seen_positives, recall_gains, positives in series
    )


def check_segments(
    paired: pd.DataFrame, segments: Sequence[str], policy: PromotionPolicy, margin: float
) -> Check | None:
    """Whether no segment loses more than ``margin`` of recall; none where no segment has enough positives."""
    gains = measure_segments(paired, segments, policy)
    if not gains:
        return None
    losing = [segment for segment in gains if segment.certain.high is not None and segment.certain.high < -margin]
    large_segments = [segment for segment in gains if segment.positives >= policy.min_matured_positives]
    open_segments = [segment for segment in large_segments if segment.gain.low is None or segment.gain.low < -margin]
    status: Status = "FAIL" if losing else "INSUFFICIENT" if open_segments else "PASS"
    worst = min(losing or open_segments or list(gains), key=_lower_bound)
    return Check("slices", worst.gain.low, -margin, _margin(worst, margin), status, _describe(worst, len(gains)))


def _series(paired: pd.DataFrame, segments: Sequence[str]) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Of each segment with enough positives: name, positives seen, daily gain and daily positives."""
    y = paired["y"].to_numpy() == 1
    weight = paired["weight"].to_numpy(dtype=float) if "weight" in paired else np.ones(len(paired))
    day, days = pd.factorize(paired["day"], sort=True)
    gain = weight * y * (paired["flag_b"].to_numpy(dtype=float) - paired["flag_a"].to_numpy(dtype=float))
    for column in segments:
        if column not in paired.columns:
            continue
        codes, names = segment_levels(paired[column])
        seen_positives = np.bincount(codes, weights=y & (weight > 0.0), minlength=len(names))
        cell, size = codes * len(days) + day, len(names) * len(days)
        recall_gains = np.bincount(cell, weights=gain, minlength=size).reshape(len(names), -1)
        positives = np.bincount(cell, weights=weight * y, minlength=size).reshape(len(names), -1)
        for index in np.flatnonzero(seen_positives >= MIN_POSITIVES):
            yield f"{column} = {names[index]}", int(seen_positives[index]), recall_gains[index], positives[index]


def _lower_bound(segment: SliceGain) -> float:
    return -np.inf if segment.gain.low is None else segment.gain.low


def _margin(segment: SliceGain, margin: float) -> float | None:
    return None if segment.gain.low is None else segment.gain.low + margin


def _describe(one: SliceGain, count: int) -> str:
    bounds = "no bound yet" if one.gain.low is None else f"anytime-valid {one.gain.low:.4g} to {one.gain.high:.4g}"
    return (
        f"{one.name}: {one.gain.mean:+.4g} recall, {bounds}, {one.positives} positives; the worst of {count} segments"
    )
