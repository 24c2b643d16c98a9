"""Late labels in files: read, checked row by row, ready for the labels table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from bentos.schema.column_parsing import REASONS, read_booleans, read_column, read_times
from bentos.usecase.definition import Column, UseCase
from bentos.usecase.limits import LATEST_US
from flows.errors import NoData, SchemaProblem, SourceOptionsError
from flows.workspace.step import step
from monitoring.store.database.records import IN_FUTURE, LabelRecord

SUFFIXES = (".csv", ".parquet")
_MICROSECOND = pd.Timedelta(microseconds=1)
_EPOCH = pd.Timestamp(0, tz="UTC")


@dataclass(frozen=True)
class LabelFile:
    """What a file of labels holds.

    Attributes:
        records: good rows.
        refused: rows that were refused, by reason.
    """

    records: list[LabelRecord]
    refused: dict[str, int]


def label_files(path: Path, *, must_exist: bool = True) -> list[Path]:
    """The file itself, or the label files of a folder by name.

    Args:
        path: a file or a folder.
        must_exist: whether a person named it; only then is it a mistake that it does not exist.

    Raises:
        SourceOptionsError: a named path does not exist.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if must_exist and not path.exists():
        raise SourceOptionsError(f"{path}: no such file or folder")
    return [path] if path.exists() else []


@step(name="read labels", run_name="read {file.name}", tags=("files",))
def read_label_file(file: Path, usecase: UseCase, now: datetime, latest_us: int = LATEST_US) -> LabelFile:
    """Read one file of labels.

    The columns are the event id (``event_id``, or its name in the use case or in foreign tables), the
    label (``label``, ``y``, or its names), ``observed_at`` and, where several sources are ranked,
    ``source``; without it the strongest is meant.

    Args:
        file: ends in .csv or .parquet.
        usecase: names the columns and ranks the sources.
        now: machine time: when the labels arrived.
        latest_us: rows that were observed later are of the future, and refused.

    Raises:
        NoData: the file has no row.
        SchemaProblem: a column is missing.
        SourceOptionsError: the file is of another kind.
    """
    table = _read_table(file)
    if table.empty:
        raise NoData(f"{file}: it holds no rows")
    ids, id_codes = read_column(table[_column_name(table, _id_names(usecase), file)], _ID, usecase.zone)
    y, y_codes = read_booleans(table[_column_name(table, _label_names(usecase), file)], False)
    times, time_codes = read_times(table[_column_name(table, ("observed_at",), file)], usecase.zone, False)
    source, source_codes = _sources(table, usecase)
    codes = np.maximum.reduce([np.asarray(c, np.uint8) for c in (id_codes, y_codes, time_codes)])
    reasons = pd.Series(np.asarray(REASONS, dtype=object)[codes]).where(codes > 0, source_codes)
    observed_us = ((times - _EPOCH) // _MICROSECOND).to_numpy()
    reasons = reasons.mask((reasons == "") & (observed_us > latest_us), IN_FUTURE)
    is_good = (reasons == "").to_numpy()
    received_us = int((pd.Timestamp(now) - _EPOCH) // _MICROSECOND)
    rows = zip(
        np.asarray(ids)[is_good], np.asarray(y)[is_good], observed_us[is_good], np.asarray(source)[is_good], strict=True
    )
    records = [
        LabelRecord(usecase.name, str(event_id), int(value), int(observed_at), str(source_name), received_us)
        for event_id, value, observed_at, source_name in rows
    ]
    return LabelFile(records, {str(k): int(value) for k, value in reasons[~is_good].value_counts().items()})


_ID = Column(name="event_id", type="identifier")


def _read_table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    if file.suffix == ".csv":
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    raise SourceOptionsError(f"{file}: labels are read from {' or '.join(SUFFIXES)} files")


def _sources(table: pd.DataFrame, usecase: UseCase) -> tuple[pd.Series, pd.Series]:
    source_names = usecase.label.sources
    sources = table["source"].astype(str) if "source" in table else pd.Series(source_names[0], index=table.index)
    return sources, pd.Series(np.where(sources.isin(source_names), "", "unknown_source"), dtype=object)


def _id_names(usecase: UseCase) -> tuple[str, ...]:
    return ("event_id", usecase.event_id, usecase.column(usecase.event_id).external_name)


def _label_names(usecase: UseCase) -> tuple[str, ...]:
    names = ("label", "y", usecase.label.column, usecase.label.source_name)
    return tuple(name for name in names if name is not None)


def _column_name(table: pd.DataFrame, candidates: tuple[str, ...], file: Path) -> str:
    for name in candidates:
        if name in table.columns:
            return name
    raise SchemaProblem(f"{file}: no column {' or '.join(dict.fromkeys(candidates))}")
