"""Weights of an exploration and bounds without one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.comparison.daily_series import PairedDay, Unseen
from monitoring.comparison.judge import CORNERS, agreed_checks, bounded_day, judge_plan
from monitoring.comparison.plan import ComparisonPlan, planned_options
from monitoring.core.verdict import Check
from monitoring.performance.cost import Prices
from monitoring.performance.measure import measure
from monitoring.policies import CostModel, LabelPolicy
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.bootstrap import Bootstrap
from monitoring.stats.label_weights import NOT_IDENTIFIED, label_weights
from tests.support.vectors import digits

FIRST = date(2026, 3, 2)


def plan(**promotion: Any) -> ComparisonPlan:
    policy = PromotionPolicy(min_matured_days=3, min_matured_positives=5, **promotion)
    label = LabelPolicy(column="y", matures_after=timedelta(days=7), absent_after_maturity="negative")
    return ComparisonPlan(
        "fraud", "m", "m/1", "m/2", FIRST, planned_options(policy), CostModel().model_dump(mode="json"), None, None,
        label.model_dump(mode="json"), blocks_flagged=True,
    )  # fmt: skip


def traffic(days: int, *, share: float | None, seed: int = 1, better: bool = True, rows: int = 2000) -> pd.DataFrame:
    """Scores of both models with the truth; what a use case that blocks would have learnt of it.

    ``share`` is let through; none blocks nothing. The challenger sees more, or less.
    """
    rng = np.random.default_rng(seed)
    n = days * rows
    y = rng.random(n) < 0.05
    flag_a = np.where(y, rng.random(n) < 0.6, rng.random(n) < 0.02)
    flag_b = np.where(y, rng.random(n) < (0.85 if better else 0.35), rng.random(n) < 0.02)
    table = pd.DataFrame({
        "event_id": [f"e{i}" for i in range(n)],
        "day": pd.Timestamp(FIRST) + pd.to_timedelta(np.arange(n) // rows, "D"),
        "score_a": flag_a.astype(float), "flag_a": flag_a, "score_b": flag_b.astype(float), "flag_b": flag_b,
        "y": y.astype(np.int8), "observed_at": pd.Timestamp(FIRST, tz="UTC"),
    })  # fmt: skip
    if share is None:
        return table
    action = np.where(~flag_a, "let_through", np.where(rng.random(n) < share, "explore", "block"))
    chance = np.where(flag_a, share, 1.0)
    known = action != "block"
    weight, unseen = label_weights(list(action), chance, [None] * n, known)
    return table.assign(weight=weight, unseen=unseen, y=np.where(known, y, False).astype(np.int8))


def judged(table: pd.DataFrame, **promotion: Any) -> Any:
    days = table["day"].nunique()
    as_of = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=int(days) + 7)
    return judge_plan(plan(**promotion), table, (), as_of=as_of, bootstrap=Bootstrap(10))


def test_inverse_propensity_rates_have_the_published_digits() -> None:
    y, w = [1, 1, 1, 1, 0, 1], [1, 1, 20, 20, 20, 1]
    a, b = (
        measure(y, flags, flags, Prices(100.0, 1.0), weight=w) for flags in ([0, 0, 1, 1, 1, 0], [1, 0, 1, 0, 1, 1])
    )  # fmt: skip
    digits(a.value("recall"), ".930232558")
    digits(b.value("recall"), ".511627907")
    digits(a.value("precision"), ".666666667")
    digits(b.value("precision"), ".523809524")
    assert a.value("cost") == 320.0  # three misses at 100, one alarm that stands for twenty


def test_who_stands_for_whom() -> None:
    cases: list[tuple[str | None, float, str | None, bool, float, float]] = [
        ("let_through", 1.0, None, False, 1.0, 0.0),
        ("explore", 0.02, None, True, 50.0, 0.0),
        ("block", 0.02, None, False, 0.0, 0.0),  # the explored ones stand for it
        ("block", 0.0, None, False, 0.0, 1.0),  # nobody does
        ("block", 0.0, None, True, 1.0, 0.0),  # an analyst labelled it
        ("block", 0.0, "let_through", True, 1.0, 0.0),  # released: it earned its label
        ("block", 0.0, "let_through", False, 1.0, 0.0),  # and so its silence is one
        ("block", 0.02, "let_through", True, 0.0, 0.0),  # released by choice, not by chance
        ("let_through", 1.0, "block", False, 0.0, 1.0),  # a rule blocked it
        ("explore", 0.02, "block", False, 0.0, 50.0),
        (None, np.nan, None, False, 1.0, 0.0),  # before anything was declared
    ]
    action, chance, really, known, weight, unseen = zip(*cases, strict=True)
    found = label_weights(action, chance, really, known)
    assert found[0].tolist() == list(weight)
    assert found[1].tolist() == list(unseen)


def test_without_exploration_any_challenger_would_win_and_the_verdict_says_not_identified() -> None:
    worse = judged(traffic(20, share=0.0, better=False))
    assert worse.result.unseen > 0
    assert worse.verdict.outcome == "keep_watching"
    assert worse.verdict.check("identification").status == "INSUFFICIENT"
    assert "NOT_IDENTIFIED" in worse.verdict.check("cost_saving").detail
    assert any("NOT_IDENTIFIED" in reason for reason in worse.verdict.reasons)
    assert judged(traffic(20, share=0.0)).verdict.outcome == "keep_watching"


def test_what_the_blocked_events_cannot_change_is_decided_in_spite_of_them() -> None:
    table = traffic(20, share=0.0)
    # The challenger flags whatever the champion flags, so no blocked event is open between them.
    table["flag_b"] |= table["flag_a"]
    found = judged(table, max_false_positive_rate_increase=0.05)
    assert found.result.unseen > 0
    assert (found.verdict.outcome, found.verdict.check("identification").status) == ("promote", "PASS")


def test_with_exploration_the_weighted_verdict_is_that_of_the_whole_truth() -> None:
    truth, seen = judged(traffic(30, share=None)), judged(traffic(30, share=0.3))
    assert truth.verdict.outcome == seen.verdict.outcome == "promote"
    assert seen.result.unseen == 0
    for name in ("saving", "recall_gain"):
        whole, part = getattr(truth.result, name), getattr(seen.result, name)
        assert part.low < whole.mean < part.high
    worse = judged(traffic(30, share=0.3, better=False))
    assert worse.verdict.outcome == "keep"


def test_only_labels_that_were_seen_count_as_positives() -> None:
    seen = judged(
        traffic(10, share=0.05),
    )
    days = seen.result.series
    assert seen.result.positives == sum(day.seen for day in days)
    assert seen.result.positives < sum(day.positives for day in days)


def test_a_stored_day_of_weights_comes_back_as_it_was() -> None:
    day = judged(traffic(3, share=0.03)).result.series[0]
    assert PairedDay.from_json(day.to_json()) == day
    bare = {k: v for k, v in day.to_json().items() if k not in ("seen", "unseen")}
    assert PairedDay.from_json(bare).unseen is None


@given(
    y=st.lists(st.booleans(), min_size=1, max_size=60),
    data=st.data(),
)
@settings(max_examples=60)
def test_the_truth_lies_between_the_bounds(y: list[bool], data: st.DataObject) -> None:
    draw = lambda: np.array(data.draw(st.lists(st.booleans(), min_size=len(y), max_size=len(y))))  # noqa: E731
    truth, a, b, hidden = np.array(y), draw(), draw(), draw()
    hidden &= a | b
    full, part = _day(truth, a, b, np.zeros_like(hidden)), _day(truth, a, b, hidden)
    extremes = [bounded_day(part, 1.0, good=good, shared=shared) for good, shared in CORNERS]
    for shared in (True, False):
        low, high = (bounded_day(part, 1.0, good=good, shared=shared) for good in (False, True))
        assert low.saving <= full.saving <= high.saving
        assert low.tp_b - low.tp_a <= full.tp_b - full.tp_a <= high.tp_b - high.tp_a
        assert low.fp_b - low.fp_a >= full.fp_b - full.fp_a >= high.fp_b - high.fp_a
    assert all(day.rows == full.rows for day in extremes)
    assert all(day.tp_a + day.fp_a == full.tp_a + full.fp_a for day in extremes)  # who was flagged is known
    assert all(day.tp_b + day.fp_b == full.tp_b + full.fp_b for day in extremes)
    for margin in (0.0, 0.1, 0.9):
        told = [_non_inferior(day, margin) for day in extremes]
        assert min(told) - 1e-9 <= _non_inferior(full, margin) <= max(told) + 1e-9


def _non_inferior(day: PairedDay, margin: float) -> float:
    """Positive where recall is not worse by more than the margin."""
    return day.tp_b - day.tp_a + margin * day.positives


def test_a_margin_of_recall_does_not_pass_because_what_both_flagged_is_taken_for_fraud() -> None:
    table = traffic(20, share=None)
    rng = np.random.default_rng(5)
    # Both flag much that is no fraud; of what the champion lets through the challenger finds a little less.
    noise = rng.random(len(table)) < 0.2
    table["flag_a"] |= noise
    table["flag_b"] = table["flag_a"]
    table["flag_b"] &= ~((table["y"] == 1) & (rng.random(len(table)) < 0.5))
    hidden = (table["flag_a"] & (table["y"] == 0)).to_numpy()
    weight, unseen = label_weights(np.where(hidden, "block", "let_through"), ~hidden, [None] * len(table), ~hidden)
    found = judged(table.assign(weight=weight, unseen=unseen), recall_non_inferiority_margin=0.2)
    assert found.result.unseen > 1000
    assert "NOT_IDENTIFIED" in found.verdict.check("recall_gain").detail
    assert found.verdict.check("recall_gain").status == "INSUFFICIENT"


def _day(y: np.ndarray, a: np.ndarray, b: np.ndarray, hidden: np.ndarray) -> PairedDay:
    """Totals of what is not hidden, a miss at 100 and an alarm at 1."""
    k = ~hidden

    def n(mask: np.ndarray) -> int:
        return int(mask.sum())

    def cost(flag: np.ndarray) -> float:
        return 100.0 * n(k & y & ~flag) + n(k & ~y & flag)

    lost = Unseen(n(hidden & a & ~b), n(hidden & b & ~a), n(hidden & a & b), 100.0 * n(hidden & a & ~b),
                  100.0 * n(hidden & b & ~a))  # fmt: skip
    return PairedDay(
        FIRST, n(k), n(k & y), n(k & y & a), n(k & y & b), n(k & ~y & a), n(k & ~y & b), cost(a), cost(b), None, lost
    )


def test_the_digest_of_a_bounded_verdict_is_of_the_figures_that_it_shows() -> None:
    table = traffic(6, share=0.0)
    judgement = judge_plan(plan(), table, (), as_of=datetime(2026, 4, 1, tzinfo=UTC), bootstrap=Bootstrap(10))
    assert judgement.verdict.evidence_digest == judgement.result.digest
    assert (
        judgement.result.series == judge_plan(plan(), table, (), as_of=datetime(2026, 4, 1, tzinfo=UTC)).result.series
    )


def test_a_figure_whose_sign_hangs_on_the_missing_labels_is_not_identified_however_open_all_extremes_are() -> None:
    open_ones = [(Check("cost_saving", v, 0.0, v, "INSUFFICIENT", f"{v:+.0f} EUR a day"),) for v in (-5.0, 5.0)]
    watched = agreed_checks(open_ones, 12.0)
    opposed = agreed_checks(open_ones, 12.0, ["cost_saving"])
    assert [check.detail for check in watched] == [
        "12 blocked events have no label; every bound holds whatever they were",
        "-5 EUR a day",
    ]
    assert [check.status for check in opposed] == ["INSUFFICIENT", "INSUFFICIENT"]
    assert all(check.detail.startswith(NOT_IDENTIFIED) for check in opposed)
