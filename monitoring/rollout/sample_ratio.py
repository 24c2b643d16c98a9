"""Ramping a new model up: sticky assignment, sample-ratio check, stop rule."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RatioCheck:
    """Whether the shares of units are those that were planned; ``mismatch`` at p < .001."""

    chi2: float
    p: float
    mismatch: bool


def sticky_hash(salt: str, unit: str) -> int:
    """The 64-bit number of a unit under a salt; the unit is the customer, not the transaction."""
    return int(hashlib.sha256(f"{salt}:{unit}".encode()).hexdigest()[:16], 16)


def sticky_share(salt: str, unit: str) -> float:
    """The unit's place in 0..1. It is in the canary when below the canary's share, so shares nest."""
    return sticky_hash(salt, unit) / 2**64


def sample_ratio(control: int, canary: int, share: float) -> RatioCheck:
    """Chi-square test that ``share`` of the units went to the canary. Count units, not events."""
    total = control + canary
    expected = (total * (1.0 - share), total * share)
    chi2 = (control - expected[0]) ** 2 / expected[0] + (canary - expected[1]) ** 2 / expected[1]
    # The upper tail of chi-square with one degree of freedom; serving imports this module, and no scipy.
    p = math.erfc(math.sqrt(chi2 / 2.0))
    return RatioCheck(chi2, p, p < 0.001)


def harm_z(bad_new: int, n_new: int, bad_old: int, n_old: int, margin: float) -> float:
    """Score statistic of "the new rate exceeds the old by at least ``margin``".

    Small enough (its lower-tail p below the level) means harm is ruled out and the ramp may advance.
    The variance uses the restricted estimates under the margin (Farrington and Manning 1990). It is a single look, with
    its worked example: a running ramp looks every few seconds and goes by the bounds of
    :mod:`monitoring.rollout.ramp_guard`.
    """
    new, old = bad_new / n_new, bad_old / n_old
    p_new, p_old = _restricted(new, n_new, old, n_old, margin)
    variance = p_new * (1 - p_new) / n_new + p_old * (1 - p_old) / n_old
    return (new - old - margin) / math.sqrt(variance)


def _restricted(new: float, n_new: int, old: float, n_old: int, margin: float) -> tuple[float, float]:
    """Maximum-likelihood rates with new - old = margin, the root of Farrington and Manning's cubic."""
    ratio = n_old / n_new
    a = 1 + ratio
    b = -(1 + ratio + new + ratio * old + margin * (ratio + 2))
    c = margin**2 + margin * (2 * new + ratio + 1) + new + ratio * old
    d = -new * margin * (1 + margin)
    v = b**3 / (3 * a) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    u = math.copysign(math.sqrt(max(0.0, b**2 / (3 * a) ** 2 - c / (3 * a))), v)
    angle = 0.0 if u == 0.0 else (math.pi + math.acos(max(-1.0, min(1.0, v / u**3)))) / 3
    p_new = 2 * u * math.cos(angle) - b / (3 * a)
    return p_new, p_new - margin
