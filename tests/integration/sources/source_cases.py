"""The same events behind every source: what the source tests share."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from bentos.usecase.definition import Shift
from bentos.usecase.loading import load_usecase
from flows.sources import EventSource, SourceRead, open_source
from flows.steps.data.import_history import load_history
from monitoring.core.calendar import TimeWindow
from monitoring.store import memory_store

FRAUD = load_usecase("fraud")
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 12
WORLD = {
    "customers": 40,
    "terminals": 80,
    "days": DAYS,
    "seed": 7,
    "shifts": (Shift(day=0, kind="fraud_rate", factor=30.0),),
}
WINDOW = TimeWindow(START, datetime(2026, 1, 13, tzinfo=UTC))
NAMES = {c.name: c.external_name for c in FRAUD.columns}

Make = Callable[[pd.DataFrame, Path], EventSource]
"""Stores a foreign table in a folder and opens it."""


@cache
def truth() -> SourceRead:
    """What every source must give for the whole window."""
    return open_source(FRAUD, "simulator", **WORLD).read(WINDOW)


def foreign(read: SourceRead) -> pd.DataFrame:
    """The events with their label as a foreign table: other names, another order, columns of no interest."""
    table = read.events.rename(columns=NAMES)
    y = read.labels.set_index("event_id")["y"].reindex(read.events[FRAUD.event_id])
    table.insert(0, "TX_FRAUD", y.to_numpy())
    table["TX_FRAUD_SCENARIO"] = 0
    return table.sample(frac=1.0, random_state=1)


@dataclass(frozen=True)
class Case:
    """One way to store a foreign table and the source that reads it."""

    name: str
    make: Make


def _naive(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(TX_DATETIME=pd.to_datetime(table["TX_DATETIME"], utc=True).dt.tz_localize(None))


def _text(table: pd.DataFrame) -> pd.DataFrame:
    text = [None if pd.isna(t) else t.isoformat() for t in table["TX_DATETIME"]]
    return table.assign(TX_DATETIME=pd.Series(text, dtype=object, index=table.index))


def csv_file(table: pd.DataFrame, folder: Path) -> EventSource:
    table.to_csv(folder / "cards.csv", index=False)
    return open_source(FRAUD, "csv", path=str(folder / "cards.csv"))


def csv_folder(table: pd.DataFrame, folder: Path) -> EventSource:
    half = len(table) // 2
    (folder / "day=1").mkdir()
    table.iloc[:half].to_csv(folder / "day=1" / "a.csv.gz", index=False)
    table.iloc[half:].iloc[:, ::-1].to_csv(folder / "b.csv", index=False, sep=";")
    (folder / "_SUCCESS").touch()
    (folder / "notes.txt").write_text("not data")
    return open_source(FRAUD, "csv", path=str(folder))


def csv_memory(table: pd.DataFrame, folder: Path) -> EventSource:
    url = f"memory://{uuid.uuid4().hex}/cards.csv"
    _naive(table).to_csv(url, index=False)
    return open_source(FRAUD, "csv", path=url)


def parquet_file(table: pd.DataFrame, folder: Path) -> EventSource:
    table.to_parquet(folder / "cards.parquet", row_group_size=100)
    return open_source(FRAUD, "parquet", path=str(folder / "cards.parquet"))


def parquet_folder(table: pd.DataFrame, folder: Path) -> EventSource:
    half = len(table) // 2
    table.iloc[:half].to_parquet(folder / "a.parquet")
    other = table.iloc[half:].iloc[:, ::-1].drop(columns="TX_FRAUD_SCENARIO")
    other.to_parquet(folder / "b.parquet")
    return open_source(FRAUD, "parquet", path=str(folder))


def parquet_memory(table: pd.DataFrame, folder: Path) -> EventSource:
    url = f"memory://{uuid.uuid4().hex}/cards.parquet"
    table.to_parquet(url)
    return open_source(FRAUD, "parquet", path=url)


def parquet_naive(table: pd.DataFrame, folder: Path) -> EventSource:
    return parquet_file(_naive(table), folder)


def parquet_text(table: pd.DataFrame, folder: Path) -> EventSource:
    return parquet_file(_text(table), folder)


def sql_table(table: pd.DataFrame, folder: Path) -> EventSource:
    return _sql(_naive(table), folder, "cards")


def sql_text(table: pd.DataFrame, folder: Path) -> EventSource:
    return _sql(_text(table), folder, "cards")


def sql_view(table: pd.DataFrame, folder: Path) -> EventSource:
    return _sql(_naive(table), folder, "cards_view")


def _sql(table: pd.DataFrame, folder: Path, name: str) -> EventSource:
    engine = sa.create_engine(f"sqlite:///{folder / 'bank.db'}")
    with engine.begin() as connection:
        table.to_sql("cards", connection, index=False)
        connection.execute(sa.text("CREATE VIEW cards_view AS SELECT * FROM cards"))
    engine.dispose()
    return open_source(FRAUD, "sql", url=f"sqlite:///{folder / 'bank.db'}", table=name)


def simulator(table: pd.DataFrame, folder: Path) -> EventSource:
    return open_source(FRAUD, "simulator", **WORLD)


def log(table: pd.DataFrame, folder: Path) -> EventSource:
    table.to_parquet(folder / "history.parquet")
    store = memory_store()
    past = open_source(FRAUD, "parquet", path=str(folder / "history.parquet"))
    load_history(past, past.extent(), store, FRAUD)
    return open_source(FRAUD, "log", store=store)


FOREIGN = tuple(
    Case(f.__name__, f)
    for f in (
        csv_file, csv_folder, csv_memory, parquet_file, parquet_folder, parquet_memory, parquet_naive, parquet_text,
        sql_table, sql_text, sql_view,
    )
)  # fmt: skip
"""Sources of foreign tables, which may hold bad rows."""
EVERY = (*FOREIGN, Case("simulator", simulator), Case("log", log))
