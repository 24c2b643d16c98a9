"""The published figures, on the published data where it is at hand."""

from __future__ import annotations

import pytest

from tests.bench.quality.handbook import bench_handbook
from tests.support.published import published

CARDS = published("card_transactions.parquet")


@pytest.mark.slow
@pytest.mark.skipif(CARDS is None, reason="set INCUMBENT_BENCH_DATA to the folder of card_transactions.parquet")
def test_the_published_figures_are_reached():
    assert CARDS is not None
    found = bench_handbook(CARDS, prequential=True)
    chapter3 = found["chapter3"]
    assert chapter3["auc_roc"] == pytest.approx(0.862, abs=0.002)
    assert chapter3["average_precision"] == pytest.approx(0.639, abs=0.003)
    assert chapter3["card_precision_at_100"] == pytest.approx(0.273, abs=0.003)
    assert found["prequential"]["auc_roc"] >= 0.875
    assert found["prequential"]["average_precision"] >= 0.69
