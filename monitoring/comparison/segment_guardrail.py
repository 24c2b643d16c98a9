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

from monitoring.comparison.discordance import levels
from monitoring.comparison.paired import bounded_ratio
from monitoring.core.verdict import Check, Status
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import AnytimeT

FEWEST: Final = 30
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


def slice_gains(paired: pd.DataFrame, segments: Sequence[str], policy: PromotionPolicy) -> tuple[SliceGain, ...]:
    """The segments with enough positives, in the order of their columns and levels.

    Args:
        paired: as in :func:`monitoring.comparison.paired.compare_paired`, with the columns of ``segments``.
        segments: columns; those that are absent are left out.
        policy: rule and level of the bounds.
    """
    series = list(_series(paired, segments))
    strict = policy.model_copy(update={"alpha": policy.alpha / max(1, len(series))})
    return tuple(
        SliceGain(name, seen, bounded_ratio(gained, positives, policy), bounded_ratio(gained, positives, strict))
        for name, seen, gained, positives in series
    )


def slice_check(paired: pd.DataFrame, segments: Sequence[str], policy: PromotionPolicy, margin: float) -> Check | None:
    """Whether no segment loses more than ``margin`` of recall; none where no segment has enough positives."""
    found = slice_gains(paired, segments, policy)
    if not found:
        return None
    lost = [one for one in found if one.certain.high is not None and one.certain.high < -margin]
    large = [one for one in found if one.positives >= policy.min_matured_positives]
    open_ones = [one for one in large if one.gain.low is None or one.gain.low < -margin]
    status: Status = "FAIL" if lost else "INSUFFICIENT" if open_ones else "PASS"
    worst = min(lost or open_ones or list(found), key=_low)
    return Check("slices", worst.gain.low, -margin, _margin(worst, margin), status, _said(worst, len(found)))


def _series(paired: pd.DataFrame, segments: Sequence[str]) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Of each segment with enough positives: name, positives seen, daily gain and daily positives."""
    y = paired["y"].to_numpy() == 1
    weight = paired["weight"].to_numpy(dtype=float) if "weight" in paired else np.ones(len(paired))
    day, days = pd.factorize(paired["day"], sort=True)
    gain = weight * y * (paired["flag_b"].to_numpy(dtype=float) - paired["flag_a"].to_numpy(dtype=float))
    for column in segments:
        if column not in paired.columns:
            continue
        codes, names = levels(paired[column])
        seen = np.bincount(codes, weights=y & (weight > 0.0), minlength=len(names))
        cell, size = codes * len(days) + day, len(names) * len(days)
        gained = np.bincount(cell, weights=gain, minlength=size).reshape(len(names), -1)
        positives = np.bincount(cell, weights=weight * y, minlength=size).reshape(len(names), -1)
        for at in np.flatnonzero(seen >= FEWEST):
            yield f"{column} = {names[at]}", int(seen[at]), gained[at], positives[at]


def _low(one: SliceGain) -> float:
    return -np.inf if one.gain.low is None else one.gain.low


def _margin(one: SliceGain, margin: float) -> float | None:
    return None if one.gain.low is None else one.gain.low + margin


def _said(one: SliceGain, count: int) -> str:
    bounds = "no bound yet" if one.gain.low is None else f"anytime-valid {one.gain.low:.4g} to {one.gain.high:.4g}"
    return (
        f"{one.name}: {one.gain.mean:+.4g} recall, {bounds}, {one.positives} positives; the worst of {count} segments"
    )
