"""Runs: what each flow run was for and how it ended. One row a run, written at start and at end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, desc, func, insert, select, update

from monitoring.core.hashing import canonical_json
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import runs

RunState = Literal["running", "completed", "failed", "killed"]


@dataclass(frozen=True)
class Run:
    """One flow run.

    Attributes:
        run_id: of Prefect, or any other unique text.
        usecase, flow: what ran.
        state: ``running``, ``completed``, ``failed``, or ``killed`` where its process was gone without a word.
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


class Runs:
    """Reads and writes of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run: Run) -> None:
        """Store a run; one with the same id is replaced."""
        names = [column.name for column in runs.columns]
        row: dict[str, Any] = {name: getattr(run, name) for name in names}
        for name in ("started_at", "ended_at", "as_of"):
            row[name] = None if row[name] is None else to_us(row[name])
        row["payload"] = canonical_json(dict(run.payload)).decode()
        with self._database.write() as connection:
            connection.execute(delete(runs).where(runs.c.run_id == run.run_id))
            connection.execute(insert(runs).values(row))

    def latest(self, usecase: str, flow: str, state: RunState | None = None) -> Run | None:
        """The run that started last."""
        query = select(runs).where(runs.c.usecase == usecase, runs.c.flow == flow)
        if state is not None:
            query = query.where(runs.c.state == state)
        found = self._rows(query.limit(1))
        return found[0] if found else None

    def recent(self, usecase: str, limit: int = 20) -> list[Run]:
        """Newest runs first."""
        return self._rows(select(runs).where(runs.c.usecase == usecase).limit(limit))

    def running(self, usecase: str, flow: str | None = None) -> list[Run]:
        """Every run that has not ended, newest first."""
        query = select(runs).where(runs.c.usecase == usecase, runs.c.state == "running")
        return self._rows(query if flow is None else query.where(runs.c.flow == flow))

    def last_ended(self, usecase: str) -> list[Run]:
        """The run of each flow that succeeded last, and the one that failed last, however long ago."""
        newest = _newest_ended(usecase).subquery()
        same = (
            (runs.c.flow == newest.c.flow) & (runs.c.state == newest.c.state) & (runs.c.ended_at == newest.c.ended_at)
        )
        return self._rows(select(runs).join(newest, same).where(runs.c.usecase == usecase))

    def end(self, run_id: str, state: RunState, ended_at: datetime, message: str) -> bool:
        """End a run that is still running; whether it was."""
        change = update(runs).where(runs.c.run_id == run_id, runs.c.state == "running")
        with self._database.write() as connection:
            done = connection.execute(change.values(state=state, ended_at=to_us(ended_at), message=message))
            return done.rowcount > 0

    def prune(self, usecase: str, before: datetime) -> int:
        """Delete ended runs that started before then, all but the last success and failure of each flow; how many."""
        kept = [run.run_id for run in self.last_ended(usecase)]
        old = (runs.c.usecase == usecase) & (runs.c.started_at < to_us(before)) & runs.c.ended_at.is_not(None)
        with self._database.write() as connection:
            return connection.execute(delete(runs).where(old, runs.c.run_id.not_in(kept))).rowcount

    def _rows(self, query: Any) -> list[Run]:
        with self._database.read() as connection:
            return [_run(row) for row in fetch(connection, query.order_by(desc(runs.c.started_at)))]


def _newest_ended(usecase: str) -> Any:
    is_ended = (runs.c.usecase == usecase) & runs.c.ended_at.is_not(None)
    last_ended_at = func.max(runs.c.ended_at).label("ended_at")
    return select(runs.c.flow, runs.c.state, last_ended_at).where(is_ended).group_by(runs.c.flow, runs.c.state)


def _run(row: tuple[Any, ...]) -> Run:
    values = dict(zip([column.name for column in runs.columns], row, strict=True))
    for name in ("started_at", "ended_at", "as_of"):
        values[name] = None if values[name] is None else from_us(values[name])
    return Run(**values | {"payload": json.loads(values["payload"])})
