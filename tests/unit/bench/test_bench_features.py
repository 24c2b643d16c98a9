from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.bench.speed import features as bench
from tests.bench.speed.features import bench_features


def transactions(rows: int = 1500) -> pd.DataFrame:
    """Transactions with the handbook's columns: few customers and terminals, some of them at one moment."""
    rng = np.random.default_rng(4)
    seconds = np.sort(rng.integers(0, 60 * 24, rows)) * 3600
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows, dtype=np.int32),
            "TX_DATETIME": (np.datetime64("2018-04-01") + seconds.astype("m8[s]")).astype("M8[ms]"),
            "CUSTOMER_ID": rng.integers(0, 12, rows).astype(np.int32),
            "TERMINAL_ID": rng.integers(0, 9, rows).astype(np.int32),
            "TX_AMOUNT": rng.integers(1, 50_000, rows) / 100,
            "TX_FRAUD": (rng.random(rows) < 0.1).astype(np.int8),
        }
    )


def test_both_pandas_rivals_compute_the_same_features_as_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "transactions.parquet"
    transactions().to_parquet(file)
    result = bench_features(file, repeats=1)
    assert set(result) == {"rows", "ours_s", "pandas_s", "ratio", "max_abs_difference"}
    assert result["rows"] == 1500
    assert result["max_abs_difference"] < 1e-4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "groupby.rolling without apply" in captured.err


def test_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "transactions.parquet"
    transactions(200).to_parquet(file)
    monkeypatch.setattr(bench, "DELAY", 6)
    assert bench_features(file, repeats=1)["max_abs_difference"] > 0.1
