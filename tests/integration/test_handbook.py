"""The published figures, on the published data where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.steps.handbook import bench_handbook


def published_data() -> Path | None:
    folders = [os.environ.get("INCUMBENT_BENCH_DATA"), Path(__file__).resolve().parents[2].parent / "shared" / "data"]
    for folder in folders:
        if folder and (file := Path(folder) / "card_transactions.parquet").is_file():
            return file
    return None


@pytest.mark.slow
@pytest.mark.skipif(
    published_data() is None, reason="set INCUMBENT_BENCH_DATA to the folder of card_transactions.parquet"
)
def test_the_published_figures_are_reached():
    path = published_data()
    assert path is not None
    found = bench_handbook(path, prequential=True)
    chapter3 = found["chapter3"]
    assert chapter3["auc_roc"] == pytest.approx(0.862, abs=0.002)
    assert chapter3["average_precision"] == pytest.approx(0.639, abs=0.003)
    assert chapter3["card_precision_at_100"] == pytest.approx(0.273, abs=0.003)
    assert found["prequential"]["auc_roc"] >= 0.875
    assert found["prequential"]["average_precision"] >= 0.69
