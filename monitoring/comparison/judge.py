"""From a paired comparison to a verdict: promote, keep, or keep watching.

Promotion needs every check (an intersection-union test, so the level is not split over them). A
check whose bound has not got there yet is ``INSUFFICIENT``: the comparison goes on. A check whose
bound rules the goal out is ``FAIL``: the champion stays, once there is the minimum of evidence. So it
does after ``max_shadow_days``.

Where labels are missing each check is made at its own extremes: a worst case for the money is not one for the
false-positive rate.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd

from monitoring.comparison.daily_series import FrozenDay, PairedDay
from monitoring.comparison.paired import PairedResult, bounded_mean, compare_paired, with_series
from monitoring.comparison.plan import ComparisonPlan
from monitoring.comparison.segment_guardrail import slice_check
from monitoring.core.verdict import Check, Outcome, Status, Verdict, at_most, combine_checks, enough
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import AnytimeT, days_needed
from monitoring.stats.group_sequential import boundaries, next_decision_day
from monitoring.stats.label_weights import NOT_IDENTIFIED


@dataclass(frozen=True)
class Judged:
    """A comparison by its frozen plan: what was found, and the verdict."""

    result: PairedResult
    verdict: Verdict


def judge_plan(
    plan: ComparisonPlan,
    rows: pd.DataFrame,
    frozen: Sequence[FrozenDay],
    *,
    as_of: datetime,
    guards: Sequence[Check] = (),
    repetitions: int = 2000,
    seed: int = 7,
) -> Judged:
    """Judge matured rows by a plan alone: the same arguments give the same verdict, bit for bit.

    Args:
        plan: the frozen plan.
        rows: what :func:`monitoring.comparison.paired.compare_paired` takes, from the plan's first day on, with
            the columns of ``plan.columns``.
        frozen: days that were judged before, as they were frozen.
        as_of: business time of the verdict.
        guards: further checks that must pass.
        repetitions, seed: of the appendix's bootstrap.
    """
    policy, calendar = plan.promotion_policy, plan.calendar
    result = compare_paired(
        rows, plan.cost_model, policy,
        champion=plan.champion, challenger=plan.challenger, as_of=as_of, entity=plan.entity, top_k=plan.top_k,
        cost_cap=math.inf if plan.cost_cap is None else plan.cost_cap, repetitions=repetitions, seed=seed,
        frozen=frozen, alert_rate=plan.alert_rate, segments=plan.segments, amount=plan.amount,
    )  # fmt: skip
    waited = max(0, (calendar.day_of(as_of) - plan.first_day).days)
    guards = (*guards, *_slices(plan, rows, result, policy))
    told: dict[str, Any] = {"guards": guards, "shadow_days": waited, "plan_hash": plan.digest}
    if not result.unseen:
        return Judged(result, judge_comparison(result, policy, **told))
    # The figures shown are those of the bad case; what is frozen stays as it was seen.
    bad, checks = bounded(result, policy, plan.cost_model.false_positive)
    shown = replace(bad, series=result.series)
    return Judged(shown, replace(judge_comparison(bad, policy, checks=checks, **told), evidence_digest=shown.digest))


def _slices(
    plan: ComparisonPlan, rows: pd.DataFrame, result: PairedResult, policy: PromotionPolicy
) -> tuple[Check, ...]:
    """The guardrail of segments, where the plan has it and every label of theirs is known."""
    # Plans that were frozen before there was this guardrail do not have the option.
    margin = plan.promotion.get("slice_recall_margin")
    if margin is None or rows.empty or result.unseen:
        return ()
    found = slice_check(rows, plan.segments, policy, float(margin))
    return () if found is None else (found,)


def bounded(
    result: PairedResult, policy: PromotionPolicy, false_alarm: float
) -> tuple[PairedResult, tuple[Check, ...]]:
    """The comparison in the challenger's bad case, and the checks on which every extreme agrees (Manski bounds)."""
    cases = [
        with_series(result, [bounded_day(day, false_alarm, good=good, shared=shared) for day in result.series], policy)
        for good, shared in CORNERS
    ]
    signs = {"cost_saving": [c.saving.mean for c in cases], "recall_gain": [c.recall_gain.mean for c in cases]}
    opposed = [name for name, means in signs.items() if _opposed(means)]
    checks = [comparison_checks(case, policy) for case in cases]
    return cases[0], agreed_checks(checks, result.unseen, opposed)


def _opposed(means: Sequence[float | None]) -> bool:
    known = [mean for mean in means if mean is not None]
    return len(known) < len(means) or min(known) <= 0.0 < max(known)


def judge_comparison(
    result: PairedResult,
    policy: PromotionPolicy,
    *,
    guards: Sequence[Check] = (),
    shadow_days: int | None = None,
    plan_hash: str = "",
    checks: Sequence[Check] | None = None,
) -> Verdict:
    """The verdict on a challenger.

    Args:
        result: of :func:`monitoring.comparison.paired.compare_paired`.
        policy: minimum evidence, required gain or margin, guardrails.
        guards: further checks that must pass (latency, slices, ...).
        shadow_days: days since the comparison began; the matured days when not given.
        plan_hash: digest of the frozen plan behind ``policy``.
        checks: made already, instead of :func:`comparison_checks`.

    Raises:
        ValueError: when champion and challenger are the same version.
    """
    if result.champion == result.challenger:
        raise ValueError(f"{result.champion} cannot be compared with itself")
    checks = (*(comparison_checks(result, policy) if checks is None else checks), *guards)
    waited = result.days if shadow_days is None else shadow_days
    outcome = _outcome(checks, result, policy, waited)
    needed = expected_days(result, policy) if outcome == "keep_watching" else None
    return Verdict(
        kind="comparison",
        outcome=outcome,
        checks=checks,
        challenger=result.challenger,
        champion=result.champion,
        as_of=result.as_of,
        reasons=_reasons(result, policy, checks, outcome, needed, waited),
        evidence_digest=result.digest,
        days_needed=needed,
        plan_hash=plan_hash,
    )


def comparison_checks(result: PairedResult, policy: PromotionPolicy) -> tuple[Check, ...]:
    """The checks that decide, each with the bound it looked at."""
    margin = policy.recall_non_inferiority_margin
    floor = 0.0 if margin is None else -margin
    return (
        enough("matured_days", result.days, policy.min_matured_days, "days whose labels have all matured"),
        enough("matured_positives", result.positives, policy.min_matured_positives, "positives on those days"),
        _above("cost_saving", result.saving, 0.0, f"{result.currency} a day"),
        _above("recall_gain", result.recall_gain, floor, "recall"),
        _point(result.recall_gain, policy.required_recall_gain),
        _below("false_positive_rate_rise", result.false_positive_rate_rise, policy.max_false_positive_rate_increase),
        _errors(result, policy),
    )


def expected_days(result: PairedResult, policy: PromotionPolicy) -> int | None:
    """Matured days still needed if mean and spread stay as they are; ``None`` when never."""
    if not result.days:
        return None
    margin = policy.recall_non_inferiority_margin or 0.0
    gained = result.column("tp_b") - result.column("tp_a") + margin * result.column("positives")
    waits = [_wait(test, result.days, policy) for test in (result.saving, bounded_mean(gained, policy))]
    point = result.recall_gain.mean
    if point is None or point < policy.required_recall_gain:
        return None
    rise, limit = result.false_positive_rate_rise, policy.max_false_positive_rate_increase
    if rise.high is None or rise.high > limit:
        negatives = result.column("rows") - result.column("positives")
        spare = limit * negatives - (result.column("fp_b") - result.column("fp_a"))
        wait = _wait(bounded_mean(spare, policy), result.days, policy)
        waits.append(None if wait is None else max(wait, rise.block))
    per_day = result.positives / result.days
    waits.append(max(0, policy.min_matured_days - result.days))
    waits.append(max(0, -int(-(policy.min_matured_positives - result.positives) // per_day)))
    known = [wait for wait in waits if wait is not None]
    return max(known) if len(known) == len(waits) else None


def _wait(test: AnytimeT, days: int, policy: PromotionPolicy) -> int | None:
    """Days until the rule's lower bound passes zero at the present effect."""
    if policy.method == "anytime":
        return days_needed(test)
    if test.low is not None and test.low > 0.0:
        return 0
    if test.mean is None or test.sd is None or test.mean <= 0.0:
        return None
    effect = test.mean / test.sd
    for day, bound in zip(policy.decision_days, boundaries(policy.decision_days, policy.alpha), strict=True):
        if day > days and math.sqrt(day // test.block) * effect > bound:
            return day - days
    return None


def _outcome(checks: Sequence[Check], result: PairedResult, policy: PromotionPolicy, waited: int) -> Outcome:
    found = combine_checks(checks)
    if found == "pass":
        return "promote"
    spent = policy.method == "lan_demets" and next_decision_day(result.days, policy.decision_days) is None
    if waited >= policy.max_shadow_days or spent:
        return "keep"
    judged = result.days >= policy.min_matured_days and result.positives >= policy.min_matured_positives
    return "keep" if found == "fail" and judged else "keep_watching"


def _above(name: str, test: AnytimeT, limit: float, unit: str) -> Check:
    """Passes when the lower bound exceeds ``limit``; fails when the upper one lies below it."""
    if test.low is None or test.high is None:
        return Check(name, None, limit, None, "INSUFFICIENT", _bounds(test, unit))
    status: Status = "PASS" if test.low > limit else "FAIL" if test.high < limit else "INSUFFICIENT"
    return Check(name, test.low, limit, test.low - limit, status, _bounds(test, unit))


def _below(name: str, test: AnytimeT, limit: float) -> Check:
    """Passes when the upper bound is at most ``limit``; fails when the lower one exceeds it."""
    if test.low is None or test.high is None:
        return Check(name, None, limit, None, "INSUFFICIENT", _bounds(test, "rate"))
    status: Status = "PASS" if test.high <= limit else "FAIL" if test.low > limit else "INSUFFICIENT"
    return Check(name, test.high, limit, limit - test.high, status, _bounds(test, "rate"))


def _point(test: AnytimeT, needed: float) -> Check:
    """The gain itself must be worth it. It fails only where the upper bound rules it out."""
    if test.mean is None:
        return Check("recall_gain_point", None, needed, None, "INSUFFICIENT", "no positives yet")
    ruled_out = test.high is not None and test.high < needed
    status: Status = "PASS" if test.mean >= needed else "FAIL" if ruled_out else "INSUFFICIENT"
    detail = f"recall differs by {test.mean:+.4f}, {needed:+.4f} is asked"
    return Check("recall_gain_point", test.mean, needed, test.mean - needed, status, detail)


def _errors(result: PairedResult, policy: PromotionPolicy) -> Check:
    """Events at which the challenger failed count against it; nothing seen is no evidence."""
    seen = result.rows + result.unscored
    share = result.challenger_errors / seen if seen else None
    detail = f"failed at {result.challenger_errors} of {seen} events"
    return at_most("challenger_errors", share, policy.max_challenger_errors, detail)


def _bounds(test: AnytimeT, unit: str) -> str:
    if test.mean is None:
        return "no evidence yet"
    days = f"{test.n * test.block} days" + ("" if test.block == 1 else f" in blocks of {test.block}")
    if test.low is None or test.high is None:
        return f"{test.mean:.4g} {unit}, no bound yet from {days}"
    rule = "group-sequential" if test.log_e is None and test.t is not None else "anytime-valid"
    return f"{test.mean:.4g} {unit}, {rule} {test.low:.4g} to {test.high:.4g} from {days}"


def _reasons(
    result: PairedResult,
    policy: PromotionPolicy,
    checks: Sequence[Check],
    outcome: Outcome,
    needed: int | None,
    waited: int,
) -> tuple[str, ...]:
    decided = ("cost_saving", "recall_gain")
    telling = [c for c in checks if (c.name in decided if outcome == "promote" else c.status != "PASS")]
    telling.sort(key=lambda c: c.status != "FAIL")  # what rules it out comes first
    reasons = [f"{c.name.replace('_', ' ')}: {_explained(c)}" for c in telling]
    if outcome == "promote":
        reasons.insert(0, f"all {len(checks)} checks pass")
    if outcome == "keep" and not any(c.status == "FAIL" for c in checks):
        limit = f"at most {policy.max_shadow_days}" if waited >= policy.max_shadow_days else "no decision day is left"
        reasons.insert(0, f"no verdict after {waited} days ({limit}): the champion stays")
    if outcome == "keep_watching":
        more = "cannot be said at the present effect" if needed is None else f"about {needed} at the present effect"
        reasons.append(f"matured days still needed: {more}")
    return tuple(reasons)


def _explained(check: Check) -> str:
    if check.value is not None and check.name.startswith("matured_"):
        return f"{check.value:.0f} of {check.threshold:.0f} {check.detail}"
    return check.detail or check.status.lower()


CORNERS: tuple[tuple[bool, bool], ...] = ((False, True), (False, False), (True, True), (True, False))
"""Every extreme of what blocked events were, as ``good`` and ``shared`` of :func:`bounded_day`; the bad case first."""


def bounded_day(day: PairedDay, false_alarm: float, *, good: bool, shared: bool) -> PairedDay:
    """The day with its missing labels at one extreme.

    Args:
        day: totals of what was seen.
        false_alarm: what one costs.
        good: whether the labels are as good for the challenger as they can be: what it alone flagged was
            positive, what only the champion flagged was not. Else the other way round.
        shared: whether what both flagged was positive. It tells nothing about who is better, but it dilutes a
            gain, and where the challenger may be worse by a margin it dilutes a loss.
    """
    lost = day.unseen
    if lost is None:
        return day
    won, other, missed = (lost.b, lost.a, lost.missed_b) if good else (lost.a, lost.b, lost.missed_a)
    true, false = (lost.both, 0.0) if shared else (0.0, lost.both)
    # ``won`` was positive and belongs to the one side, ``other`` was not and belongs to the other side.
    alarms = (lost.a if good else 0.0, 0.0 if good else lost.b)
    hits = (0.0 if good else won, won if good else 0.0)
    return replace(
        day, rows=day.rows + won + other + lost.both, positives=day.positives + won + true,
        tp_a=day.tp_a + hits[0] + true, tp_b=day.tp_b + hits[1] + true,
        fp_a=day.fp_a + alarms[0] + false, fp_b=day.fp_b + alarms[1] + false,
        cost_a=day.cost_a + (missed if good else 0.0) + false_alarm * (alarms[0] + false),
        cost_b=day.cost_b + (0.0 if good else missed) + false_alarm * (alarms[1] + false),
    )  # fmt: skip


def agreed_checks(cases: Sequence[Sequence[Check]], unseen: float, opposed: Collection[str] = ()) -> tuple[Check, ...]:
    """Checks on which every extreme agrees; the others lack evidence, however long one watches.

    Args:
        cases: the same checks at each extreme, the bad case first.
        unseen: events whose labels are missing.
        opposed: names of checks whose figure has another sign at some extreme: watching longer tells nothing.
    """
    found, open_ones = [], []
    for same in zip(*cases, strict=True):
        low = same[0]
        if len({check.status for check in same}) == 1 and (low.status != "INSUFFICIENT" or low.name not in opposed):
            found.append(low)
            continue
        open_ones.append(low.name.replace("_", " "))
        worst, best = (choose(same, key=_room) for choose in (min, max))
        detail = f"{NOT_IDENTIFIED}: {worst.detail}; or {best.detail}"
        found.append(Check(low.name, low.value, low.threshold, low.margin, "INSUFFICIENT", detail))
    detail = f"{unseen:.0f} blocked events have no label; every bound holds whatever they were"
    if open_ones:
        detail = (
            f"{NOT_IDENTIFIED}: {unseen:.0f} blocked events have no label, and {', '.join(open_ones)} hang on what "
            "they were: declare an exploration_share, or report what was really done to POST /actions"
        )
    status: Status = "INSUFFICIENT" if open_ones else "PASS"
    return (Check("identification", float(len(open_ones)), 0.0, None, status, detail), *found)


def _room(check: Check) -> float:
    return -math.inf if check.margin is None else check.margin
