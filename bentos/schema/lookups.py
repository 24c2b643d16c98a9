"""Look-up tables: slowly moving values by entity, filled into columns of the event.

What a table says of an entity at an event time is one sentence: the newest row of the entity with ``valid_from``
at or before the event time and, where ``max_age`` is declared, not more than ``max_age`` before it; else every
value is missing. :meth:`LookupTable.places` says it for a frame (an as-of merge), :class:`LookupIndex` for one
event (a search by key). Both give the same bits. The file of a table is described in :mod:`bentos.schema.lookup_file`.

Filled values are columns of the event, not a store that is asked while scoring: log, retraining, replay and shadow
need no word about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from bentos.schema.column_types import TEXT_TYPES
from bentos.schema.id_hashing import Hasher, LazyHasher
from bentos.schema.lookup_file import lookup_path, open_rows, read_rows
from bentos.usecase.definition import Column, Lookup, UseCase
from bentos.usecase.limits import EPOCH, MICROSECOND
from bentos.usecase.lookup_problems import VALID_FROM
from monitoring.core.durations import microseconds

Positions = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class LookupTable:
    """The rows of one table.

    Attributes:
        lookup: what the use case declares.
        columns: the columns that it fills, in the order of the use case.
        rows: the entity column, ``valid_from`` (whole microseconds since 1970, UTC) and the filled columns under
            their own names; ordered by ``valid_from``, then entity; one row for each pair of them.
        digest: SHA-256 of the file.
    """

    lookup: Lookup
    columns: tuple[Column, ...]
    rows: pd.DataFrame
    digest: str

    @property
    def entities(self) -> int:
        """Number of different entities."""
        return int(self.rows[self.lookup.entity].nunique())

    @property
    def newest(self) -> datetime | None:
        """The newest ``valid_from``; none in a table without rows."""
        if self.rows.empty:
            return None
        return pd.Timestamp(int(self.rows[VALID_FROM].iloc[-1]), unit="us", tz="UTC").to_pydatetime()

    def places(self, entities: pd.Series[Any], times: pd.Series[Any]) -> Positions:
        """For each event the place of its row in :attr:`rows`, -1 where there is none.

        Args:
            entities: text, missing where an event has no entity.
            times: event times, UTC; missing where an event has none.
        """
        positions = np.full(len(entities), -1, dtype=np.intp)
        event_rows = np.flatnonzero((entities.notna() & times.notna()).to_numpy())
        if not len(event_rows) or self.rows.empty:
            return positions
        name = self.lookup.entity
        stamps = times.iloc[event_rows].dt.as_unit("us").to_numpy("M8[us]").view(np.int64)
        order = np.argsort(stamps, kind="stable")
        event_rows = event_rows[order]
        event_table = pd.DataFrame({"at": stamps[order], name: entities.iloc[event_rows].to_numpy(dtype=object)})
        row_table = self.rows[[VALID_FROM, name]].assign(place=np.arange(len(self.rows)))
        age = self.lookup.max_age
        matches = pd.merge_asof(
            event_table, row_table, left_on="at", right_on=VALID_FROM, by=name,
            tolerance=None if age is None else microseconds(age),
        )  # fmt: skip
        positions[event_rows] = matches["place"].fillna(-1).to_numpy(np.intp)
        return positions

    def values(self, column: Column, positions: Positions) -> Any:
        """Values of a filled column at these places, in the form that :func:`bentos.schema.column_parsing.read_column`
        gives.
        """
        column_values, is_missing = self.rows[column.name], positions < 0
        if column.type == "datetime":
            return column_values.reindex(positions).reset_index(drop=True)
        padded_values = np.append(column_values.to_numpy(), [None if column.type in TEXT_TYPES else np.nan])
        return padded_values[np.where(is_missing, len(column_values), positions)]


class LookupIndex:
    """A table ready to be asked for one event at a time, by the key of its file in memory.

    Nothing is made of the rows, so that a new table of a million rows does not hold up who is scored meanwhile.

    Args:
        usecase: declares the columns.
        name: of the table.
        folder: where the files are.

    Attributes:
        rows: how many.
        newest: the newest ``valid_from``; none in a table without rows.
        digest: SHA-256 of the file.

    Raises:
        LookupProblem: the file is missing or torn, or was made for another declaration.
    """

    def __init__(self, usecase: UseCase, name: str, folder: Path) -> None:
        lookup, columns = usecase.lookup(name), usecase.columns_of_lookup(name)
        self._rows, self.digest = open_rows(usecase, lookup, lookup_path(folder, name))
        self.rows, newest = self._rows.execute(f"SELECT count(*), max({VALID_FROM}) FROM rows").fetchone()  # noqa: S608
        self.newest = None if newest is None else EPOCH + newest * MICROSECOND
        self.nothing: tuple[Any, ...] = (None,) * len(columns)
        # Names are those of a checked use case.
        column_sql = "".join(f', "{column.name}"' for column in columns)
        self._query = (
            f'SELECT {VALID_FROM}{column_sql} FROM rows WHERE "{lookup.entity}" = ? AND {VALID_FROM} <= ? '  # noqa: S608
            f"ORDER BY {VALID_FROM} DESC LIMIT 1"
        )
        self._flags = tuple(at for at, column in enumerate(columns) if column.type == "boolean")
        self._age = None if lookup.max_age is None else microseconds(lookup.max_age)

    def row(self, entity: str | None, time_us: int) -> tuple[Any, ...]:
        """The values of an entity at an event time, as :class:`bentos.schema.event.Event` holds them; ``None`` is
        missing.
        """
        if entity is None:
            return self.nothing
        stored_row = self._rows.execute(self._query, (entity, time_us)).fetchone()
        if stored_row is None or (self._age is not None and time_us - stored_row[0] > self._age):
            return self.nothing
        values: tuple[Any, ...] = stored_row[1:]
        return self._with_flags(values) if self._flags else values

    def _with_flags(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """SQLite has no booleans."""
        row = list(values)
        for at in self._flags:
            row[at] = None if row[at] is None else bool(row[at])
        return tuple(row)


class Lookups:
    """The tables of a use case, read when they are first asked for, and then kept as they are.

    Args:
        usecase: declares them.
        folder: where the files are; by default that of the installation.
        hasher: makes the hashes of ``[privacy] hashed``; by default the installation's.
        read: tables that were read already, by name.
    """

    def __init__(
        self,
        usecase: UseCase,
        folder: Path | None = None,
        hasher: Hasher | LazyHasher | None = None,
        tables: Mapping[str, LookupTable] = MappingProxyType({}),
    ) -> None:
        self._usecase = usecase
        self._folder = folder
        self._hasher = hasher
        self._read = dict(tables)

    def table(self, name: str) -> LookupTable:
        """One table.

        Raises:
            LookupProblem: it is missing or cannot be used.
        """
        if name not in self._read:
            folder = self._folder or configured_folder(self._usecase)
            self._read[name] = read_lookup(self._usecase, name, folder, self._hasher)
        return self._read[name]

    def all(self) -> Mapping[str, LookupTable]:
        """Every table that the use case declares, by name; raises like :meth:`table`."""
        return {lookup.name: self.table(lookup.name) for lookup in self._usecase.lookups}


def read_lookup(usecase: UseCase, name: str, folder: Path, hasher: Hasher | LazyHasher | None = None) -> LookupTable:
    """Read and check one table of a folder; it is taken whole or not at all.

    Raises:
        LookupProblem: the file is missing or torn, or holds what the use case refuses.
    """
    lookup = usecase.lookup(name)
    rows, digest = read_rows(usecase, lookup, lookup_path(folder, name), hasher)
    return LookupTable(lookup, usecase.columns_of_lookup(name), rows, digest)


def require_lookups(usecase: UseCase, folder: Path) -> None:
    """Raise :class:`~bentos.errors.LookupProblem` where a declared table is missing or cannot be used."""
    Lookups(usecase, folder).all()


def configured_folder(usecase: UseCase) -> Path:
    """Where this installation keeps the tables of a use case."""
    from bentos.settings import read_settings

    return read_settings().lookups(usecase.name)
