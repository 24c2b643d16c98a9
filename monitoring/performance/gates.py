"""Judge a candidate by the gates of its use case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from monitoring.core.measured import UNKNOWN, digest_of, finite
from monitoring.core.verdict import (
    Check,
    Evidence,
    Verdict,
    above_limit,
    at_least,
    at_most,
    combine_checks,
    has_at_least,
)
from monitoring.errors import UnfairWindow
from monitoring.policies import GatePolicy


def judge_gates(
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
    judged_at = as_of or (candidate.window.end if candidate.window else None)
    if judged_at is None:
        raise ValueError("judge needs the candidate's window or as_of")
    checks = tuple(check for gate in GATES for check in gate(candidate, incumbent, policy))
    reasons = tuple(_sentence(check) for check in checks if check.status != "PASS")
    return Verdict(
        kind="gate",
        outcome=combine_checks(checks),
        checks=checks,
        challenger=candidate.model,
        champion=incumbent.model if incumbent else None,
        as_of=judged_at,
        reasons=reasons or ("every gate is passed",),
        evidence_digest=digest_of((candidate, incumbent)),
    )


def _enough_rows(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    yield has_at_least("matured_rows", candidate.rows, policy.min_matured_rows, "rows with matured labels")


def _rates(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    yield _floor(candidate, "average_precision", policy.min_average_precision)
    if policy.min_auc_roc is not None:
        yield _floor(candidate, "auc_roc", policy.min_auc_roc)
    yield _floor(candidate, "recall", policy.min_recall)


def _calibration(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    error = candidate.value("calibration_error")
    yield at_most("calibration_error", error, policy.max_calibration_error, _interval(candidate, "calibration_error"))


def _serving(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    yield at_most("single_event_p99_ms", candidate.latency_p99_ms, policy.max_single_event_p99_ms, "one event")
    yield at_most("model_mb", candidate.model_mb, policy.max_model_mb, "stored model")


def _baseline(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    baseline = candidate.baseline.get("average_precision", UNKNOWN).value
    yield at_least(
        "baseline_gain", _difference(candidate.value("average_precision"), baseline), policy.min_baseline_gain,
        "average precision above the simple baseline on the same rows", strict=True,
    )  # fmt: skip


def _champion(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    if incumbent is not None:
        gain = _difference(candidate.value("average_precision"), incumbent.value("average_precision"))
        yield at_least(
            "champion_gain", gain, -policy.max_champion_loss, "average precision above the champion's on the same rows"
        )


def _profit(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    """An offer to the flagged must earn more than one to nobody, which earns 0, and more than one to everybody."""
    if policy.profit is None:
        return
    metrics, limits = candidate.metrics, policy.profit
    yield above_limit("profit_per_customer", metrics.get("profit_per_customer", UNKNOWN), limits.min_per_customer)
    if limits.min_above_everybody is not None:
        gain_over_everybody = metrics.get("profit_above_everybody", UNKNOWN)
        yield above_limit("profit_above_everybody", gain_over_everybody, limits.min_above_everybody)


def _fairness(candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy) -> Iterator[Check]:
    yield from candidate.fairness


def _floor(evidence: Evidence, name: str, limit: float) -> Check:
    return at_least(name, evidence.value(name), limit, _interval(evidence, name))


def _interval(evidence: Evidence, name: str) -> str:
    figure = evidence.metrics.get(name, UNKNOWN)
    if figure.low is None or figure.high is None:
        return ""
    return f"interval {figure.low:.4f} to {figure.high:.4f}"


def _difference(a: float | None, b: float | None) -> float | None:
    a, b = finite(a), finite(b)
    return None if a is None or b is None else a - b


def _sentence(check: Check) -> str:
    if check.value is None:
        return f"{check.name} could not be computed"
    return f"{check.name} is {check.value:.4g}, the limit is {check.threshold:.4g} ({check.status.lower()})"


def _refuse_unfair_windows(candidate: Evidence, incumbent: Evidence | None) -> None:
    window, trained_until = candidate.window, candidate.trained_until
    if window is not None and trained_until is not None and window.start < trained_until:
        raise UnfairWindow(
            f"the test window of {candidate.model} starts at {window.start}, "
            f"before its training data end at {trained_until}; test on later rows"
        )
    if incumbent is not None and incumbent.window != window:
        raise UnfairWindow(
            f"{candidate.model} and {incumbent.model} were measured on different windows; measure both on the same rows"
        )


Gate = Callable[[Evidence, Evidence | None, GatePolicy], Iterator[Check]]
"""Checks of a candidate against its limits; the champion's evidence is none where there is no champion."""
GATES: list[Gate] = [_enough_rows, _rates, _calibration, _serving, _baseline, _champion, _profit, _fairness]
"""Every gate, in the order of a verdict's checks; a new one is a function and a row here."""
