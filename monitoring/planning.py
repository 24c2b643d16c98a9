"""How much evidence a comparison needs, and how long labels take to arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


@dataclass(frozen=True)
class SampleSize:
    """Positives and events for one comparison, and the days they take.

    Attributes:
        positives: matured positives.
        events: events at the given prevalence.
        exposure_days: days in shadow at the given traffic.
        calendar_days: exposure plus maturity.
    """

    positives: int
    events: int
    exposure_days: int | None
    calendar_days: int | None


def positives_needed(effect: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Paired positives for a recall difference ``effect`` when ``discordance`` of them are told apart.

    n = (z_{a/2} sqrt(psi) + z_b sqrt(psi - D^2))^2 / D^2 (Connor 1987).

    Raises:
        ValueError: when the effect is zero or larger than the discordance allows.
    """
    if not 0.0 < abs(effect) <= discordance:
        raise ValueError(f"an effect of {effect} needs a discordance between it and 1, found {discordance}")
    z_a, z_b = float(special.ndtri(1 - alpha / 2)), float(special.ndtri(power))
    root = z_a * math.sqrt(discordance) + z_b * math.sqrt(discordance - effect * effect)
    return math.ceil(root * root / (effect * effect))


def plan_comparison(
    effect: float,
    discordance: float,
    prevalence: float,
    *,
    events_per_day: float | None = None,
    maturity_days: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> SampleSize:
    """Positives, events and calendar days before a comparison can be expected to end."""
    positives = positives_needed(effect, discordance, alpha, power)
    events = math.ceil(round(positives / prevalence, 6))
    if not events_per_day:
        return SampleSize(positives, events, None, None)
    exposure = math.ceil(events / events_per_day)
    return SampleSize(positives, events, exposure, math.ceil(exposure + maturity_days))


def exponential_maturity(mean_days: float, share: float = 0.95) -> float:
    """Days after which ``share`` of labels have arrived when delays are exponential."""
    return -mean_days * math.log1p(-share)


def arrival_curve(delays_days: ArrayLike, ages_days: ArrayLike) -> np.ndarray:
    """Share of labels that had arrived at each age, from the delays of old, complete cohorts.

    Only cohorts whose every label is in may enter; young ones would make labels look fast.
    """
    delays = np.sort(np.asarray(delays_days, dtype=float))
    if not len(delays):
        return np.full(len(np.asarray(ages_days)), np.nan)
    return np.searchsorted(delays, np.asarray(ages_days, dtype=float), side="right") / len(delays)


def maturity_point(delays_days: ArrayLike, share: float = 0.95) -> float | None:
    """The age by which ``share`` of the labels of complete cohorts had arrived; ``None`` without any."""
    delays = np.asarray(delays_days, dtype=float)
    return float(np.quantile(delays, share, method="inverted_cdf")) if len(delays) else None
