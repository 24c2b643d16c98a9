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

from monitoring.core.measured import UNKNOWN, Measured
from monitoring.core.verdict import Check
from monitoring.errors import GuardError
from monitoring.stats.intervals import wilson, z_value

Verdict = Literal["holds", "breached", "waits"]
FIGURES: Final = ("error_rate", "alert_rate_ratio", "alert_rate", "p99_ms")
DEFAULT_GUARD: Final = "error_rate<0.01,p99_ms<100,alert_rate_ratio<1.5,alert_rate_ratio>0.5"
MISMATCH_P: Final = 0.001
_CONFIDENCE: Final = 0.99
"""A ramp looks every few seconds: a bound that is often wrong would return good models."""
_LEAST_EXPECTED: Final = 5.0
_TERM: Final = re.compile(r"(\w+)\s*([<>=])\s*([0-9.eE+-]+)")


@dataclass(frozen=True)
class Condition:
    """One limit: a figure must stay below (``<``) or above (``>``) it."""

    figure: str
    sign: Literal["<", ">"]
    limit: float


@dataclass(frozen=True)
class Guard:
    """Conditions, and how many events make them believable."""

    conditions: tuple[Condition, ...]
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
    conditions, least = [], 100
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        found = _TERM.fullmatch(part)
        try:
            if found is None:
                raise ValueError
            name, sign, limit = found[1], found[2], float(found[3])
            if not math.isfinite(limit) or limit < 0:
                raise ValueError
            if (name, sign) == ("min_events", "="):
                least = max(1, int(limit))
            elif name in FIGURES and sign in "<>":
                conditions.append(Condition(name, "<" if sign == "<" else ">", limit))
            else:
                raise ValueError
        except ValueError as exc:
            known = ", ".join(FIGURES)
            raise GuardError(f"{part!r} is no condition; write for example error_rate<0.01 ({known})") from exc
    return Guard(tuple(conditions), least)


def sample_ratio_of(arms: Sequence[ArmFigures]) -> Ratio:
    """Chi-square test that the units went to the arms in their shares, with one degree less than arms."""
    units = sum(arm.units for arm in arms)
    planned = [arm for arm in arms if arm.share > 0]
    if any(arm.units for arm in arms if arm.share <= 0):
        return Ratio(math.inf, 0.0)
    expected = [units * arm.share for arm in planned]
    if len(planned) < 2 or min(expected, default=0.0) < _LEAST_EXPECTED:
        return Ratio(None, None)
    chi2 = sum((arm.units - e) ** 2 / e for arm, e in zip(planned, expected, strict=True))
    from scipy import stats

    return Ratio(chi2, float(stats.chi2.sf(chi2, len(planned) - 1)))


def judge_guard(guard: Guard, arms: Sequence[ArmFigures], p99_ms: float | None) -> list[Check]:
    """Every condition against the figures, and the sample ratio.

    Args:
        guard: what must hold.
        arms: figures of all arms under the present policy.
        p99_ms: the slowest replica's; none where no replica said it.
    """
    events = sum(arm.events for arm in arms if arm.challenger)
    values = figures_of(arms) | {"p99_ms": Measured(p99_ms, p99_ms, p99_ms)}
    checks = [_check(condition, values[condition.figure], events, guard.min_events) for condition in guard.conditions]
    ratio = sample_ratio_of(arms)
    checks.append(
        Check(
            "sample_ratio_p", ratio.p, MISMATCH_P, None if ratio.p is None else ratio.p - MISMATCH_P,
            "FAIL" if ratio.mismatch else "PASS",
            "too few units to tell" if ratio.p is None else f"{sum(arm.units for arm in arms)} units",
        )
    )  # fmt: skip
    return checks


def figures_of(arms: Sequence[ArmFigures]) -> dict[str, Measured]:
    """``error_rate``, ``alert_rate`` and ``alert_rate_ratio`` of the challenger's side, with their intervals."""
    ours = [arm for arm in arms if arm.challenger]
    theirs = [arm for arm in arms if not arm.challenger]
    events, alerts = sum(arm.events for arm in ours), sum(arm.alerts for arm in ours)
    control, flagged = sum(arm.events for arm in theirs), sum(arm.alerts for arm in theirs)
    return {
        "error_rate": wilson(sum(arm.failures for arm in ours), events, _CONFIDENCE),
        "alert_rate": wilson(alerts, events, _CONFIDENCE),
        "alert_rate_ratio": _ratio(alerts, events, flagged, control),
    }


def _ratio(alerts: int, events: int, flagged: int, control: int) -> Measured:
    """Ratio of two rates with Katz's interval; half an alert is added to both sides where one has none."""
    if not events or not control:
        return UNKNOWN
    a, n, b, m = float(alerts), float(events), float(flagged), float(control)
    if not alerts or not flagged:
        a, n, b, m = a + 0.5, n + 0.5, b + 0.5, m + 0.5
    spread = z_value(_CONFIDENCE) * math.sqrt(1 / a - 1 / n + 1 / b - 1 / m)
    middle = math.log((a / n) / (b / m))
    value = (alerts / events) / (flagged / control) if flagged else None
    return Measured(value, math.exp(middle - spread), math.exp(middle + spread))


def verdict_of(checks: Sequence[Check]) -> Verdict:
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


def _check(condition: Condition, found: Measured, events: int, least: int) -> Check:
    limit, below, value = condition.limit, condition.sign == "<", found.value
    words = f"{'below' if below else 'above'} {limit:g} wanted"
    edge = found.low if below else found.high
    if edge is not None and (edge >= limit if below else edge <= limit):
        shown = edge if value is None else value
        return Check(condition.figure, value, limit, -abs(shown - limit), "FAIL", f"{shown:.4g}, {words}")
    if events < least:
        return Check(condition.figure, value, limit, None, "INSUFFICIENT", f"{events} of {least} events; {words}")
    if value is None:
        return Check(condition.figure, None, limit, None, "INSUFFICIENT", f"not known; {words}")
    margin = limit - value if below else value - limit
    if margin <= 0:
        return Check(condition.figure, value, limit, margin, "INSUFFICIENT", f"{value:.4g}, {words}; not yet certain")
    return Check(condition.figure, value, limit, margin, "PASS", f"{value:.4g}, {words}")
