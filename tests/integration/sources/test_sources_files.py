"""What is particular to files: CSV dialects, Parquet types, folders, paths."""

from __future__ import annotations

import decimal
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import NoData, SchemaProblem, SourceError, SourceOptionsError, SourceUnavailable
from flows.sources import SourceRead, open_source
from monitoring.core.calendar import TimeWindow
from tests.integration.sources.source_cases import FRAUD, WINDOW, foreign, truth

HEADER = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD"


def read_csv(folder: Path, *lines: str, header: str = HEADER, name: str = "cards.csv") -> SourceRead:
    (folder / name).write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return open_source(FRAUD, "csv", path=str(folder / name)).read(WINDOW)


def test_ids_of_a_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    read = read_csv(
        tmp_path,
        "007,2026-01-02 10:00:00,NA,1e5,5.00,0",
        "08,2026-01-02 10:00:01,null,m-1,5.00,0",
        '"9, b",2026-01-02 10:00:02, padded,m-1,5.00,0',
    )
    assert read.events["transaction_id"].tolist() == ["007", "08", "9, b"]
    assert read.events["customer_id"].tolist() == ["NA", "null", "padded"]
    assert read.events["terminal_id"].tolist() == ["1e5", "m-1", "m-1"]


def test_a_csv_number_that_is_none_costs_its_row_and_says_where(tmp_path: Path) -> None:
    read = read_csv(
        tmp_path,
        "a,2026-01-02 10:00:00,c,m,5.00,0",
        "b,2026-01-02 10:00:00,c,m,five,0",
        "c,2026-01-02 10:00:00,c,m,inf,0",
        "d,2026-01-02 10:00:00,c,m,,0",
        "e,yesterday,c,m,5.00,0",
    )
    assert read.events["transaction_id"].tolist() == ["a"]
    found = read.quarantine[["row", "column", "reason"]].to_numpy().tolist()
    assert found == [
        [1, "amount", "wrong_type"],
        [2, "amount", "out_of_range"],
        [3, "amount", "missing"],
        [4, "tx_time", "bad_time"],
    ]


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    hours = (10, 12, 11, 13, 9)
    read = read_csv(tmp_path, *(f"{i},2026-01-02 {h:02}:00:00,c,m,5.00,0" for i, h in enumerate(hours)))
    assert read.events["transaction_id"].tolist() == ["4", "0", "2", "1", "3"]
    assert read.out_of_order == 2


def test_rows_of_a_folder_are_numbered_through_all_files(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        lines = [f"{name}{i},2026-01-02 10:00:00,c,m,{'x' if i == 1 else 1},0" for i in range(3)]
        (tmp_path / name).write_text("\n".join([HEADER, *lines]))
    read = open_source(FRAUD, "csv", path=str(tmp_path)).read(WINDOW)
    assert dict(zip(read.quarantine["row"], read.quarantine["event_id"], strict=True)) == {1: "a.csv1", 4: "b.csv1"}


def test_a_pattern_chooses_files(tmp_path: Path) -> None:
    for name in ("day-1.csv", "day-2.csv", "other.csv"):
        (tmp_path / name).write_text(f"{HEADER}\n{name},2026-01-02 10:00:00,c,m,1,0\n")
    read = open_source(FRAUD, "csv", path=str(tmp_path / "day-*.csv")).read(WINDOW)
    assert read.events["transaction_id"].tolist() == ["day-1.csv", "day-2.csv"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_is_found_in_the_header(separator: str, tmp_path: Path) -> None:
    line = "a,2026-01-02 10:00:00,c,m,5.00,0".replace(",", separator)
    assert len(read_csv(tmp_path, line, header=HEADER.replace(",", separator)).events) == 1


def test_a_header_with_spaces_and_a_byte_order_mark_is_understood(tmp_path: Path) -> None:
    header = "\ufeff" + ", ".join(f'"{n}"' for n in HEADER.split(","))
    assert len(read_csv(tmp_path, "a,2026-01-02 10:00:00,c,m,5.00,0", header=header).events) == 1


def test_large_files_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.sources.csv.CHUNK_ROWS", 7)
    foreign(truth()).to_csv(tmp_path / "cards.csv", index=False)
    read = open_source(FRAUD, "csv", path=str(tmp_path / "cards.csv")).read(WINDOW)
    pd.testing.assert_frame_equal(read.events, truth().events)


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", NoData, "is empty; it needs a header line"),
        (HEADER.encode() + b"\n", NoData, "it holds no rows"),
        (HEADER.encode() + b"\n\xff\xfe,2026-01-02,c,m,1,0\n", SchemaProblem, "is not UTF-8 CSV"),
        (HEADER.encode() + b'\n"open,2026-01-02,c,m,1,0\n', SchemaProblem, "is not UTF-8 CSV"),
        (b"\xff" * 50, SchemaProblem, "is not UTF-8 CSV"),
    ],
)
def test_a_broken_csv_says_what_is_wrong(content: bytes, error: type[SourceError], text: str, tmp_path: Path) -> None:
    (tmp_path / "cards.csv").write_bytes(content)
    with pytest.raises(error, match=text):
        open_source(FRAUD, "csv", path=str(tmp_path / "cards.csv")).read(WINDOW)


def test_a_truncated_compressed_file_is_refused(tmp_path: Path) -> None:
    body = foreign(truth()).to_csv(index=False).encode()
    (tmp_path / "cards.csv.gz").write_bytes(gzip.compress(body)[:-200])
    with pytest.raises(SchemaProblem, match="is not UTF-8 CSV"):
        open_source(FRAUD, "csv", path=str(tmp_path / "cards.csv.gz")).read(WINDOW)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_wrong_path_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SourceOptionsError, match=r"source_options: .*nowhere: no such file or folder"):
        open_source(FRAUD, kind, path=str(tmp_path / "nowhere")).read(WINDOW)
    with pytest.raises(SourceOptionsError, match="no such kind of path"):
        open_source(FRAUD, kind, path="bucket9://nowhere/x").read(WINDOW)
    with pytest.raises(NoData, match="no file that ends in"):
        open_source(FRAUD, kind, path=str(tmp_path)).read(WINDOW)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_unreadable_disk_is_unavailable(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / f"cards.{kind}").write_bytes(b"x")
    monkeypatch.setattr(LocalFileSystem, "_open", refuse)
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        open_source(FRAUD, kind, path=str(tmp_path / f"cards.{kind}")).read(WINDOW)


def parquet(folder: Path, **changed: Any) -> SourceRead:
    """Read the true events from a Parquet file with some columns of another Arrow type."""
    table = pa.Table.from_pandas(foreign(truth()), preserve_index=False)
    for name, column in changed.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, folder / "cards.parquet")
    return open_source(FRAUD, "parquet", path=str(folder / "cards.parquet")).read(WINDOW)


def test_types_of_other_writers_give_the_same_frames(tmp_path: Path) -> None:
    table = foreign(truth())
    cents = [decimal.Decimal(f"{v:.2f}") for v in table["TX_AMOUNT"]]
    read = parquet(
        tmp_path,
        TX_AMOUNT=pa.array(cents, pa.decimal128(12, 2)),
        CUSTOMER_ID=pa.array(table["CUSTOMER_ID"]).dictionary_encode(),
        TERMINAL_ID=pa.array(table["TERMINAL_ID"], pa.large_string()),
        TX_FRAUD=pa.array(table["TX_FRAUD"].astype(bool)),
    )
    pd.testing.assert_frame_equal(read.events, truth().events)
    pd.testing.assert_frame_equal(read.labels, truth().labels)


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s", "UTC"), pa.timestamp("ms", "America/New_York"), pa.timestamp("ns", "UTC"), pa.timestamp("ms")],
    ids=str,
)
def test_every_unit_and_zone_of_time_gives_the_same_frames(kind: Any, tmp_path: Path) -> None:
    times = pa.array(foreign(truth())["TX_DATETIME"])
    naive = times.cast(pa.timestamp("us")) if kind.tz is None else times
    read = parquet(tmp_path, TX_DATETIME=naive.cast(kind))
    pd.testing.assert_frame_equal(read.events, truth().events)


def test_dates_without_a_clock_are_midnight(tmp_path: Path) -> None:
    days = pa.array(foreign(truth())["TX_DATETIME"].dt.date, pa.date32())
    read = parquet(tmp_path, TX_DATETIME=days)
    assert len(read.events) == len(truth().events)
    assert (read.events["tx_time"] == read.events["tx_time"].dt.normalize()).all()


def test_the_time_filter_reaches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = 4_000
    table = pd.DataFrame(
        {
            "TRANSACTION_ID": range(rows),
            "TX_DATETIME": start + pd.to_timedelta(range(rows), unit="h"),
            "CUSTOMER_ID": 1,
            "TERMINAL_ID": 2,
            "TX_AMOUNT": 3.0,
        }
    )
    table.to_parquet(tmp_path / "long.parquet")
    source = open_source(FRAUD, "parquet", path=str(tmp_path / "long.parquet"))
    fetched: list[int] = []
    original = type(source).chunks

    def counting(*args: Any, **kwargs: Any) -> Any:
        for chunk in original(*args, **kwargs):
            fetched.append(len(chunk))
            yield chunk

    monkeypatch.setattr(type(source), "chunks", counting)
    window = TimeWindow(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC) + timedelta(days=2))
    assert len(source.read(window).events) == 48
    assert sum(fetched) <= 48 + 2 * 24 + 1


def test_a_file_that_is_no_parquet_is_a_schema_problem(tmp_path: Path) -> None:
    (tmp_path / "cards.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(SchemaProblem, match="not readable as one Parquet table"):
        open_source(FRAUD, "parquet", path=str(tmp_path / "cards.parquet")).read(WINDOW)


def test_files_of_contradicting_types_are_a_schema_problem(tmp_path: Path) -> None:
    table = foreign(truth())
    table.iloc[:10].to_parquet(tmp_path / "a.parquet")
    table.iloc[10:].assign(TX_AMOUNT="much").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(SchemaProblem, match="not readable as one Parquet table"):
        open_source(FRAUD, "parquet", path=str(tmp_path)).read(WINDOW)
