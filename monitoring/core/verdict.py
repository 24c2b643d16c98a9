"""Verdicts: what a set of figures is good enough for, check by check.

Two questions end in a :class:`Verdict`. :func:`judge` asks whether a new model may be compared at
all (``pass``, ``fail``, ``insufficient``); :func:`monitoring.comparison.judge.judge_comparison` asks
whether it may become champion (``promote``, ``keep``, ``keep_watching``). A missing or NaN figure is
``INSUFFICIENT`` and never a pass. Nothing is promoted without a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement, StoredResult, finite

Status = Literal["PASS", "FAIL", "INSUFFICIENT"]
Outcome = Literal["pass", "fail", "insufficient", "promote", "keep", "keep_watching"]


@dataclass(frozen=True)
class Check:
    """One comparison of a figure with its limit.

    Attributes:
        name: what is checked, for example ``recall``.
        value: the figure; ``None`` when it could not be computed.
        threshold: the limit; ``None`` when nothing was there to compare with.
        margin: how far the figure is on the good side (negative: on the bad side), in its unit.
        status: ``PASS``, ``FAIL`` or ``INSUFFICIENT``.
        detail: one plain sentence.
    """

    name: str
    value: float | None
    threshold: float | None
    margin: float | None
    status: Status
    detail: str = ""


@dataclass(frozen=True)
class Evidence(StoredResult):
    """What is known of one model on one window.

    Attributes:
        model: label of the version, for example ``dev-fraud/3``.
        metrics: metric name to value and interval (names as in :mod:`monitoring.performance.measure`).
        rows: rows with matured labels in training and test together.
        positives: positives of the test window.
        window: the test window.
        baseline: the same metrics of the simple baseline on the same rows.
        latency_p99_ms: 99th percentile of scoring one event, milliseconds.
        model_mb: size of the stored model, megabytes.
        trained_until: end of the training data, which must not reach into ``window``.
        fairness: comparisons of sensitive groups on the same rows (:mod:`monitoring.performance.fairness`), judged
            already.
    """

    model: str
    metrics: Mapping[str, Measurement]
    rows: int
    positives: int
    window: TimeWindow | None = None
    baseline: Mapping[str, Measurement] = field(default_factory=dict)
    latency_p99_ms: float | None = None
    model_mb: float | None = None
    trained_until: datetime | None = None
    fairness: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency_p99_ms", finite(self.latency_p99_ms))
        object.__setattr__(self, "model_mb", finite(self.model_mb))

    def value(self, name: str) -> float | None:
        """The metric's value, or ``None`` when it is absent or not a number."""
        return finite(self.metrics[name].value) if name in self.metrics else None


@dataclass(frozen=True)
class Verdict(StoredResult):
    """The frozen result of judging, with everything that was looked at.

    Attributes:
        kind: ``gate`` (may it be compared?) or ``comparison`` (may it become champion?).
        outcome: gates: ``pass``, ``fail``, ``insufficient``; comparisons: ``promote``, ``keep``, ``keep_watching``.
        checks: every check in the order it was made.
        challenger: label of the judged model.
        champion: label of the active model, or none.
        as_of: business time of the judgement.
        reasons: plain sentences that explain the outcome, the deciding one first.
        evidence_digest: SHA-256 of the evidence that was judged.
        days_needed: matured days still needed at the present effect, where that can be said.
        plan_hash: digest of the frozen plan that a comparison was judged by; empty without one.
    """

    kind: Literal["gate", "comparison"]
    outcome: Outcome
    checks: tuple[Check, ...]
    challenger: str
    champion: str | None
    as_of: datetime
    reasons: tuple[str, ...] = ()
    evidence_digest: str = ""
    days_needed: int | None = None
    plan_hash: str = ""

    @property
    def promotes(self) -> bool:
        """Whether this verdict may move ``@champion``."""
        return self.outcome == "promote"

    def check(self, name: str) -> Check:
        """The check of that name; ``KeyError`` without one."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)


def at_least(name: str, value: float | None, limit: float, detail: str = "", *, strict: bool = False) -> Check:
    """A check that the value reaches the limit (``strict``: exceeds it)."""
    figure = finite(value)
    if figure is None:
        return Check(name, None, limit, None, "INSUFFICIENT", detail or "could not be computed")
    passes = figure > limit if strict else figure >= limit
    return Check(name, figure, limit, figure - limit, "PASS" if passes else "FAIL", detail)


def at_most(name: str, value: float | None, limit: float, detail: str = "") -> Check:
    """A check that the value does not exceed the limit."""
    figure = finite(value)
    if figure is None:
        return Check(name, None, limit, None, "INSUFFICIENT", detail or "could not be computed")
    return Check(name, figure, limit, limit - figure, "PASS" if figure <= limit else "FAIL", detail)


def has_at_least(name: str, count: int, required_count: int, detail: str = "") -> Check:
    """A check of an amount of evidence: too little is ``INSUFFICIENT``, for more may come."""
    status: Status = "PASS" if count >= required_count else "INSUFFICIENT"
    return Check(name, float(count), float(required_count), float(count - required_count), status, detail)


def above_limit(name: str, figure: Measurement, limit: float) -> Check:
    """A check that a figure lies above the limit, decided by its whole interval.

    Entirely above passes, entirely at or below fails, anything else is ``INSUFFICIENT`` and never a pass.
    """
    low, high = finite(figure.low), finite(figure.high)
    if low is None or high is None:
        return Check(name, finite(figure.value), limit, None, "INSUFFICIENT", "no interval")
    status: Status = "PASS" if low > limit else "FAIL" if high <= limit else "INSUFFICIENT"
    return Check(name, finite(figure.value), limit, low - limit, status, f"interval {low:.4f} to {high:.4f}")


def combine_checks(checks: Sequence[Check]) -> Literal["pass", "fail", "insufficient"]:
    """``fail`` with any failed check, else ``insufficient`` with any that lacks evidence, else ``pass``.

    No check at all is ``insufficient``.
    """
    states = {check.status for check in checks}
    if "FAIL" in states:
        return "fail"
    return "pass" if states == {"PASS"} else "insufficient"
