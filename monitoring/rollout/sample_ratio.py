"""Ramping a new model up: sticky assignment and the check of the sample ratio."""

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
