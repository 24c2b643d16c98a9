"""The rule of Evidently that the table of alarms simulates is the rule of Evidently."""

import pytest

from tests.bench.quality.drift_alarms import evidently_checks


def test_evidently_s_own_distance_is_that_of_its_formula() -> None:
    pairs = list(evidently_checks(1, 3, features=2, reference_rows=5000))
    assert len(pairs) == 6
    for theirs, formula in pairs:
        assert theirs == pytest.approx(formula, rel=1e-6)
