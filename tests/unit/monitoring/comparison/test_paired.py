"""The paired comparison: vectors, capped amounts, appendix, order of rows."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.comparison.paired import PairedResult
from monitoring.comparison.secondary_figures import _cut
from monitoring.performance.thresholds import capacity_cut
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.ranking import Ranking
from tests.support.comparing import compare_paired
from tests.support.vectors import DAYS, digits

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = PromotionPolicy()


def table_of(days: np.ndarray, negatives: int = 400, start: str = "2026-01-01") -> pd.DataFrame:
    """Rows that give the daily counts (positives, true positives a, b, false positives a, b)."""
    parts = []
    for n, (p, tp_a, tp_b, fp_a, fp_b) in enumerate(np.asarray(days, dtype=int)):
        y = np.repeat([1, 0], [p, negatives])
        flag_a = np.concatenate([np.arange(p) < tp_a, np.arange(negatives) < fp_a])
        flag_b = np.concatenate([np.arange(p) < tp_b, np.arange(negatives) < fp_b])
        day = pd.Timestamp(start) + pd.Timedelta(days=n)
        parts.append(pd.DataFrame({"day": day, "y": y.astype(np.int8), "flag_a": flag_a, "flag_b": flag_b}))
    frame = pd.concat(parts, ignore_index=True)
    rng = np.random.default_rng(0)
    for side in "ab":
        frame[f"score_{side}"] = 0.5 * frame[f"flag_{side}"] + rng.random(len(frame)) * 0.5
    frame["customer_id"] = [f"c{i % 211}" for i in range(len(frame))]
    frame["amount"] = rng.lognormal(3, 1, len(frame))
    return frame


def compare(frame: pd.DataFrame, cost: CostModel | None = None, **more: object) -> PairedResult:
    options = {"repetitions": 200} | more
    return compare_paired(
        frame,
        cost or CostModel(),
        POLICY,
        champion="dev-fraud/1",
        challenger="dev-fraud/2",
        as_of=AS_OF,
        **options,  # type: ignore[arg-type]  # keyword options of many types
    )


VECTOR = table_of(DAYS.T)


def test_the_daily_series_has_the_published_savings() -> None:
    result = compare(VECTOR)
    assert result.column("saving").tolist() == [306, 97, 109, 397, -91, 506, 204]
    assert result.series[0].day == date(2026, 1, 1)
    assert (result.days, result.rows, result.positives) == (7, 7 * 400 + 700, 700)


def test_recall_precision_and_saving_have_the_published_digits() -> None:
    appendix = compare(VECTOR).appendix
    assert appendix is not None
    digits(appendix.recall.difference, ".0214285714")
    digits(appendix.recall.low, ".000952508044")
    digits(appendix.precision.p, ".00842630842")
    digits(appendix.saving.mean, "218.285714")
    digits(appendix.saving.p, ".0288600682")
    digits(appendix.saving_sign_flip_p, ".03125")


def test_the_bounds_that_decide_are_the_anytime_valid_ones() -> None:
    result = compare(VECTOR)
    digits(result.saving.mean, "218.285714")
    # Significant for a fixed sample of seven days, and not when looking every day.
    assert result.saving.low is not None
    assert result.saving.low < 0.0
    assert result.recall_gain.low is not None
    assert result.recall_gain.low < 0.0


def test_costs_and_recalls_of_both_have_intervals() -> None:
    result = compare(VECTOR)
    digits(result.recall_champion.value, ".847142857")
    digits(result.recall_challenger.value, ".868571429")
    assert result.cost_champion.value == 100 * (700 - 593) + 754
    assert result.cost_challenger.value == pytest.approx(100 * (700 - 608) + 726)
    assert result.cost_champion.low is not None
    assert result.cost_champion.low < result.cost_champion.value


def test_the_legacy_test_is_the_unpaired_one_and_a_day_without_fraud_leaves_it_undefined() -> None:
    appendix = compare(VECTOR).appendix
    assert appendix is not None
    p, tp_a, tp_b = DAYS[:3]
    assert appendix.legacy_p == pytest.approx(stats.ttest_ind(tp_b / p, tp_a / p).pvalue)
    quiet = np.vstack([DAYS.T, [0, 0, 0, 3, 4]])
    empty_day = compare(table_of(quiet)).appendix
    assert empty_day is not None
    assert empty_day.legacy_p is None
    assert empty_day.recall.p is not None


def test_discordant_pairs_are_counted_on_positives_and_on_false_alarms() -> None:
    appendix = compare(VECTOR).appendix
    assert appendix is not None
    assert (appendix.mcnemar.b, appendix.mcnemar.c) == (16, 1)
    assert appendix.discordant_false_alarms == (6, 34)
    assert appendix.bonett_price.value == pytest.approx(15 / 700)


def test_amounts_are_the_cost_and_are_capped() -> None:
    cost = CostModel(false_negative="amount", false_positive=2.0)
    free = compare(VECTOR, cost, cost_cap=1e9)
    capped = compare(VECTOR, cost, cost_cap=10.0)
    y, missed = VECTOR["y"] == 1, ~VECTOR["flag_a"]
    assert free.cost_champion.value == pytest.approx(VECTOR["amount"][y & missed].sum() + 2 * 754)
    assert capped.cost_champion.value is not None
    assert capped.cost_champion.value <= 10.0 * 107 + 2 * 754
    assert (compare(VECTOR, cost).cost_cap, capped.cost_cap) == (None, 10.0)


def test_recurring_entities_give_the_wider_interval() -> None:
    frame = VECTOR.copy()
    # All that the challenger gains comes from one customer: by day it looks steady, by customer it is one case.
    gained = (frame["y"] == 1) & frame["flag_b"] & ~frame["flag_a"]
    frame["customer_id"] = np.where(gained, "c-one", frame["customer_id"])
    by_day, by_card = compare(frame).appendix, compare(frame, entity="customer_id", top_k=20).appendix
    assert by_day is not None
    assert by_card is not None
    assert by_card.recall.width > by_day.recall.width
    assert by_card.recall.clusters > 7
    assert by_card.card_precision is not None
    assert by_day.card_precision is None


def test_rank_metrics_get_an_interval_from_twenty_days_on() -> None:
    short = compare(VECTOR).appendix
    long = compare(table_of(np.tile(DAYS.T, (3, 1)), negatives=150), entity="customer_id", top_k=20).appendix
    assert short is not None
    assert long is not None
    assert short.average_precision.difference.low is None
    difference = long.average_precision.difference
    assert difference.low is not None
    assert difference.value is not None
    assert difference.low <= difference.value
    assert long.card_precision is not None
    assert long.card_precision.difference.low is not None


def test_a_lower_threshold_alone_gains_nothing_at_equal_alerts() -> None:
    rng = np.random.default_rng(4)
    y = rng.random(20_000) < 0.02
    score = rng.random(20_000) * 0.5 + 0.4 * y
    frame = pd.DataFrame({"day": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(20_000) % 20, unit="D")})
    frame["y"] = y.astype(np.int8)
    frame["score_a"] = frame["score_b"] = score
    frame["flag_a"], frame["flag_b"] = score > 0.6, score > 0.5
    result = compare(frame)
    assert result.appendix is not None
    assert result.recall_gain.mean is not None
    assert result.recall_gain.mean > 0.1
    assert result.appendix.matched.difference == 0.0
    assert result.appendix.matched_alerts == frame["flag_a"].sum()


def test_no_matured_row_gives_a_result_of_zero_days() -> None:
    result = compare(VECTOR.head(0))
    assert (result.days, result.rows, result.appendix) == (0, 0, None)
    assert result.saving.mean is None
    assert result.cost_champion.value is None
    assert PairedResult.from_json(result.to_json()) == result


def test_no_positive_at_all_leaves_the_recall_unknown() -> None:
    quiet = DAYS.T.copy()
    quiet[:, :3] = 0
    result = compare(table_of(quiet))
    assert result.recall_champion.value is None
    assert result.recall_gain.mean is None
    assert result.appendix is not None
    assert result.appendix.delong is None


def test_events_that_the_challenger_did_not_score_are_counted() -> None:
    frame = VECTOR.copy()
    frame.attrs["counts"] = SimpleNamespace(unscored_b=12, errors_b=5)
    result = compare(frame)
    assert (result.unscored, result.challenger_errors) == (12, 5)


def test_the_order_of_rows_does_not_matter_and_the_seed_decides_the_rest() -> None:
    shuffled = VECTOR.sample(frac=1.0, random_state=1)
    one, other = compare(VECTOR, entity="customer_id"), compare(shuffled, entity="customer_id")
    assert one.series == other.series
    assert one.saving == other.saving
    assert one.recall_gain == other.recall_gain
    assert compare(VECTOR, entity="customer_id").digest == one.digest


def test_swapping_the_models_mirrors_the_result() -> None:
    swap = {f"{n}_{a}": f"{n}_{b}" for n in ("score", "flag") for a, b in (("a", "b"), ("b", "a"))}
    one, other = compare(VECTOR), compare(VECTOR.rename(columns=swap))
    assert other.saving.low == pytest.approx(-(one.saving.high or 0.0))
    assert other.recall_gain.high == pytest.approx(-(one.recall_gain.low or 0.0))


def test_a_result_survives_json_and_keeps_its_digest() -> None:
    result = compare(VECTOR, entity="customer_id")
    again = PairedResult.from_json(result.to_json())
    assert again == result
    assert again.digest == result.digest


def test_the_appendix_can_be_left_out() -> None:
    assert compare(VECTOR, appendix=False).appendix is None


def test_equal_alerts_may_be_a_declared_share_for_both() -> None:
    appendix = compare(VECTOR, alert_rate=0.1).appendix
    assert appendix is not None
    assert appendix.matched_alerts == 350
    cut_a, cut_b = (np.sort(VECTOR[f"score_{side}"])[::-1][349] for side in "ab")
    y = VECTOR["y"] == 1
    assert appendix.matched.a == pytest.approx((VECTOR["score_a"] >= cut_a)[y].mean())
    assert appendix.matched.b == pytest.approx((VECTOR["score_b"] >= cut_b)[y].mean())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 70))
def test_the_cut_at_equal_alerts_is_that_of_the_capacity(scores: list[int], budget: int) -> None:
    values = np.array(scores, dtype=float)
    assert np.array_equal(values >= _cut(Ranking.of(values), budget), values >= capacity_cut(values, budget))


def test_disagreements_are_counted_by_segment_and_by_amount() -> None:
    frame = VECTOR.assign(channel=np.where(np.arange(len(VECTOR)) % 3 == 0, "app", "web"))
    appendix = compare(frame, segments=("channel", "absent"), amount="amount").appendix
    assert appendix is not None
    by = {name: [g for g in appendix.groups if g.by == name] for name in ("channel", "amount")}
    assert [g.level for g in by["channel"]] == ["app", "web"]
    assert len(by["amount"]) == 5
    for groups in by.values():
        assert sum(g.events for g in groups) == len(frame)
        assert sum(g.positives for g in groups) == 700
        assert (sum(g.caught_b for g in groups), sum(g.caught_a for g in groups)) == (16, 1)
        assert (sum(g.alarms_b for g in groups), sum(g.alarms_a for g in groups)) == (6, 34)


def test_the_auc_has_an_interval_that_resamples_days() -> None:
    appendix = compare(table_of(np.tile(DAYS.T, (3, 1)), negatives=150)).appendix
    assert appendix is not None
    assert appendix.delong is not None
    assert appendix.auc.difference.value == pytest.approx(appendix.delong.difference)
    assert appendix.auc.difference.low is not None
    assert appendix.note == "not used in the decision"


def test_a_recall_ends_at_one_whatever_its_linearised_interval_says() -> None:
    result = compare(table_of(np.array([[3, 3, 2, 0, 0], [2, 2, 2, 0, 0], [4, 3, 4, 0, 0]])))
    assert result.recall_champion.high == 1.0


def test_two_equal_versions_by_the_amount_are_equal_at_equal_alerts() -> None:
    rng = np.random.default_rng(2)
    n = 8000
    p, amount = rng.beta(1, 12, n), np.round(rng.lognormal(3, 1.2, n), 2)
    cut = 5.0 / (5.0 + amount)
    rows = pd.DataFrame({"day": pd.Timestamp("2026-03-01") + pd.to_timedelta(np.arange(n) % 25, unit="D")})
    rows = rows.assign(y=(rng.random(n) < p).astype(np.int8), amount=amount)
    for side in "ab":
        rows = rows.assign(**{f"score_{side}": p, f"threshold_{side}": cut, f"flag_{side}": p >= cut})
    cost = CostModel(false_negative="amount", false_positive=5.0)
    names = {"champion": "m/1", "challenger": "m/2", "as_of": AS_OF, "repetitions": 20}
    for rate in (None, 0.05):
        found = compare_paired(rows, cost, PromotionPolicy(), alert_rate=rate, **names)  # type: ignore[arg-type]  # options of many types
        assert found.appendix is not None
        assert found.appendix.matched.difference == pytest.approx(0.0, abs=1e-12)
