"""Planning, estimates without labels, stream detectors and ramps, against published digits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.comparison.sample_size import plan_comparison, positives_needed
from monitoring.performance.cbpe import estimate_by_confidence, expected_auc
from monitoring.rollout.sample_ratio import sample_ratio, sticky_hash, sticky_share
from tests.support.vectors import digits


def test_sample_sizes_have_the_published_figures() -> None:
    found = [positives_needed(d, psi) for d, psi in ((0.01, 0.06), (0.02, 0.06), (0.02, 0.10), (0.05, 0.10))]
    assert found == [4707, 1175, 1960, 312]
    plan = plan_comparison(0.01, 0.06, 0.005, events_per_day=50_000, maturity_days=7)
    assert (plan.events, plan.exposure_days, plan.calendar_days) == (941_400, 19, 26)
    assert plan_comparison(0.01, 0.06, 0.005).calendar_days is None


def test_an_effect_larger_than_the_discordance_is_refused() -> None:
    with pytest.raises(ValueError, match="discordance"):
        positives_needed(0.2, 0.1)


def test_confidence_based_estimates_have_the_published_digits() -> None:
    found = estimate_by_confidence([0.9, 0.7, 0.4, 0.2, 0.05, 0.01], [1, 1, 1, 0, 0, 0])
    for value, text in zip((found.tp, found.fp, found.fn, found.tn), ("2", "1", ".26", "2.74"), strict=True):
        assert value == pytest.approx(float(text))
    digits(found.recall, ".884955752")
    digits(found.precision, ".666666667")
    digits(found.auc_roc, ".890421656")
    assert found.kind == "estimate"


def test_an_estimate_of_nothing_is_unknown() -> None:
    empty = estimate_by_confidence([], [])
    assert (empty.recall, empty.precision, empty.auc_roc) == (None, None, None)
    assert expected_auc([0.0, 0.0]) is None


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=40))
def test_the_expected_auc_lies_between_a_half_and_one(scores: list[float]) -> None:
    auc = expected_auc(scores)
    assert auc is not None
    assert 0.5 - 1e-9 <= auc <= 1.0


def test_sticky_assignment_has_the_published_numbers() -> None:
    assert sticky_hash("exp-2024-01", "cust-000123") == 15622257733485810291
    digits(sticky_share("exp-2024-01", "cust-000123"), ".8468842887")
    digits(sticky_share("exp-2024-01", "cust-000124"), ".2728908275")
    digits(sticky_share("exp-2024-02", "cust-000123"), ".1092762526")


def test_sample_ratio_has_the_published_digits() -> None:
    even = sample_ratio(50_500, 49_500, 0.5)
    assert even.chi2 == pytest.approx(10)
    digits(even.p, ".00156540226")
    canary = sample_ratio(95_290, 5210, 0.05)
    digits(canary.chi2, "7.16941608")
    digits(canary.p, ".00741569091")
    assert not canary.mismatch
    assert sample_ratio(51_000, 49_000, 0.5).mismatch
