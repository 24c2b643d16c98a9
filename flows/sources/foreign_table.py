"""Foreign tables as they come: found encoding and separator, cells as text, and how each column is to be read.

The sources read UTF-8, ISO times and decimal points, and are strict about it. What a first table has
instead (decimal commas, 31/12/2025, milliseconds, Latin-1, no id) is found here once and put right in
a copy.

A source that guessed between 3 April and 4 March anew for each file would be wrong one day.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHUNK_ROWS = 200_000
"""Rows that are looked at to guess types; further rows come in parts of the same size."""
ROW_ID = "row_number"
"""Name of the id that a copy gets where the table has none."""
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?", "nat", "<na>"}
_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_TIME_NAME = re.compile(r"time|date|datum|^ts$|_ts$|_at$|epoch|timestamp", re.IGNORECASE)
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?$")
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?$")
_ISO = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Raw:
    """A file of a table.

    Attributes:
        path: where it is.
        kind: ``csv`` or ``parquet``.
        encoding: of a CSV file: ``utf-8-sig`` or ``cp1252``.
        separator: of a CSV file.
    """

    path: Path
    kind: str
    encoding: str = "utf-8-sig"
    separator: str = ","


def open_raw(path: Path) -> Raw:
    """Find out how a file is written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty.
    """
    if path.suffix in (".parquet", ".pq"):
        return Raw(path, "parquet")
    encoding = "utf-8-sig" if _is_utf8(path) else "cp1252"
    with path.open(encoding=encoding, errors="replace", newline="") as stream:
        header = stream.readline()
    if not header.strip():
        raise ValueError("the file is empty; it needs a header line")
    return Raw(path, "csv", encoding, separator_of(header))


def separator_of(header: str) -> str:
    """The one of ``, ; tab |`` that a header line has most of outside of quotes."""
    unquoted = re.sub(r'"(?:[^"]|"")*"', "", header)
    return max(",;\t|", key=unquoted.count)


def header_names(header: str, separator: str) -> list[str]:
    """The names in a header line, without blanks around them."""
    return [
        name.strip() for name in next(csv.reader([header.strip("\r\n")], delimiter=separator, skipinitialspace=True))
    ]


def chunks(raw: Raw) -> Iterator[pd.DataFrame]:
    """The table in parts, every cell a text without blanks around it, or missing."""
    for part in _csv(raw) if raw.kind == "csv" else _parquet(raw.path):
        part.columns = [str(name).strip() for name in part.columns]
        yield part.apply(_clean)


def reading_of(texts: pd.Series[Any], name: str) -> str:
    """How the texts of a column are to be read.

    Returns ``text``, ``number``, ``comma`` (1.234,5), ``grouped`` (1,234.5), ``iso``, ``epoch:UNIT`` or a
    format of ``strptime``. Between day-first and month-first the one that reads every value wins, and
    day-first where both do.
    """
    if texts.empty:
        return "text"
    sample = texts.iloc[:: max(1, len(texts) // 5_000)]
    numbers = pd.to_numeric(sample, errors="coerce")
    if numbers.notna().all():
        return _epoch(numbers, name) or "number"
    if (
        sample.str.match(_ISO).all()
        and pd.to_datetime(sample, format="ISO8601", errors="coerce", utc=True).notna().all()
    ):
        return "iso"
    for form in (day + clock for day in _FORMATS for clock in _CLOCKS):
        if pd.to_datetime(sample.iloc[:50], format=form, errors="coerce").notna().all() and _fits(texts, form):
            return form
    if sample.str.fullmatch(_GROUPED.pattern.rstrip("$") + r"|[+-]?\d+(\.\d+)?").all():
        return "grouped" if not sample.str.fullmatch(r"[+-]?\d+,\d+").all() or _are_thousands(sample) else "comma"
    return "comma" if sample.str.fullmatch(_COMMA.pattern.rstrip("$")).all() else "text"


def convert_texts(texts: pd.Series[Any], reading: str) -> pd.Series[Any]:
    """The values of a column; what cannot be read so is missing. Times of a format have no offset."""
    if reading in ("number", "comma", "grouped"):
        return pd.to_numeric(_with_decimal_points(texts, reading), errors="coerce").astype(np.float64)
    if reading == "iso":
        return pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True).dt.as_unit("us")
    if reading.startswith("epoch:"):
        unit = 1_000_000 // _UNITS[reading.partition(":")[2]]
        micros = (pd.to_numeric(texts, errors="coerce") * unit).round().astype("Int64")
        return pd.to_datetime(micros, unit="us", utc=True).dt.as_unit("us")
    if "%" in reading:
        return pd.to_datetime(texts, format=reading, errors="coerce").dt.as_unit("us")
    return texts


def conversion_note(reading: str) -> str | None:
    """What the copy changes in a column, in words; nothing where it stays as it is."""
    if reading == "comma":
        return "decimal commas became points"
    if reading == "grouped":
        return "commas between thousands were taken out"
    if reading.startswith("epoch:"):
        word = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[reading.partition(":")[2]]
        return f"{word} since 1970 became a time"
    return f"times written as {reading} became ISO" if "%" in reading else None


def write_copy(raw: Raw, readings: dict[str, str], columns: Sequence[str], numbered: bool, out: Path) -> int:
    """Write the table as Parquet in the readings given, part by part; returns the number of rows.

    Args:
        raw: the table.
        readings: how each column is read.
        columns: columns of the copy.
        numbered: whether ``row_number`` (``r-00000001``, ...) is added as an id.
        out: the copy; it appears when it is whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part, rows, writer = out.with_name(f".{out.name}.part"), 0, None
    try:
        for chunk in chunks(raw):
            frame = pd.DataFrame({name: convert_texts(chunk[name], readings[name]) for name in columns})
            if numbered:
                frame.insert(0, ROW_ID, [f"r-{n:08d}" for n in range(rows + 1, rows + 1 + len(frame))])
            table = pa.Table.from_pandas(frame, preserve_index=False, schema=None if writer is None else writer.schema)
            if writer is None:
                table = table.cast(pa.schema([_text_if_null(field) for field in table.schema]))
                writer = pq.ParquetWriter(part, table.schema)
            writer.write_table(table)
            rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    part.replace(out)
    return rows


def _text_if_null(field: Any) -> Any:
    """A column without a single value in the first part is text, not nothing."""
    import pyarrow as pa

    return pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else pa.field(field.name, field.type)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as stream:
        try:
            while block := stream.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _csv(raw: Raw) -> Iterator[pd.DataFrame]:
    yield from pd.read_csv(
        raw.path, sep=raw.separator, encoding=raw.encoding, dtype=str, keep_default_na=False,
        skipinitialspace=True, chunksize=CHUNK_ROWS,
    )  # fmt: skip


def _parquet(path: Path) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS):
        frame = batch.to_pandas()
        for name in frame.select_dtypes("float"):
            # Whole numbers with a gap among them come as floats; 17850.0 is no customer's name.
            if (frame[name].dropna() % 1 == 0).all() and frame[name].abs().max() < 2**53:
                frame[name] = frame[name].astype("Int64")
        yield frame.astype(object).where(frame.notna(), "").astype(str)


def _clean(column: pd.Series[Any]) -> pd.Series[Any]:
    texts = column.str.strip()
    return texts.mask(texts.str.lower().isin(_MISSING), None)


def _epoch(numbers: pd.Series[Any], name: str) -> str | None:
    """Whether numbers under the name of a time count from 1970: all of them between 2000 and 2100."""
    if not _TIME_NAME.search(name) or not (numbers % 1 == 0).all():
        return None
    low, high = 946_684_800, 4_102_444_800
    return next(
        (f"epoch:{u}" for u, n in _UNITS.items() if low * n <= numbers.min() and numbers.max() < high * n), None
    )


def _fits(texts: pd.Series[Any], form: str) -> bool:
    unique = pd.Series(texts.unique())
    return bool(pd.to_datetime(unique, format=form, errors="coerce").notna().all())


def _are_thousands(sample: pd.Series[Any]) -> bool:
    """Whether what follows a comma always has three digits: then it is more likely to stand between thousands."""
    return bool(sample.str.fullmatch(r"[+-]?\d{1,3}(,\d{3})+").all())


def _with_decimal_points(texts: pd.Series[Any], reading: str) -> pd.Series[Any]:
    if reading == "comma":
        return texts.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return texts.str.replace(",", "", regex=False) if reading == "grouped" else texts
