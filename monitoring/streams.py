"""Change detectors of a stream, as single formulas.

They are the published formulas with their worked examples, tested to the digits. The lines of a report come from
river's detectors (:mod:`monitoring.stats.change_detection`), which look at a whole stream; neither may alert.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class DdmLevels:
    """Error rates at which DDM warns and declares drift."""

    warning: float
    drift: float


def page_hinkley(values: Iterable[float], delta: float = 0.005) -> float:
    """The Page-Hinkley statistic after the last value: how far the sum rose above its minimum.

    Each value is compared with the running mean that includes it, less the tolerance ``delta``.
    """
    total = lowest = mean = 0.0
    for n, value in enumerate(values, start=1):
        mean += (value - mean) / n
        total += value - mean - delta
        lowest = min(lowest, total)
    return total - lowest


def ddm_levels(error_rate: float, n: int) -> DdmLevels:
    """Levels of the drift detection method for the lowest error rate seen after ``n`` values.

    Two and three standard deviations above it (Gama and others 2004).
    """
    sd = math.sqrt(error_rate * (1.0 - error_rate) / n)
    return DdmLevels(error_rate + 2.0 * sd, error_rate + 3.0 * sd)


def adwin_cut(n0: int, n1: int, variance: float, delta: float = 0.002) -> float:
    """The difference of means of two sub-windows at which ADWIN drops the older one.

    sqrt(2/m s^2 ln(2/d')) + 2/(3m) ln(2/d') with the harmonic m = 1/(1/n0 + 1/n1) and
    d' = delta/ln(n0 + n1) (Bifet and Gavalda 2007).
    """
    m = 1.0 / (1.0 / n0 + 1.0 / n1)
    log = math.log(2.0 * math.log(n0 + n1) / delta)
    return math.sqrt(2.0 / m * variance * log) + 2.0 / (3.0 * m) * log
