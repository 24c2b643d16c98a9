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
from monitoring.comparison.paired import APPENDIX_BOOTSTRAP, PairedResult, bounded_mean, compare_paired, replace_series
from monitoring.comparison.plan import ComparisonPlan
from monitoring.comparison.segment_guardrail import check_segments
from monitoring.core.verdict import Check, Outcome, Status, Verdict, at_most, combine_checks, has_at_least
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import AnytimeT, days_needed
from monitoring.stats.bootstrap import Bootstrap
from monitoring.stats.group_sequential import boundaries, next_decision_day
from monitoring.stats.label_weights import NOT_IDENTIFIED


@dataclass(frozen=True)
class JudgedPlan:
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
    bootstrap: Bootstrap = APPENDIX_BOOTSTRAP,
) -> JudgedPlan:
    """Judge matured rows by a plan alone: the same arguments give the same verdict, bit for bit.

    Args:
        plan: the frozen plan.
        rows: what :func:`monitoring.comparison.paired.compare_paired` takes, from the plan's first day on, with
            the columns of ``plan.columns``.
        frozen: days that were judged before, as they were frozen.
        as_of: business time of the verdict.
        guards: further checks that must pass.
        bootstrap: of the appendix's intervals.
    """
    policy, calendar = plan.promotion_policy, plan.calendar
    result = compare_paired(rows, plan, as_of, frozen=frozen, bootstrap=bootstrap)
    shadow_days = max(0, (calendar.day_of(as_of) - plan.first_day).days)
    guards = (*guards, *_segment_guards(plan, rows, result, policy))
    verdict_inputs: dict[str, Any] = {"guards": guards, "shadow_days": shadow_days, "plan_hash": plan.digest}
    if not result.unseen:
        return JudgedPlan(result, judge_comparison(result, policy, **verdict_inputs))
    # The figures shown are those of the bad case; what is frozen stays as it was seen.
    bad_case, checks = bound_result(result, policy, plan.cost_model.false_positive)
    shown_result = replace(bad_case, series=result.series)
    return JudgedPlan(
        shown_result,
        replace(
            judge_comparison(bad_case, policy, checks=checks, **verdict_inputs), evidence_digest=shown_result.digest
        ),
    )


def _segment_guards(
    plan: ComparisonPlan, rows: pd.DataFrame, result: PairedResult, policy: PromotionPolicy
) -> tuple[Check, ...]:
    """The guardrail of segments, where the plan has it and every label of theirs is known."""
    # Plans that were frozen before there was this guardrail do not have the option.
    margin = plan.promotion.get("slice_recall_margin")
    if margin is None or rows.empty or result.unseen:
        return ()
    check = check_segments(rows, plan.segments, policy, float(margin))
    return () if check is None else (check,)


def bound_result(
    result: PairedResult, policy: PromotionPolicy, false_alarm: float
) -> tuple[PairedResult, tuple[Check, ...]]:
    """The comparison in the challenger's bad case, and the checks on which every extreme agrees (Manski bounds)."""
    cases = [
        replace_series(
            result, [bounded_day(day, false_alarm, good=good, shared=shared) for day in result.series], policy
        )
        for good, shared in CORNERS
    ]
    means_by_check = {"cost_saving": [c.saving.mean for c in cases], "recall_gain": [c.recall_gain.mean for c in cases]}
    opposed_checks = [name for name, means in means_by_check.items() if _have_opposite_signs(means)]
    checks = [comparison_checks(case, policy) for case in cases]
    return cases[0], agreed_checks(checks, result.unseen, opposed_checks)


def _have_opposite_signs(means: Sequence[float | None]) -> bool:
    known_means = [mean for mean in means if mean is not None]
    return len(known_means) < len(means) or min(known_means) <= 0.0 < max(known_means)


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
    days_in_shadow = result.days if shadow_days is None else shadow_days
    outcome = _decide_outcome(checks, result, policy, days_in_shadow)
    remaining_days = expected_days(result, policy) if outcome == "keep_watching" else None
    return Verdict(
        kind="comparison",
        outcome=outcome,
        checks=checks,
        challenger=result.challenger,
        champion=result.champion,
        as_of=result.as_of,
        reasons=_reasons(result, policy, checks, outcome, remaining_days, days_in_shadow),
        evidence_digest=result.digest,
        days_needed=remaining_days,
        plan_hash=plan_hash,
    )


def comparison_checks(result: PairedResult, policy: PromotionPolicy) -> tuple[Check, ...]:
    """The checks that decide, each with the bound it looked at."""
    margin = policy.recall_non_inferiority_margin
    floor = 0.0 if margin is None else -margin
    return (
        has_at_least("matured_days", result.days, policy.min_matured_days, "days whose labels have all matured"),
        has_at_least("matured_positives", result.positives, policy.min_matured_positives, "positives on those days"),
        _check_lower_bound("cost_saving", result.saving, 0.0, f"{result.currency} a day"),
        _check_lower_bound("recall_gain", result.recall_gain, floor, "recall"),
        _check_gain(result.recall_gain, policy.required_recall_gain),
        _check_upper_bound(
            "false_positive_rate_rise", result.false_positive_rate_rise, policy.max_false_positive_rate_increase
        ),
        _check_errors(result, policy),
    )


def expected_days(result: PairedResult, policy: PromotionPolicy) -> int | None:
    """Matured days still needed if mean and spread stay as they are; ``None`` when never."""
    if not result.days:
        return None
    margin = policy.recall_non_inferiority_margin or 0.0
    gain_over_margin = result.column("tp_b") - result.column("tp_a") + margin * result.column("positives")
    waits = [
        _days_until_bound(test, result.days, policy) for test in (result.saving, bounded_mean(gain_over_margin, policy))
    ]
    recall_gain = result.recall_gain.mean
    if recall_gain is None or recall_gain < policy.required_recall_gain:
        return None
    rise, limit = result.false_positive_rate_rise, policy.max_false_positive_rate_increase
    if rise.high is None or rise.high > limit:
        negatives = result.column("rows") - result.column("positives")
        spare_alarms = limit * negatives - (result.column("fp_b") - result.column("fp_a"))
        wait = _days_until_bound(bounded_mean(spare_alarms, policy), result.days, policy)
        waits.append(None if wait is None else max(wait, rise.block))
    per_day = result.positives / result.days
    waits.append(max(0, policy.min_matured_days - result.days))
    waits.append(max(0, -int(-(policy.min_matured_positives - result.positives) // per_day)))
    known_waits = [wait for wait in waits if wait is not None]
    return max(known_waits) if len(known_waits) == len(waits) else None


def _days_until_bound(test: AnytimeT, days: int, policy: PromotionPolicy) -> int | None:
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


def _decide_outcome(
    checks: Sequence[Check], result: PairedResult, policy: PromotionPolicy, shadow_days: int
) -> Outcome:
    checks_outcome = combine_checks(checks)
    if checks_outcome == "pass":
        return "promote"
    looks_used_up = policy.method == "lan_demets" and next_decision_day(result.days, policy.decision_days) is None
    if shadow_days >= policy.max_shadow_days or looks_used_up:
        return "keep"
    has_min_evidence = result.days >= policy.min_matured_days and result.positives >= policy.min_matured_positives
    return "keep" if checks_outcome == "fail" and has_min_evidence else "keep_watching"


def _check_lower_bound(name: str, test: AnytimeT, limit: float, unit: str) -> Check:
    """Passes when the lower bound exceeds ``limit``; fails when the upper one lies below it."""
    if test.low is None or test.high is None:
        return Check(name, None, limit, None, "INSUFFICIENT", _describe_bounds(test, unit))
    status: Status = "PASS" if test.low > limit else "FAIL" if test.high < limit else "INSUFFICIENT"
    return Check(name, test.low, limit, test.low - limit, status, _describe_bounds(test, unit))


def _check_upper_bound(name: str, test: AnytimeT, limit: float) -> Check:
    """Passes when the upper bound is at most ``limit``; fails when the lower one exceeds it."""
    if test.low is None or test.high is None:
        return Check(name, None, limit, None, "INSUFFICIENT", _describe_bounds(test, "rate"))
    status: Status = "PASS" if test.high <= limit else "FAIL" if test.low > limit else "INSUFFICIENT"
    return Check(name, test.high, limit, limit - test.high, status, _describe_bounds(test, "rate"))


def _check_gain(test: AnytimeT, required_gain: float) -> Check:
    """The gain itself must be worth it. It fails only where the upper bound rules it out."""
    if test.mean is None:
        return Check("recall_gain_point", None, required_gain, None, "INSUFFICIENT", "no positives yet")
    ruled_out = test.high is not None and test.high < required_gain
    status: Status = "PASS" if test.mean >= required_gain else "FAIL" if ruled_out else "INSUFFICIENT"
    detail = f"recall differs by {test.mean:+.4f}, {required_gain:+.4f} is asked"
    return Check("recall_gain_point", test.mean, required_gain, test.mean - required_gain, status, detail)


def _check_errors(result: PairedResult, policy: PromotionPolicy) -> Check:
    """Events at which the challenger failed count against it; nothing seen is no evidence."""
    events = result.rows + result.unscored
    share = result.challenger_errors / events if events else None
    detail = f"failed at {result.challenger_errors} of {events} events"
    return at_most("challenger_errors", share, policy.max_challenger_errors, detail)


def _describe_bounds(test: AnytimeT, unit: str) -> str:
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
    remaining_days: int | None,
    shadow_days: int,
) -> tuple[str, ...]:
    deciding_checks = ("cost_saving", "recall_gain")
    telling_checks = [
        check for check in checks if (check.name in deciding_checks if outcome == "promote" else check.status != "PASS")
    ]
    telling_checks.sort(key=lambda check: check.status != "FAIL")  # what rules it out comes first
    reasons = [f"{check.name.replace('_', ' ')}: {_explain_check(check)}" for check in telling_checks]
    if outcome == "promote":
        reasons.insert(0, f"all {len(checks)} checks pass")
    if outcome == "keep" and not any(check.status == "FAIL" for check in checks):
        limit = (
            f"at most {policy.max_shadow_days}" if shadow_days >= policy.max_shadow_days else "no decision day is left"
        )
        reasons.insert(0, f"no verdict after {shadow_days} days ({limit}): the champion stays")
    if outcome == "keep_watching":
        remaining = (
            "cannot be said at the present effect"
            if remaining_days is None
            else f"about {remaining_days} at the present effect"
        )
        reasons.append(f"matured days still needed: {remaining}")
    return tuple(reasons)


def _explain_check(check: Check) -> str:
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
    unseen = day.unseen
    if unseen is None:
        return day
    caught, other_blocked, missed_cost = (
        (unseen.b, unseen.a, unseen.missed_b) if good else (unseen.a, unseen.b, unseen.missed_a)
    )
    shared_positives, shared_negatives = (unseen.both, 0.0) if shared else (0.0, unseen.both)
    # ``won`` was positive and belongs to the one side, ``other`` was not and belongs to the other side.
    alarms = (unseen.a if good else 0.0, 0.0 if good else unseen.b)
    hits = (0.0 if good else caught, caught if good else 0.0)
    return replace(
        day, rows=day.rows + caught + other_blocked + unseen.both, positives=day.positives + caught + shared_positives,
        tp_a=day.tp_a + hits[0] + shared_positives, tp_b=day.tp_b + hits[1] + shared_positives,
        fp_a=day.fp_a + alarms[0] + shared_negatives, fp_b=day.fp_b + alarms[1] + shared_negatives,
        cost_a=day.cost_a + (missed_cost if good else 0.0) + false_alarm * (alarms[0] + shared_negatives),
        cost_b=day.cost_b + (0.0 if good else missed_cost) + false_alarm * (alarms[1] + shared_negatives),
    )  # fmt: skip


def agreed_checks(cases: Sequence[Sequence[Check]], unseen: float, opposed: Collection[str] = ()) -> tuple[Check, ...]:
    """Checks on which every extreme agrees; the others lack evidence, however long one watches.

    Args:
        cases: the same checks at each extreme, the bad case first.
        unseen: events whose labels are missing.
        opposed: names of checks whose figure has another sign at some extreme: watching longer tells nothing.
    """
    agreed, open_names = [], []
    for same_check in zip(*cases, strict=True):
        bad_case = same_check[0]
        if len({check.status for check in same_check}) == 1 and (
            bad_case.status != "INSUFFICIENT" or bad_case.name not in opposed
        ):
            agreed.append(bad_case)
            continue
        open_names.append(bad_case.name.replace("_", " "))
        worst, best = (choose(same_check, key=_margin_of) for choose in (min, max))
        detail = f"{NOT_IDENTIFIED}: {worst.detail}; or {best.detail}"
        agreed.append(Check(bad_case.name, bad_case.value, bad_case.threshold, bad_case.margin, "INSUFFICIENT", detail))
    detail = f"{unseen:.0f} blocked events have no label; every bound holds whatever they were"
    if open_names:
        detail = (
            f"{NOT_IDENTIFIED}: {unseen:.0f} blocked events have no label, and {', '.join(open_names)} hang on what "
            "they were: declare an exploration_share, or report what was really done to POST /actions"
        )
    status: Status = "INSUFFICIENT" if open_names else "PASS"
    return (Check("identification", float(len(open_names)), 0.0, None, status, detail), *agreed)


def _margin_of(check: Check) -> float:
    return -math.inf if check.margin is None else check.margin
