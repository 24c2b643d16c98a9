"""CSV files: one, a folder of them, or an fsspec URL; plain or compressed.

Everything is read as text, so that ``007`` stays an id; numbers are parsed by the schema, which
sends what is no number to quarantine. The separator is the one of ``,`` ``;`` tab ``|`` that the
header has most of outside of quotes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import NoData, SchemaProblem
from flows.sources.foreign_table import header_names, separator_of
from flows.sources.locations import list_files, read_address, translate_errors
from flows.sources.table import TableSource, columns_to_read, time_name
from monitoring.core.calendar import TimeWindow

SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".tsv", ".tsv.gz")
CHUNK_ROWS = 250_000
HEADER_BYTES = 1_000_000


class CsvSource(TableSource):
    """Events in CSV files.

    ``row`` in the quarantine counts the data rows of all files from 0, in the order of their names.
    """

    kind = "csv"

    def __init__(self, usecase: UseCase, path: str) -> None:
        super().__init__(usecase)
        self._address = read_address(path)

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        return f"csv {self._address.shown}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """All rows of all files; a CSV file cannot be asked for a part of it."""
        system, files = list_files(self._address, SUFFIXES)
        row = 0
        for file in files:
            for chunk in self._read_file(system, file, times_only):
                chunk.index = pd.RangeIndex(row, row + len(chunk))
                row += len(chunk)
                yield chunk

    def _read_file(self, system: Any, file: str, times_only: bool) -> Iterator[pd.DataFrame]:
        try:
            with translate_errors(self._address), system.open(file, "rb", compression="infer") as stream:
                yield from self._parse(stream, f"{self.origin} ({file})", times_only)
        except (pd.errors.ParserError, UnicodeDecodeError, EOFError, zlib.error) as exc:
            raise SchemaProblem(f"{self.origin}: {file} is not UTF-8 CSV ({exc})") from exc

    def _parse(self, stream: IO[bytes], name: str, times_only: bool) -> Iterator[pd.DataFrame]:
        header, separator = _header(stream)
        if not header:
            raise NoData(f"{name} is empty; it needs a header line")
        time = time_name(header, self.usecase, name)
        columns = [time] if times_only else columns_to_read(header, self.usecase)
        stream.seek(0)
        reader = pd.read_csv(
            stream,
            sep=separator,
            usecols=lambda column: str(column).strip() in columns,
            dtype=str,
            # Only a blank is a missing value: a customer may be called NA.
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
            skipinitialspace=True,
            chunksize=CHUNK_ROWS,
        )
        for chunk in reader:
            yield chunk.rename(columns=str.strip)


def _header(stream: IO[bytes]) -> tuple[list[str], str]:
    """The names in the first line and the separator between them."""
    line = stream.readline(HEADER_BYTES).decode("utf-8-sig").strip("\r\n")
    separator = separator_of(line)
    return header_names(line, separator) if line else [], separator
