"""The watch after a promotion: when the active model must give way to the one that it replaced.

Hard guards look at the newest answers of the new version and at what the old one says about the very same
events (it keeps scoring in reverse shadow). Money is judged on matured days, by an anytime-valid bound.

A guard looks every few seconds for days, so it fails only where a 99.99 % interval (Wilson for rates, exact
for their ratio) lies beyond its limit; until then it passes, or has too little evidence.

A score that fills more than a decile has a bin of its own, else an index of rare events, most of them tied, would be
0 whatever moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from monitoring.core.measured import UNKNOWN, Measurement
from monitoring.core.verdict import Check
from monitoring.policies.watch import WatchPolicy
from monitoring.stats.anytime import anytime_t
from monitoring.stats.distances import psi_test
from monitoring.stats.intervals import wilson

__all__ = [
    "CONFIDENCE", "AlertCounts", "Answers", "ScorePair", "WatchPolicy",
    "breaches", "judge_alerts", "judge_answers", "judge_harm", "judge_scores", "rate_ratio",
]  # fmt: skip

CONFIDENCE: Final = 0.9999
_BINS: Final = 10


@dataclass(frozen=True)
class Answers:
    """How requests went since the version became champion: how many, how many failed, and how long they took."""

    requests: int = 0
    failed: int = 0
    p99_ms: float | None = None


@dataclass(frozen=True, eq=False)
class ScorePair:
    """Calibrated scores (0..1) of one version: what it gives now, and what it gave before the promotion."""

    now: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class AlertCounts:
    """Alerts among events, of the active version and of its reference.

    Attributes:
        events, alerts: of the active version.
        reference_events, reference_alerts: of the old version; on the same events where it has scored them.
        expected: ratio of the two alert rates that the comparison found; 1 without one.
    """

    events: int = 0
    alerts: int = 0
    reference_events: int = 0
    reference_alerts: int = 0
    expected: float = 1.0


def judge_answers(policy: WatchPolicy, answers: Answers) -> tuple[Check, Check]:
    """``error_rate`` and ``p99_ms`` of the active version."""
    n, limit, slowest_p99 = answers.requests, policy.max_error_rate, policy.max_p99_ms
    too_few = n < policy.min_events
    rate = wilson(answers.failed, n, CONFIDENCE)
    detail = f"{answers.failed} of {n} requests failed, below {limit:g} wanted"
    errors = _check("error_rate", rate.value, limit, rate.low is not None and rate.low >= limit, too_few, detail)
    p99 = answers.p99_ms
    detail = "not known" if p99 is None else f"{p99:.4g} ms, below {slowest_p99:g} wanted"
    too_slow = p99 is not None and not too_few and p99 >= slowest_p99
    return errors, _check("p99_ms", p99, slowest_p99, too_slow, too_few or p99 is None, detail)


def judge_alerts(policy: WatchPolicy, alerts: AlertCounts) -> tuple[Check, Check]:
    """The alert rate over the expected one, against both ends of the band."""
    low, high = policy.alert_rate_band
    ratio = rate_ratio(alerts)
    too_few = min(alerts.events, alerts.reference_events) < policy.min_events or ratio.low is None
    detail = (
        f"{alerts.alerts} alerts in {alerts.events} events, {alerts.reference_alerts} in {alerts.reference_events} "
        f"of the old version, {alerts.expected:.3g} times that expected"
    )
    below_band = not too_few and ratio.high is not None and ratio.high <= low
    above_band = not too_few and ratio.low is not None and ratio.low >= high
    return (
        _check("alert_rate_low", ratio.value, low, below_band, too_few, detail),
        _check("alert_rate_high", ratio.value, high, above_band, too_few, detail),
    )


def rate_ratio(alerts: AlertCounts) -> Measurement:
    """Ratio of the alert rates over the expected ratio, with an interval that holds at no alerts too.

    Given all alerts of both, those of the new version are binomial (Poisson counts), and Clopper and Pearson's
    limits of their share are limits of the ratio. Shared events make it wider than it need be. There is no
    upper end where the old version has no alert.
    """
    a, n, b, m = alerts.alerts, alerts.events, alerts.reference_alerts, alerts.reference_events
    if not n or not m or not a + b:
        return UNKNOWN
    tail, scale = (1.0 - CONFIDENCE) / 2.0, m / n / alerts.expected
    low = float(stats.beta.ppf(tail, a, b + 1)) if a else 0.0
    high = float(stats.beta.isf(tail, a + 1, b)) if b else 1.0
    value = a / b * scale if b else None
    return Measurement(value, low / (1.0 - low) * scale, high / (1.0 - high) * scale if high < 1.0 else None)


def judge_scores(policy: WatchPolicy, new_scores: ScorePair, old_scores: ScorePair | None = None) -> Check:
    """The scores of the active version against those that it gave in shadow.

    Where the old version's scores moved as far over the same time, the traffic changed and not the model: the
    guard then says nothing.
    """
    limit = policy.score_psi
    too_few = min(len(new_scores.now), len(new_scores.before)) < policy.min_events
    if too_few:
        return _check(
            "score_psi", None, limit, False, True, f"{len(new_scores.now)} scores, {len(new_scores.before)} before"
        )
    excess, beyond_chance = _score_shift(new_scores, limit)
    detail = f"PSI {excess:.3g} above chance against its own scores in shadow, below {limit:g} wanted"
    if (
        beyond_chance
        and old_scores is not None
        and min(len(old_scores.now), len(old_scores.before)) >= policy.min_events
    ):
        old_excess, old_beyond_chance = _score_shift(old_scores, limit)
        if old_beyond_chance:
            both_moved_detail = f"{detail}; the old version's moved too ({old_excess:.3g}): the traffic changed"
            return _check("score_psi", excess, limit, False, True, both_moved_detail)
    return _check("score_psi", excess, limit, beyond_chance, False, detail)


def judge_harm(policy: WatchPolicy, harm: ArrayLike, currency: str) -> Check:
    """Matured cost: fails when the anytime-valid lower bound of cost(new) - cost(old) a day exceeds 0.

    Args:
        policy: level and period; the bound is tightest at the end of the period.
        harm: cost of the new version less that of the old one on each matured day, oldest first.
        currency: of the costs.
    """
    test = anytime_t(harm, policy.alpha, max(2.0, policy.period.total_seconds() / 86_400))
    if test.low is None or test.high is None:
        return Check("matured_harm", None, 0.0, None, "INSUFFICIENT", f"no bound yet from {test.n} days")
    detail = f"{test.mean:.4g} {currency} a day, anytime-valid {test.low:.4g} to {test.high:.4g} from {test.n} units"
    return Check("matured_harm", test.low, 0.0, -test.low, "FAIL" if test.low > 0.0 else "PASS", detail)


def breaches(checks: Sequence[Check]) -> tuple[str, ...]:
    """Why the version must give way, in words; empty while it may stay. Missing evidence is no breach."""
    return tuple(f"{check.name}: {check.detail}" for check in checks if check.status == "FAIL")


def _score_shift(scores: ScorePair, limit: float) -> tuple[float, bool]:
    """PSI above chance over deciles of the earlier scores, and whether it passes the limit beyond chance."""
    edges = _decile_edges(scores.before)
    counts_before, current_counts = (
        np.bincount(np.searchsorted(edges, part, "left"), minlength=len(edges) + 1)
        for part in (scores.before, scores.now)
    )
    psi = psi_test(counts_before, current_counts, alpha=1.0 - CONFIDENCE)
    return psi.excess, psi.excess > limit and psi.psi > psi.critical


def _decile_edges(scores: np.ndarray) -> np.ndarray:
    """Inner edges of the deciles, each closed above; a score that fills a whole decile has a bin of its own.

    Scores of rare events are often one and the same number for nearly all: without a bin of its own that number
    would share one with whatever its events move to.
    """
    cuts = np.quantile(scores, np.linspace(0.0, 1.0, _BINS + 1)[1:-1], method="inverted_cdf")
    values, counts = np.unique(cuts, return_counts=True)
    return np.unique(np.concatenate([values, np.nextafter(values[counts > 1], -np.inf)]))


def _check(name: str, value: float | None, limit: float, failed: bool, too_few: bool, detail: str) -> Check:
    margin = None if value is None else abs(limit - value) * (-1.0 if failed else 1.0)
    return Check(name, value, limit, margin, "FAIL" if failed else "INSUFFICIENT" if too_few else "PASS", detail)
