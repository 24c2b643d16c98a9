"""The guard of a ramp: conditions on the challenger's arm that must hold before it gets more traffic.

A guard is text, ``error_rate<0.01,p99_ms<100,alert_rate_ratio<1.5,min_events=200``:

error_rate        share of the challenger arm's events at which its model failed and the champion answered
alert_rate_ratio  alert rate of the challenger's arm over that of the champion's; ``>`` gives a lower limit
alert_rate        alert rate of the challenger's arm
p99_ms            99th percentile of the time that the challenger takes for its part of a batch
min_events        events of the challenger's arm before any of these is believed (100 unless said)

A figure on the wrong side of its limit is a breach once its 99 % interval lies there too (Wilson for
rates, Katz for the ratio), however few the events are; until then it is no evidence, and the ramp waits.

Beside them a sample-ratio mismatch (p < .001, over units) is always a breach: something else than the
hash decides who is in which arm, and no comparison of the arms means anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from monitoring.core.measured import UNKNOWN, Measurement
from monitoring.core.verdict import Check
from monitoring.errors import GuardError
from monitoring.stats.intervals import wilson, z_value

GuardVerdict = Literal["holds", "breached", "waits"]
FIGURES: Final = ("error_rate", "alert_rate_ratio", "alert_rate", "p99_ms")
DEFAULT_GUARD: Final = "error_rate<0.01,p99_ms<100,alert_rate_ratio<1.5,alert_rate_ratio>0.5"
MISMATCH_P: Final = 0.001
_CONFIDENCE: Final = 0.99
"""A ramp looks every few seconds: a bound that is often wrong would return good models."""
_LEAST_EXPECTED: Final = 5.0
_CONDITION: Final = re.compile(r"(\w+)\s*([<>=])\s*([0-9.eE+-]+)")


@dataclass(frozen=True)
class GuardCondition:
    """One limit: a figure must stay below (``<``) or above (``>``) it."""

    figure: str
    sign: Literal["<", ">"]
    limit: float


@dataclass(frozen=True)
class Guard:
    """Conditions, and how many events make them believable."""

    conditions: tuple[GuardCondition, ...]
    min_events: int = 100


@dataclass(frozen=True)
class ArmFigures:
    """What the log says about one arm under one routing policy.

    Attributes:
        name: of the arm.
        challenger: whether the challenger answers it.
        share: of the units that the policy gives it.
        events: answered events.
        alerts: flagged ones.
        failures: those at which the challenger failed, so that the champion answered.
        units: different entities.
    """

    name: str
    challenger: bool
    share: float
    events: int = 0
    alerts: int = 0
    failures: int = 0
    units: int = 0


@dataclass(frozen=True)
class Ratio:
    """The sample-ratio check over units; ``p`` is none while too few units are there."""

    chi2: float | None
    p: float | None

    @property
    def mismatch(self) -> bool:
        """Whether the shares are not those that were planned."""
        return self.p is not None and self.p < MISMATCH_P


def parse_guard(text: str) -> Guard:
    """Read a guard; empty text is no condition at all.

    Raises:
        GuardError: naming the part that cannot be read.
    """
    conditions, min_events = [], 100
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        match = _CONDITION.fullmatch(part)
        try:
            if match is None:
                raise ValueError
            name, sign, limit = match[1], match[2], float(match[3])
            if not math.isfinite(limit) or limit < 0:
                raise ValueError
            if (name, sign) == ("min_events", "="):
                min_events = max(1, int(limit))
            elif name in FIGURES and sign in "<>":
                conditions.append(GuardCondition(name, "<" if sign == "<" else ">", limit))
            else:
                raise ValueError
        except ValueError as exc:
            figure_names = ", ".join(FIGURES)
            raise GuardError(f"{part!r} is no condition; write for example error_rate<0.01 ({figure_names})") from exc
    return Guard(tuple(conditions), min_events)


def check_sample_ratio(arms: Sequence[ArmFigures]) -> Ratio:
    """Chi-square test that the units went to the arms in their shares, with one degree less than arms."""
    units = sum(arm.units for arm in arms)
    arms_with_share = [arm for arm in arms if arm.share > 0]
    if any(arm.units for arm in arms if arm.share <= 0):
        return Ratio(math.inf, 0.0)
    expected = [units * arm.share for arm in arms_with_share]
    if len(arms_with_share) < 2 or min(expected, default=0.0) < _LEAST_EXPECTED:
        return Ratio(None, None)
    chi2 = sum(
        (arm.units - expected_units) ** 2 / expected_units
        for arm, expected_units in zip(arms_with_share, expected, strict=True)
    )
    from scipy import stats

    return Ratio(chi2, float(stats.chi2.sf(chi2, len(arms_with_share) - 1)))


def judge_guard(guard: Guard, arms: Sequence[ArmFigures], p99_ms: float | None) -> list[Check]:
    """Every condition against the figures, and the sample ratio.

    Args:
        guard: what must hold.
        arms: figures of all arms under the present policy.
        p99_ms: the slowest replica's; none where no replica said it.
    """
    events = sum(arm.events for arm in arms if arm.challenger)
    values = challenger_figures(arms) | {"p99_ms": Measurement(p99_ms, p99_ms, p99_ms)}
    checks = [_check(condition, values[condition.figure], events, guard.min_events) for condition in guard.conditions]
    ratio = check_sample_ratio(arms)
    checks.append(
        Check(
            "sample_ratio_p", ratio.p, MISMATCH_P, None if ratio.p is None else ratio.p - MISMATCH_P,
            "FAIL" if ratio.mismatch else "PASS",
            "too few units to tell" if ratio.p is None else f"{sum(arm.units for arm in arms)} units",
        )
    )  # fmt: skip
    return checks


def challenger_figures(arms: Sequence[ArmFigures]) -> dict[str, Measurement]:
    """``error_rate``, ``alert_rate`` and ``alert_rate_ratio`` of the challenger's side, with their intervals."""
    challenger_arms = [arm for arm in arms if arm.challenger]
    other_arms = [arm for arm in arms if not arm.challenger]
    events, alerts = sum(arm.events for arm in challenger_arms), sum(arm.alerts for arm in challenger_arms)
    other_events, other_alerts = sum(arm.events for arm in other_arms), sum(arm.alerts for arm in other_arms)
    return {
        "error_rate": wilson(sum(arm.failures for arm in challenger_arms), events, _CONFIDENCE),
        "alert_rate": wilson(alerts, events, _CONFIDENCE),
        "alert_rate_ratio": _ratio(alerts, events, other_alerts, other_events),
    }


def _ratio(alerts: int, events: int, control_alerts: int, control_events: int) -> Measurement:
    """Ratio of two rates with Katz's interval; half an alert is added to both sides where one has none."""
    if not events or not control_events:
        return UNKNOWN
    a, n, b, m = float(alerts), float(events), float(control_alerts), float(control_events)
    if not alerts or not control_alerts:
        a, n, b, m = a + 0.5, n + 0.5, b + 0.5, m + 0.5
    spread = z_value(_CONFIDENCE) * math.sqrt(1 / a - 1 / n + 1 / b - 1 / m)
    middle = math.log((a / n) / (b / m))
    value = (alerts / events) / (control_alerts / control_events) if control_alerts else None
    return Measurement(value, math.exp(middle - spread), math.exp(middle + spread))


def guard_verdict(checks: Sequence[Check]) -> GuardVerdict:
    """``breached`` when one check fails, ``waits`` when one cannot be answered yet, else ``holds``."""
    statuses = {check.status for check in checks}
    if "FAIL" in statuses:
        return "breached"
    return "waits" if "INSUFFICIENT" in statuses else "holds"


def reasons_of(checks: Sequence[Check], status: str) -> list[str]:
    """Sentences of the checks with a status."""
    return [f"{check.name}: {check.detail}" for check in checks if check.status == status]


def to_json(arms: Sequence[ArmFigures]) -> list[Mapping[str, object]]:
    """Figures of all arms as plain JSON."""
    return [
        {
            "arm": arm.name, "role": "challenger" if arm.challenger else "champion", "share": arm.share,
            "n": arm.events, "alerts": arm.alerts, "alert_rate": _rate([arm]), "failures": arm.failures,
            "units": arm.units,
        }
        for arm in arms
    ]  # fmt: skip


def _rate(arms: Sequence[ArmFigures]) -> float | None:
    events = sum(arm.events for arm in arms)
    return sum(arm.alerts for arm in arms) / events if events else None


def _check(condition: GuardCondition, measured: Measurement, events: int, min_events: int) -> Check:
    limit, below, value = condition.limit, condition.sign == "<", measured.value
    wanted_side = f"{'below' if below else 'above'} {limit:g} wanted"
    bound = measured.low if below else measured.high
    if bound is not None and (bound >= limit if below else bound <= limit):
        figure = bound if value is None else value
        return Check(condition.figure, value, limit, -abs(figure - limit), "FAIL", f"{figure:.4g}, {wanted_side}")
    if events < min_events:
        return Check(
            condition.figure, value, limit, None, "INSUFFICIENT", f"{events} of {min_events} events; {wanted_side}"
        )
    if value is None:
        return Check(condition.figure, None, limit, None, "INSUFFICIENT", f"not known; {wanted_side}")
    margin = limit - value if below else value - limit
    if margin <= 0:
        return Check(
            condition.figure, value, limit, margin, "INSUFFICIENT", f"{value:.4g}, {wanted_side}; not yet certain"
        )
    return Check(condition.figure, value, limit, margin, "PASS", f"{value:.4g}, {wanted_side}")
