"""Retention: monthly snapshots derived from invoices, labelled by what came after them."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.usecase.loading import load_usecase
from flows.errors import SchemaProblem
from flows.sources import open_source
from flows.sources.derived import derive
from tests.bench.__main__ import main as bench
from tests.bench.quality.usecase import snapshot_days

USECASE = load_usecase("retention")
SHIPPED = Path(__file__).parents[4] / "shared" / "data"


def invoices(*rows: tuple[int, str, str, int, float]) -> pd.DataFrame:
    """Customer, invoice, day, quantity, price."""
    table = pd.DataFrame(rows, columns=["CustomerID", "InvoiceNo", "InvoiceDate", "Quantity", "UnitPrice"])
    return table.assign(InvoiceDate=pd.to_datetime(table["InvoiceDate"], format="ISO8601"))


TABLE = invoices(
    (1, "a", "2026-01-01 10:00", 2, 5.0),
    (1, "a", "2026-01-01 10:00", 1, 1.0),
    (2, "b", "2026-02-20", 1, 7.0),
    (1, "c", "2026-03-20", 1, 4.0),
    (2, "d", "2026-04-01", -1, 7.0),
    (1, "g", "2026-05-05", 1, 4.0),
    (3, "e", "2026-06-01", 1, 1.0),
    (2, "f", "2026-07-15", 1, 9.0),
)


def test_a_snapshot_holds_what_was_known_before_it() -> None:
    made = derive(TABLE, USECASE).set_index("snapshot_id")
    march = made.loc["1@2026-04-01"]
    assert march[["frequency", "frequency_30d", "monetary", "basket", "recency"]].tolist() == [2, 1, 15, 7.5, 12]
    assert "3@2026-04-01" not in made.index
    # A cancelled invoice is no purchase.
    assert made.loc["2@2026-05-01", "frequency"] == 1


def test_the_label_is_silence_and_unknown_until_its_time_has_passed() -> None:
    made = derive(TABLE, USECASE).set_index("snapshot_id")["lapsed"]
    assert (made["1@2026-04-01"], made["2@2026-04-01"]) == (0.0, 1.0)
    # On 1 March the history was 59 days long.
    assert "1@2026-03-01" not in made.index
    assert np.isnan(made["1@2026-05-01"])


def test_no_future_invoice_changes_a_measure() -> None:
    measures = [m.name for m in USECASE.snapshot.measures] if USECASE.snapshot else []
    whole, part = (derive(t, USECASE).set_index("snapshot_id") for t in (TABLE, TABLE[:7]))
    pd.testing.assert_frame_equal(whole.loc[part.index, measures], part[measures])


def test_a_table_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    TABLE.drop(columns="Quantity").to_csv(tmp_path / "t.csv", index=False)
    source = open_source(USECASE, "csv", path=str(tmp_path / "t.csv"))
    with pytest.raises(SchemaProblem, match="Quantity"):
        source.extent()


def test_retention_beats_recency_on_the_newest_matured_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(os.environ.get("INCUMBENT_BENCH_DATA", SHIPPED)) / "online_retail.parquet"
    if not file.is_file():
        pytest.skip("online_retail.parquet is not here; put it into the folder INCUMBENT_BENCH_DATA")
    assert snapshot_days(USECASE, file) == ([date(2011, 2, 1), date(2011, 3, 1)], date(2011, 6, 1))
    assert bench(["usecase", "retention", "--data", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"auc_roc", "average_precision", "baseline_auc_roc"}
    assert found["auc_roc"] >= 0.73
    assert found["baseline_auc_roc"] == pytest.approx(0.667, abs=0.0005)
