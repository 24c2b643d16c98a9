from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from bentos.usecase.loading import load_usecase
from flows.errors import NoData, SchemaProblem, SourceOptionsError
from flows.steps.data.label_files import label_files, read_label_file
from monitoring.store.database.frames import to_us

FRAUD = load_usecase("fraud")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_foreign_names_are_read_and_a_missing_source_means_the_strongest(tmp_path: Path) -> None:
    table = pd.DataFrame({"TRANSACTION_ID": [7, 8], "TX_FRAUD": [1, 0]})
    table["observed_at"] = pd.to_datetime(["2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z"])
    table.to_parquet(tmp_path / "l.parquet")
    found = read_label_file(tmp_path / "l.parquet", FRAUD, NOW)
    assert [(r.event_id, r.y, r.source) for r in found.records] == [("7", 1, "chargeback"), ("8", 0, "chargeback")]
    assert found.records[0].observed_at == to_us(datetime(2026, 3, 1, 10, tzinfo=UTC))
    assert {r.received_at for r in found.records} == {to_us(NOW)}


def test_each_refused_row_has_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    rows = ["a,1,2026-03-01T00:00:00Z,analyst", ",1,2026-03-01T00:00:00Z,analyst", "c,2,2026-03-01T00:00:00Z,analyst",
            "d,1,yesterday,analyst", "e,1,2026-03-01T00:00:00Z,neighbour"]  # fmt: skip
    file.write_text("\n".join(["event_id,label,observed_at,source", *rows]))
    found = read_label_file(file, FRAUD, NOW)
    assert [r.event_id for r in found.records] == ["a"]
    assert sum(found.refused.values()) == 4
    assert found.refused["unknown_source"] == 1
    assert found.refused["bad_time"] == 1


def test_labels_of_the_future_are_refused_row_by_row_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    times = [
        "2026-06-01T01:00:00Z",
        "2026-06-01T01:00:00.000001Z",
        "2026-06-01T06:30:00.000001+05:30",
        "2199-12-31T00:00:00Z",
    ]
    file.write_text("\n".join(["event_id,label,observed_at", *(f"e{n},1,{time}" for n, time in enumerate(times))]))
    found = read_label_file(file, FRAUD, NOW, to_us(NOW + timedelta(hours=1)))
    assert [r.event_id for r in found.records] == ["e0"]
    assert found.refused == {"in_future": 3}


def test_a_missing_column_an_empty_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("event_id,label\na,1\n")
    (tmp_path / "b.csv").write_text("event_id,label,observed_at\n")
    (tmp_path / "c.txt").write_text("a")
    with pytest.raises(SchemaProblem, match="no column observed_at"):
        read_label_file(tmp_path / "a.csv", FRAUD, NOW)
    with pytest.raises(NoData):
        read_label_file(tmp_path / "b.csv", FRAUD, NOW)
    with pytest.raises(SourceOptionsError, match=r"\.csv or \.parquet"):
        read_label_file(tmp_path / "c.txt", FRAUD, NOW)


def test_a_folder_gives_its_label_files_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.parquet", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in label_files(tmp_path)] == ["a.parquet", "b.csv"]
    assert label_files(tmp_path / "absent", must_exist=False) == []
