"""Files of events as a source of snapshots: what ``[snapshot]`` makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import SourceUnavailable
from flows.sources.address import read_address
from flows.sources.table import TableSource
from flows.steps.derive import derive, needed_columns
from monitoring.core.calendar import TimeWindow


class DerivedSource(TableSource):
    """Snapshots of the entities in one CSV or Parquet file of events."""

    def __init__(self, usecase: UseCase, kind: str, path: str) -> None:
        super().__init__(usecase)
        self.kind = kind
        self._address = read_address(path)
        self._path = path

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        return f"snapshots of {self.kind} {self._address.shown}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """Every snapshot; a snapshot needs the whole history before it."""
        assert self.usecase.snapshot is not None
        columns = needed_columns(self.usecase.snapshot)
        try:
            if self.kind == "csv":
                table = pd.read_csv(self._path, usecols=lambda name: name in columns)
            else:
                table = pd.read_parquet(self._path, columns=columns)
        except (OSError, ValueError) as exc:
            raise SourceUnavailable(f"{self.origin}: {exc}") from exc
        yield derive(table, self.usecase)
