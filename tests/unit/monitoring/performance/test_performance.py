"""Metrics at low prevalence, calibration, card precision, matured days."""

from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.core.calendar import BusinessCalendar
from monitoring.performance.card_precision import card_precision
from monitoring.performance.cost import Prices
from monitoring.performance.measure import (
    Counts,
    Performance,
    RowGroups,
    daily_performance,
    f1_score,
    matthews_correlation,
    matured_answers,
    measure,
)
from monitoring.policies import LabelPolicy
from monitoring.stats.bootstrap import Bootstrap
from tests.support.vectors import digits

P = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 0.95]
Y = [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
PRICES = Prices(100.0, 1.0)


def rows(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 8, n)
    return (rng.random(n) < p).astype(int), p, np.arange(n) * 30 // n


def test_calibration_figures_have_the_published_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.performance.measure.CALIBRATION_BINS", 5)
    result = measure(Y, P, np.array(P) > 0.5, PRICES, bootstrap=Bootstrap(5))
    for name, expected in (
        ("brier", ".11154"),
        ("log_loss", ".354441798"),
        ("calibration_ratio", "1.15740741"),
        ("calibration_error", ".222"),
    ):
        value = result.value(name)
        assert value is not None
        digits(value, expected)


def test_figures_of_counts_have_the_published_digits() -> None:
    digits(f1_score(400, 1000, 100), ".421052632")
    digits(matthews_correlation(400, 1000, 100, 98_500), ".474234923")


def test_measured_figures_at_low_prevalence_have_the_published_digits() -> None:
    y = np.repeat([1, 1, 0, 0], [400, 100, 1000, 98_500])
    flag = np.repeat([1, 0, 1, 0], [400, 100, 1000, 98_500])
    result = measure(y, np.where(flag, 0.9, 0.1), flag, PRICES, bootstrap=Bootstrap(50))
    digits(result.value("precision"), ".285714286")
    digits(result.metrics["recall"].low, ".762710895")
    digits(result.metrics["precision"].high, ".309939414")
    digits(result.value("f1"), ".421052632")
    digits(result.value("mcc"), ".474234923")
    assert result.value("cost") == 11_000.0
    assert (result.rows, result.positives, result.flagged) == (100_000, 500, 1400)


def test_an_accuracy_gate_would_pass_a_model_that_flags_nothing() -> None:
    y = np.repeat([1, 1, 0, 0], [400, 100, 1000, 98_500])
    model, never = (Counts.of(y, flag) for flag in (np.repeat([1, 0, 1, 0], [400, 100, 1000, 98_500]), y * 0))
    assert (model.tp + model.tn) / model.rows == pytest.approx(0.989, abs=1e-12)
    assert (never.tp + never.tn) / never.rows == pytest.approx(0.995, abs=1e-12)
    assert "accuracy" not in measure(y, y * 0.5, y * 0, bootstrap=Bootstrap(2)).metrics


def test_every_figure_lies_within_its_interval() -> None:
    y, p, days = rows()
    result = measure(y, p, p > 0.2, PRICES, groups=RowGroups(days=days, entities=np.arange(4000) % 300, top_k=10))
    assert result.units == "days"
    for name, figure in result.metrics.items():
        assert figure.low is not None, name
        assert figure.high is not None, name
        assert figure.value is not None, name
        assert figure.low <= figure.value <= figure.high, name


def test_few_days_are_resampled_by_row() -> None:
    y, p, days = rows()
    assert measure(y, p, p > 0.2, bootstrap=Bootstrap(10), groups=RowGroups(days=days // 5)).units == "rows"


def test_a_window_without_positives_has_unknown_figures_and_no_defaults() -> None:
    result = measure(np.zeros(50), np.linspace(0, 1, 50), np.zeros(50), PRICES, bootstrap=Bootstrap(20))
    for name in ("recall", "precision", "average_precision", "auc_roc", "mcc"):
        assert result.value(name) is None, name
    assert result.value("false_positive_rate") == 0.0


def test_no_rows_at_all_leave_every_figure_unknown() -> None:
    result = measure([], [], [], PRICES, bootstrap=Bootstrap(5), groups=RowGroups(days=[], entities=[]))
    assert result.rows == 0
    assert all(figure.value is None for figure in result.metrics.values())


def test_a_score_that_is_not_a_number_makes_the_ranking_unknown() -> None:
    y, p, _ = rows()
    p[3] = np.nan
    result = measure(y, p, p > 0.2, bootstrap=Bootstrap(5))
    assert result.value("average_precision") is None
    assert result.value("brier") is None
    assert result.value("recall") is not None


def test_a_missing_amount_makes_the_cost_unknown() -> None:
    amounts = np.array([1.0, np.nan])
    assert measure([1, 1], [0.1, 0.1], [0, 0], Prices(amounts, 1.0), bootstrap=Bootstrap(5)).value("cost") is None


def test_the_same_seed_gives_the_same_figures_whatever_the_order_of_rows() -> None:
    y, p, days = rows()
    shuffle = np.random.default_rng(1).permutation(len(y))
    for d in (None, days):
        one = measure(y, p, p > 0.2, PRICES, bootstrap=Bootstrap(30), groups=RowGroups(days=d))
        moved = None if d is None else d[shuffle]
        other = measure(
            y[shuffle], p[shuffle], p[shuffle] > 0.2, PRICES, bootstrap=Bootstrap(30), groups=RowGroups(days=moved)
        )
        for name, figure in one.metrics.items():
            assert other.metrics[name].low == pytest.approx(figure.low), name


def test_a_performance_survives_json() -> None:
    y, p, _ = rows(500)
    result = measure(y, p, p > 0.2, bootstrap=Bootstrap(10))
    assert Performance.from_json(result.to_json()) == result


def test_tied_scores_share_a_calibration_bin() -> None:
    y = np.array([0] * 50 + [1] * 50)
    assert measure(y, np.full(100, 0.5), y > 0, bootstrap=Bootstrap(5)).value("calibration_error") == pytest.approx(0.0)


def test_where_nothing_is_expected_the_calibration_ratio_is_unknown() -> None:
    assert measure([1, 0], [0.0, 0.0], [0, 0], bootstrap=Bootstrap(5)).value("calibration_ratio") is None


def test_card_precision_counts_each_compromised_card_once() -> None:
    cards = ["a", "b", "c", "a", "b", "c"]
    days = [0, 0, 0, 1, 1, 1]
    y = [1, 0, 0, 1, 0, 1]
    score = [0.9, 0.8, 0.1, 0.9, 0.2, 0.3]
    result = card_precision(cards, days, y, score, k=1)
    # Day 0 finds a; on day 1 a is gone and c, the best of the rest, is compromised.
    assert result.daily == (1.0, 1.0)
    assert result.value == 1.0


def test_card_precision_takes_the_highest_score_of_a_card_and_drops_known_ones() -> None:
    cards, days = ["a", "a", "b"], [0, 0, 0]
    assert card_precision(cards, days, [0, 1, 0], [0.1, 0.9, 0.5], k=1).value == 1.0
    assert card_precision(cards, days, [0, 1, 0], [0.1, 0.9, 0.5], k=1, known_entities={"a"}).value == 0.0


def test_fewer_cards_than_k_keep_the_denominator_and_are_flagged() -> None:
    result = card_precision(["a", "b"], [0, 0], [1, 0], [0.9, 0.1], k=4)
    assert (result.value, result.short_days) == (0.25, 1)
    assert card_precision([], [], [], [], k=4).value is None


def test_ties_at_the_border_do_not_depend_on_the_order_of_the_table() -> None:
    rng = np.random.default_rng(0)
    cards = np.array([f"c{i}" for i in range(200)], dtype=object)
    y = rng.integers(0, 2, 200)
    one = card_precision(cards, np.zeros(200), y, np.full(200, 0.5), k=20)
    o = rng.permutation(200)
    assert card_precision(cards[o], np.zeros(200), y[o], np.full(200, 0.5), k=20) == one


def test_daily_figures_are_those_of_each_day() -> None:
    days = pd.Series(pd.to_datetime(["2026-03-01"] * 3 + ["2026-03-02"] * 2))
    frame = daily_performance(days, [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], PRICES)
    assert frame["recall"].tolist()[0] == 0.5
    assert np.isnan(frame["recall"].tolist()[1])
    assert frame["cost"].tolist() == [101.0, 0.0]
    assert frame["rows"].tolist() == [3, 2]


AS_OF = datetime(2026, 3, 10, 12, tzinfo=UTC)
LABEL = LabelPolicy(column="y", matures_after=timedelta(days=7), absent_after_maturity="negative")


def answers(*ages_in_days: float) -> pd.DataFrame:
    times = pd.to_datetime([AS_OF - timedelta(days=d) for d in ages_in_days], utc=True).as_unit("us")
    return pd.DataFrame({"event_id": [f"e{i}" for i in range(len(times))], "event_time": times, "flag": True})


def labels(*rows: tuple[str, int, float]) -> pd.DataFrame:
    observed = pd.to_datetime([AS_OF - timedelta(days=d) for _, _, d in rows], utc=True).as_unit("us")
    return pd.DataFrame({"event_id": [r[0] for r in rows], "y": [r[1] for r in rows], "observed_at": observed})


def test_an_early_label_does_not_let_a_young_event_in() -> None:
    found = matured_answers(answers(9, 2), labels(("e0", 1, 1), ("e1", 1, 1)), AS_OF, LABEL, BusinessCalendar())
    assert found["event_id"].tolist() == ["e0"]
    assert found["y"].tolist() == [1]


def test_a_half_matured_day_is_left_out() -> None:
    # Matured by age alone, but its day still holds events that are not.
    assert matured_answers(answers(7.2), labels(), AS_OF, LABEL, BusinessCalendar()).empty
    assert len(matured_answers(answers(7.6), labels(), AS_OF, LABEL, BusinessCalendar())) == 1


def test_a_matured_row_without_a_label_is_what_the_policy_says() -> None:
    assert matured_answers(answers(9), labels(), AS_OF, LABEL, BusinessCalendar())["y"].tolist() == [0]
    unknown = LABEL.model_copy(update={"absent_after_maturity": "unknown"})
    assert matured_answers(answers(9), labels(), AS_OF, unknown, BusinessCalendar()).empty


def test_a_label_that_was_observed_later_is_not_known_yet() -> None:
    found = matured_answers(answers(9), labels(("e0", 1, -1)), AS_OF, LABEL, BusinessCalendar())
    assert found["y"].tolist() == [0]


def test_days_start_when_the_calendar_says() -> None:
    calendar = BusinessCalendar("Europe/Paris", time(6))
    found = matured_answers(answers(9.5), labels(), AS_OF, LABEL, calendar)
    # Midnight UTC on 1 March is 01:00 in Paris, which still belongs to 28 February.
    assert found["day"].dt.strftime("%Y-%m-%d").tolist() == ["2026-02-28"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=1, max_size=80))
def test_no_figure_is_ever_nan(table: list[tuple[bool, int]]) -> None:
    y, p = np.array([r[0] for r in table], dtype=int), np.array([r[1] for r in table]) / 10
    result = measure(y, p, p > 0.5, PRICES, bootstrap=Bootstrap(10))
    for figure in result.metrics.values():
        for part in (figure.value, figure.low, figure.high):
            assert part is None or np.isfinite(part)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 2), st.booleans(), st.integers(0, 3)), min_size=1, max_size=60
    ),
    st.integers(1, 4),
)
def test_card_precision_is_that_of_the_plain_definition(rows: list[tuple[int, int, bool, int]], k: int) -> None:
    cards, days, y, score = (list(values) for values in zip(*rows, strict=True))
    names = [f"c{c}" for c in cards]
    tie = {n: int(pd.util.hash_array(np.array([n], dtype=object))[0]) for n in names}
    gone: set[str] = set()
    expected = []
    for day in sorted(set(days)):
        today = [(n, s, hit) for n, d, hit, s in zip(names, days, y, score, strict=True) if d == day and n not in gone]
        top = {n: max(s for m, s, _ in today if m == n) for n, _, _ in today}
        listed = sorted(top, key=lambda n: (-top[n], tie[n]))[:k]
        caught = [n for n in listed if any(hit for m, _, hit in today if m == n)]
        expected.append(len(caught) / k)
        gone |= set(caught)
    assert card_precision(names, days, np.array(y, int), np.array(score, float), k=k).daily == tuple(expected)
