"""Verdicts of comparisons: promote, keep, keep watching."""

import numpy as np
import pytest

from flows.views.comparison import appendix_of
from monitoring.comparison.judge import comparison_checks, expected_days, judge_comparison
from monitoring.comparison.paired import PairedResult
from monitoring.core.verdict import Check, Verdict
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.reports.html import comparison_body
from tests.support.comparing import compare_paired
from tests.unit.monitoring.comparison.test_paired import AS_OF, table_of

POLICY = PromotionPolicy()


def result(
    days: int, gain: float, alarms: float = 0.0, seed: int = 0, policy: PromotionPolicy = POLICY
) -> PairedResult:
    """A challenger that catches ``gain`` of the positives more and raises ``alarms`` fewer alarms a day."""
    rng = np.random.default_rng(seed)
    p = rng.poisson(60, days)
    tp_a = rng.binomial(p, 0.7)
    tp_b = np.clip(tp_a + rng.normal(gain * p, 1.5).round(), 0, p)
    fp_a = rng.poisson(40, days)
    fp_b = np.clip(fp_a - rng.normal(alarms, 2.0, days).round(), 0, None)
    table = table_of(np.column_stack([p, tp_a, tp_b, fp_a, fp_b]), negatives=1000)
    return compare_paired(table, CostModel(), policy, champion="m/1", challenger="m/2", as_of=AS_OF, appendix=False)


def status(verdict: Verdict) -> dict[str, str]:
    return {c.name: c.status for c in verdict.checks}


def test_a_clearly_better_challenger_is_promoted_with_every_check_shown() -> None:
    verdict = judge_comparison(result(28, 0.08), POLICY)
    assert verdict.outcome == "promote"
    assert verdict.promotes
    assert set(status(verdict).values()) == {"PASS"}
    assert list(status(verdict)) == [
        "matured_days",
        "matured_positives",
        "cost_saving",
        "recall_gain",
        "recall_gain_point",
        "false_positive_rate_rise",
        "challenger_errors",
    ]
    assert verdict.reasons[0] == "all 7 checks pass"
    assert [reason.split(":")[0] for reason in verdict.reasons[1:]] == ["cost saving", "recall gain"]
    assert (verdict.champion, verdict.challenger, verdict.as_of) == ("m/1", "m/2", AS_OF)


def test_a_verdict_is_of_its_evidence() -> None:
    found = result(28, 0.08)
    verdict = judge_comparison(found, POLICY)
    assert verdict.evidence_digest == found.digest
    assert Verdict.from_json(verdict.to_json()).digest == verdict.digest


def test_too_few_days_keep_watching_however_good_it_looks() -> None:
    verdict = judge_comparison(result(13, 0.15), POLICY)
    assert verdict.outcome == "keep_watching"
    assert status(verdict)["matured_days"] == "INSUFFICIENT"
    assert verdict.days_needed is not None
    assert verdict.days_needed >= 1
    assert "13 of 14 days whose labels have all matured" in verdict.reasons[0]


def test_too_few_positives_keep_watching() -> None:
    strict = PromotionPolicy(min_matured_positives=100_000)
    assert judge_comparison(result(28, 0.08), strict).outcome == "keep_watching"


def test_equal_models_are_never_promoted_and_end_with_the_champion() -> None:
    outcomes = {judge_comparison(result(30, 0.0, seed=s), POLICY).outcome for s in range(8)}
    assert "promote" not in outcomes
    verdict = judge_comparison(result(60, 0.0, seed=1), POLICY)
    assert verdict.outcome == "keep"


def test_a_worse_challenger_is_ruled_out_once_there_is_enough_evidence() -> None:
    verdict = judge_comparison(result(28, -0.08), POLICY)
    assert verdict.outcome == "keep"
    assert status(verdict)["cost_saving"] == "FAIL"
    assert verdict.reasons[0].startswith("cost saving")
    early = judge_comparison(result(10, -0.3), POLICY)
    assert early.outcome == "keep_watching"


def test_sixty_days_without_a_verdict_keep_the_champion() -> None:
    found = result(20, 0.012)
    assert judge_comparison(found, POLICY).outcome == "keep_watching"
    verdict = judge_comparison(found, POLICY, shadow_days=60)
    assert verdict.outcome == "keep"
    assert "no verdict after 60 days" in verdict.reasons[0]


def test_a_gain_that_is_too_small_is_not_worth_a_promotion() -> None:
    strict = PromotionPolicy(min_recall_gain=0.05)
    verdict = judge_comparison(result(60, 0.03, policy=strict), strict, shadow_days=30)
    assert status(verdict)["recall_gain"] == "PASS"
    assert status(verdict)["recall_gain_point"] == "FAIL"
    assert verdict.outcome == "keep"


def test_more_false_alarms_than_allowed_block_a_promotion() -> None:
    verdict = judge_comparison(result(28, 0.08, alarms=-60), POLICY)
    assert status(verdict)["false_positive_rate_rise"] == "FAIL"
    assert verdict.outcome == "keep"


def test_a_margin_promotes_a_model_that_only_cuts_false_alarms() -> None:
    policy = PromotionPolicy(recall_non_inferiority_margin=0.03)
    found = result(40, 0.0, alarms=30, policy=policy)
    cheap = compare_cheap(found, policy)
    assert judge_comparison(cheap, policy).outcome == "promote"
    assert judge_comparison(cheap, POLICY).outcome != "promote"


def compare_cheap(found: PairedResult, policy: PromotionPolicy) -> PairedResult:
    """The same days where a missed positive costs as much as a false alarm."""
    counts = np.column_stack([found.column(n) for n in ("positives", "tp_a", "tp_b", "fp_a", "fp_b")])
    return compare_paired(
        table_of(counts, negatives=1000), CostModel(false_negative=1.0), policy,
        champion="m/1", challenger="m/2", as_of=AS_OF, appendix=False,
    )  # fmt: skip


def test_a_guard_that_fails_or_lacks_evidence_blocks() -> None:
    found = result(28, 0.08)
    bad = Check("latency_p99_ms", 130.0, 100.0, -30.0, "FAIL", "too slow")
    unknown = Check("latency_p99_ms", None, 100.0, None, "INSUFFICIENT")
    assert judge_comparison(found, POLICY, guards=[bad]).outcome == "keep"
    assert judge_comparison(found, POLICY, guards=[unknown]).outcome == "keep_watching"


def test_failures_of_the_challenger_are_held_against_it() -> None:
    found = result(28, 0.08)
    object.__setattr__(found, "challenger_errors", 500)
    object.__setattr__(found, "unscored", 500)
    assert judge_comparison(found, POLICY).outcome == "keep"


def test_nothing_matured_yet_keeps_watching() -> None:
    empty = compare_paired(
        table_of(np.array([[1, 1, 1, 0, 0]])).head(0),
        CostModel(), POLICY, champion="m/1", challenger="m/2", as_of=AS_OF,
    )  # fmt: skip
    verdict = judge_comparison(empty, POLICY)
    assert verdict.outcome == "keep_watching"
    assert verdict.days_needed is None
    assert {c.status for c in comparison_checks(empty, POLICY)} == {"INSUFFICIENT"}


def test_a_model_is_not_compared_with_itself() -> None:
    found = result(3, 0.0)
    object.__setattr__(found, "challenger", "m/1")
    with pytest.raises(ValueError, match="itself"):
        judge_comparison(found, POLICY)


def test_the_expected_days_shrink_as_the_effect_grows() -> None:
    small, large = (expected_days(result(16, gain), POLICY) for gain in (0.03, 0.10))
    assert small is not None
    assert large is not None
    assert large <= small
    assert expected_days(result(16, -0.05), POLICY) is None


def test_a_lower_threshold_is_named_as_such() -> None:
    rng = np.random.default_rng(4)
    counts = [[80, 50, 60, 40, 90]] * 20
    table = table_of(np.array(counts) + rng.integers(0, 3, (20, 5)), negatives=500)
    table["score_b"] = table["score_a"]
    found = compare_paired(table, CostModel(), POLICY, champion="m/1", challenger="m/2", as_of=AS_OF, repetitions=10)
    verdict = judge_comparison(found, PromotionPolicy(max_false_positive_rate_increase=0.5))
    assert not any("equal alerts" in reason for reason in verdict.reasons), "it is not used in the decision"
    assert any("At equal alerts" in str(value) for _, value in appendix_of(found))
    html = comparison_body(found, verdict)
    assert html.index("not used in the decision") < html.index("At equal alerts the challenger catches no more")


DECIDING = PromotionPolicy(method="lan_demets", decision_days=(14, 28, 42), max_shadow_days=60)


def test_fixed_decision_days_promote_on_their_day_and_not_before() -> None:
    before, after = (judge_comparison(result(days, 0.08, policy=DECIDING), DECIDING) for days in (13, 30))
    assert before.outcome == "keep_watching"
    assert status(before)["cost_saving"] == "INSUFFICIENT"
    assert after.outcome == "promote"
    assert "group-sequential" in after.check("cost_saving").detail
    # Day 30 looks at the first 28 days: nine blocks of three, for these days resemble each other.
    assert "from 27 days in blocks of 3" in after.check("cost_saving").detail


def test_after_the_last_decision_day_the_champion_stays() -> None:
    found = result(43, 0.012, policy=DECIDING)
    verdict = judge_comparison(found, DECIDING, shadow_days=50)
    assert verdict.outcome == "keep"
    assert "no decision day is left" in verdict.reasons[0]
    assert judge_comparison(result(41, 0.012, policy=DECIDING), DECIDING).outcome == "keep_watching"


def test_the_days_still_needed_end_on_a_decision_day() -> None:
    assert expected_days(result(15, 0.02, policy=DECIDING), DECIDING) == 28 - 15
    assert expected_days(result(15, 0.016, policy=DECIDING), DECIDING) == 42 - 15


def test_a_verdict_names_the_plan_that_it_was_judged_by() -> None:
    found = result(28, 0.08)
    assert judge_comparison(found, POLICY, plan_hash="a" * 64).plan_hash == "a" * 64
    assert judge_comparison(found, POLICY).plan_hash == ""


def test_a_challenger_that_loses_on_few_positives_is_watched_on() -> None:
    worse = result(28, -0.08)
    few = PromotionPolicy(min_matured_positives=int(worse.positives) + 1)
    assert judge_comparison(worse, POLICY).outcome == "keep"
    verdict = judge_comparison(worse, few)
    assert status(verdict)["cost_saving"] == "FAIL"
    assert verdict.outcome == "keep_watching"
