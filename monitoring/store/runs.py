"""Runs: what each flow run was for and how it ended. One row a run, written at start and at end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from sqlalchemy import delete, desc, insert, select

from monitoring.digest import canonical_json
from monitoring.store.engine import Database
from monitoring.store.frames import fetch, from_us, to_us
from monitoring.store.tables import runs

RunState = Literal["running", "completed", "failed"]


@dataclass(frozen=True)
class Run:
    """One flow run.

    Attributes:
        run_id: of Prefect, or any other unique text.
        usecase, flow: what ran.
        state: ``running``, ``completed`` or ``failed``.
        started_at, ended_at: machine time.
        as_of: business time that it ran for, where it has one.
        message: how it ended, in one line; a failure starts with its reason, for example ``no_data``.
        payload: figures, JSON.
    """

    run_id: str
    usecase: str
    flow: str
    state: RunState
    started_at: datetime
    ended_at: datetime | None = None
    as_of: datetime | None = None
    message: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)


class Runs(Protocol):
    """Reads and writes of runs."""

    def put(self, run: Run) -> None:
        """Store a run; one with the same id is replaced."""
        ...

    def latest(self, usecase: str, flow: str, state: RunState | None = None) -> Run | None:
        """The run that started last."""
        ...

    def recent(self, usecase: str, limit: int = 20) -> list[Run]:
        """Newest runs first."""
        ...


class _SqlRuns:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run: Run) -> None:
        names = [column.name for column in runs.columns]
        row: dict[str, Any] = {name: getattr(run, name) for name in names}
        for name in ("started_at", "ended_at", "as_of"):
            row[name] = None if row[name] is None else to_us(row[name])
        row["payload"] = canonical_json(dict(run.payload)).decode()
        with self._database.write() as connection:
            connection.execute(delete(runs).where(runs.c.run_id == run.run_id))
            connection.execute(insert(runs).values(row))

    def latest(self, usecase: str, flow: str, state: RunState | None = None) -> Run | None:
        query = select(runs).where(runs.c.usecase == usecase, runs.c.flow == flow)
        if state is not None:
            query = query.where(runs.c.state == state)
        found = self._rows(query.limit(1))
        return found[0] if found else None

    def recent(self, usecase: str, limit: int = 20) -> list[Run]:
        return self._rows(select(runs).where(runs.c.usecase == usecase).limit(limit))

    def _rows(self, query: Any) -> list[Run]:
        with self._database.read() as connection:
            return [_run(row) for row in fetch(connection, query.order_by(desc(runs.c.started_at)))]


def _run(row: tuple[Any, ...]) -> Run:
    values = dict(zip([column.name for column in runs.columns], row, strict=True))
    for name in ("started_at", "ended_at", "as_of"):
        values[name] = None if values[name] is None else from_us(values[name])
    return Run(**values | {"payload": json.loads(values["payload"])})
