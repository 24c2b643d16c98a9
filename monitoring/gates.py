"""Verdicts: what a set of figures is good enough for, check by check.

Two questions end in a :class:`Verdict`. :func:`judge` asks whether a new model may be compared at
all (``pass``, ``fail``, ``insufficient``); :func:`monitoring.comparison.judge_comparison` asks
whether it may take office (``promote``, ``keep``, ``keep_watching``). A missing or NaN figure is
``INSUFFICIENT`` and never a pass. Nothing is promoted without a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from monitoring.calendar import TimeWindow
from monitoring.errors import UnfairWindow
from monitoring.measured import UNKNOWN, Measured, Stored, digest_of, finite
from monitoring.policies import GatePolicy, ProfitPolicy

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
class Evidence(Stored):
    """What is known of one model on one window.

    Attributes:
        model: label of the version, for example ``dev-fraud/3``.
        metrics: metric name to value and interval (names as in :mod:`monitoring.performance`).
        rows: rows with matured labels in training and test together.
        positives: positives of the test window.
        window: the test window.
        baseline: the same metrics of the simple baseline on the same rows.
        latency_p99_ms: 99th percentile of scoring one event, milliseconds.
        model_mb: size of the stored model, megabytes.
        trained_until: end of the training data, which must not reach into ``window``.
        fairness: comparisons of sensitive groups on the same rows (:mod:`monitoring.fairness`), judged already.
    """

    model: str
    metrics: Mapping[str, Measured]
    rows: int
    positives: int
    window: TimeWindow | None = None
    baseline: Mapping[str, Measured] = field(default_factory=dict)
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
class Verdict(Stored):
    """The frozen result of judging, with everything that was looked at.

    Attributes:
        kind: ``gate`` (may it be compared?) or ``comparison`` (may it take office?).
        outcome: gates: ``pass``, ``fail``, ``insufficient``; comparisons: ``promote``, ``keep``, ``keep_watching``.
        checks: every check in the order it was made.
        challenger: label of the judged model.
        champion: label of the model in office, or none.
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
    known = finite(value)
    if known is None:
        return Check(name, None, limit, None, "INSUFFICIENT", detail or "could not be computed")
    good = known > limit if strict else known >= limit
    return Check(name, known, limit, known - limit, "PASS" if good else "FAIL", detail)


def at_most(name: str, value: float | None, limit: float, detail: str = "") -> Check:
    """A check that the value does not exceed the limit."""
    known = finite(value)
    if known is None:
        return Check(name, None, limit, None, "INSUFFICIENT", detail or "could not be computed")
    return Check(name, known, limit, limit - known, "PASS" if known <= limit else "FAIL", detail)


def enough(name: str, count: int, needed: int, detail: str = "") -> Check:
    """A check of an amount of evidence: too little is ``INSUFFICIENT``, for more may come."""
    status: Status = "PASS" if count >= needed else "INSUFFICIENT"
    return Check(name, float(count), float(needed), float(count - needed), status, detail)


def above_limit(name: str, figure: Measured, limit: float) -> Check:
    """A check that a figure lies above the limit, decided by its whole interval.

    Entirely above passes, entirely at or below fails, anything else is ``INSUFFICIENT`` and never a pass.
    """
    low, high = finite(figure.low), finite(figure.high)
    if low is None or high is None:
        return Check(name, finite(figure.value), limit, None, "INSUFFICIENT", "no interval")
    status: Status = "PASS" if low > limit else "FAIL" if high <= limit else "INSUFFICIENT"
    return Check(name, finite(figure.value), limit, low - limit, status, f"interval {low:.4f} to {high:.4f}")


def judge(
    candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy, *, as_of: datetime | None = None
) -> Verdict:
    """Judge a new model on its test window; the incumbent's figures must come from the same rows.

    ``as_of`` defaults to the end of the candidate's window.

    Raises:
        UnfairWindow: when the test window does not lie after the training data, or the incumbent was
            measured on other rows.
        ValueError: without a window and without ``as_of``.
    """
    _refuse_unfair_windows(candidate, incumbent)
    when = as_of or (candidate.window.end if candidate.window else None)
    if when is None:
        raise ValueError("judge needs the candidate's window or as_of")
    checks = tuple(_gate_checks(candidate, incumbent, policy))
    reasons = tuple(_sentence(check) for check in checks if check.status != "PASS")
    return Verdict(
        kind="gate",
        outcome=combine_checks(checks),
        checks=checks,
        challenger=candidate.model,
        champion=incumbent.model if incumbent else None,
        as_of=when,
        reasons=reasons or ("every gate is passed",),
        evidence_digest=digest_of((candidate, incumbent)),
    )


def combine_checks(checks: Sequence[Check]) -> Literal["pass", "fail", "insufficient"]:
    """``fail`` with any failed check, else ``insufficient`` with any that lacks evidence, else ``pass``.

    No check at all is ``insufficient``.
    """
    states = {check.status for check in checks}
    if "FAIL" in states:
        return "fail"
    return "pass" if states == {"PASS"} else "insufficient"


def _gate_checks(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    precision = candidate.value("average_precision")
    yield enough("matured_rows", candidate.rows, policy.min_matured_rows, "rows with matured labels")
    yield _floor(candidate, "average_precision", policy.min_average_precision)
    if policy.min_auc_roc is not None:
        yield _floor(candidate, "auc_roc", policy.min_auc_roc)
    yield _floor(candidate, "recall", policy.min_recall)
    error = candidate.value("calibration_error")
    yield at_most("calibration_error", error, policy.max_calibration_error, _interval(candidate, "calibration_error"))
    yield at_most("single_event_p99_ms", candidate.latency_p99_ms, policy.max_single_event_p99_ms, "one event")
    yield at_most("model_mb", candidate.model_mb, policy.max_model_mb, "stored model")
    baseline = candidate.baseline.get("average_precision", UNKNOWN).value
    yield at_least(
        "baseline_gain", _difference(precision, baseline), policy.min_baseline_gain,
        "average precision above the simple baseline on the same rows", strict=True,
    )  # fmt: skip
    if incumbent is not None:
        yield at_least(
            "champion_gain", _difference(precision, incumbent.value("average_precision")), -policy.max_champion_loss,
            "average precision above the champion's on the same rows",
        )  # fmt: skip
    if policy.profit is not None:
        yield from _profit(candidate, policy.profit)
    yield from candidate.fairness


def _profit(candidate: Evidence, policy: ProfitPolicy) -> Iterator[Check]:
    """An offer to the flagged must earn more than one to nobody, which earns 0, and more than one to everybody."""
    metrics = candidate.metrics
    yield above_limit("profit_per_customer", metrics.get("profit_per_customer", UNKNOWN), policy.min_per_customer)
    if policy.min_above_everybody is not None:
        beyond = metrics.get("profit_above_everybody", UNKNOWN)
        yield above_limit("profit_above_everybody", beyond, policy.min_above_everybody)


def _floor(evidence: Evidence, name: str, limit: float) -> Check:
    return at_least(name, evidence.value(name), limit, _interval(evidence, name))


def _interval(evidence: Evidence, name: str) -> str:
    found = evidence.metrics.get(name, UNKNOWN)
    if found.low is None or found.high is None:
        return ""
    return f"interval {found.low:.4f} to {found.high:.4f}"


def _difference(a: float | None, b: float | None) -> float | None:
    a, b = finite(a), finite(b)
    return None if a is None or b is None else a - b


def _sentence(check: Check) -> str:
    if check.value is None:
        return f"{check.name} could not be computed"
    return f"{check.name} is {check.value:.4g}, the limit is {check.threshold:.4g} ({check.status.lower()})"


def _refuse_unfair_windows(candidate: Evidence, incumbent: Evidence | None) -> None:
    window, trained = candidate.window, candidate.trained_until
    if window is not None and trained is not None and window.start < trained:
        raise UnfairWindow(
            f"the test window of {candidate.model} starts at {window.start}, "
            f"before its training data end at {trained}; test on later rows"
        )
    if incumbent is not None and incumbent.window != window:
        raise UnfairWindow(
            f"{candidate.model} and {incumbent.model} were measured on different windows; measure both on the same rows"
        )
