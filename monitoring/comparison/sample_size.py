"""How much evidence a comparison needs; how long labels take to arrive is learnt in
:mod:`monitoring.performance.label_maturity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from monitoring.comparison.simulation import SimulatedTraffic, first_day, promoting_days
from monitoring.policies.promotion import PromotionPolicy


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


@dataclass(frozen=True)
class PlannedComparison:
    """What a comparison needs under the rule in force.

    Attributes:
        effect, power: what was asked for.
        rule: ``anytime`` or ``lan_demets``.
        prevalence, discordance, events_per_day: what was assumed.
        maturity_days: how long labels take.
        positives, events: matured ones, until the power is reached; none when it never is.
        exposure_days: days in shadow that have to mature.
        calendar_days: exposure plus maturity.
        median_days: matured days after which half of such comparisons have ended.
        power_at_limit: power when the comparison ends by itself (``max_shadow_days`` less maturity).
        fixed: the textbook size of a single look at the end.
    """

    effect: float
    power: float
    rule: str
    prevalence: float
    discordance: float
    events_per_day: float
    maturity_days: float
    positives: int | None
    events: int | None
    exposure_days: int | None
    calendar_days: int | None
    median_days: int | None
    power_at_limit: float
    fixed: SampleSize


@dataclass(frozen=True)
class Traffic:
    """What is compared on.

    Attributes:
        discordance: share of the positives that only one of the models catches.
        prevalence: share of the events that are positive.
        events_per_day: events of a day.
    """

    discordance: float
    prevalence: float
    events_per_day: float


@dataclass(frozen=True)
class Simulation:
    """How many comparisons are simulated, over how many days at most."""

    trials: int = 2000
    horizon: int = 730
    seed: int = 7


def plan_under_rule(
    effect: float,
    traffic: Traffic,
    policy: PromotionPolicy,
    *,
    maturity_days: float = 0.0,
    power: float = 0.8,
    simulation: Simulation | None = None,
) -> PlannedComparison:
    """How long the rule of the policy takes to see an effect, by simulating comparisons.

    The recall checks decide: a lower bound above zero (or the margin), a point estimate that is worth
    it, the minimum of days and positives.

    Raises:
        ValueError: an effect outside 0..1 or larger than the discordance, shares outside 0..1, no traffic.
    """
    discordance, prevalence, events_per_day = traffic.discordance, traffic.prevalence, traffic.events_per_day
    simulation = simulation or Simulation()
    _check_inputs(effect, discordance, prevalence, events_per_day, power)
    per_day = prevalence * events_per_day
    fixed_size = plan_comparison(
        effect, discordance, prevalence,
        events_per_day=events_per_day, maturity_days=maturity_days, alpha=policy.alpha, power=power,
    )  # fmt: skip
    days = min(
        simulation.horizon,
        max(policy.max_shadow_days, policy.min_matured_days, 8 * (fixed_size.exposure_days or 0)) + 30,
    )
    positives, recall_gains = SimulatedTraffic(per_day, discordance, effect).draw(
        simulation.trials, days, simulation.seed
    )
    promotion_day = first_day(promoting_days(positives, recall_gains, policy))
    power_by_day = np.array([np.mean((promotion_day > 0) & (promotion_day <= day)) for day in range(1, days + 1)])
    exposure = _first_reaching_day(power_by_day >= power)
    limit = max(0, math.floor(policy.max_shadow_days - maturity_days))
    return PlannedComparison(
        effect, power, policy.method, prevalence, discordance, events_per_day, maturity_days,
        positives=None if exposure is None else math.ceil(exposure * per_day),
        events=None if exposure is None else math.ceil(exposure * events_per_day),
        exposure_days=exposure,
        calendar_days=None if exposure is None else math.ceil(exposure + maturity_days),
        median_days=_first_reaching_day(power_by_day >= 0.5),
        power_at_limit=float(power_by_day[min(limit, days) - 1]) if limit else 0.0,
        fixed=fixed_size,
    )  # fmt: skip


def _first_reaching_day(is_reached: np.ndarray) -> int | None:
    return int(is_reached.argmax()) + 1 if is_reached.any() else None


def _check_inputs(effect: float, discordance: float, prevalence: float, events_per_day: float, power: float) -> None:
    if not 0.0 < effect < 1.0:
        raise ValueError(f"the effect is a gain in recall between 0 and 1, such as 0.02; found {effect:.4g}")
    if not effect <= discordance <= 1.0:
        raise ValueError(
            f"an effect of {effect:.4g} needs a discordance between it and 1, found {discordance:.4g}: "
            "whoever catches so many more decides at least as many differently"
        )
    if not 0.0 < prevalence < 1.0 or not 0.0 < power < 1.0:
        raise ValueError(f"prevalence and power are shares between 0 and 1, found {prevalence:.4g} and {power:.4g}")
    if not events_per_day > 0.0:
        raise ValueError("a comparison needs events: there are none a day")
