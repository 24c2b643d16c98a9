"""Serving: which version each replica answers with now, by its own word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from monitoring.core.hashing import canonical_json
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.tables import served


@dataclass(frozen=True)
class Replica:
    """What one replica said last.

    Attributes:
        replica: its name, unique for each process start.
        model: registered model name.
        version: the version that it answers with; none when nothing is active there.
        champion: the version that it saw behind ``@champion``; none when it could not look.
        since: machine time since which it answers with that version.
        seen_at: its last sign of life, on the database's clock.
        age: seconds since then.
        detail: anything else as JSON text, for example the error of a refused version.
    """

    replica: str
    model: str
    version: str | None
    champion: str | None
    since: datetime
    seen_at: datetime
    age: float
    detail: str = "{}"


class Serving:
    """Heartbeats of replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(
        self,
        usecase: str,
        replica: str,
        model: str,
        version: str | None,
        champion: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what this replica serves now; ``since`` moves when the version changes."""
        text = canonical_json(dict(detail or {})).decode()
        columns = ("usecase", "replica", "model", "version", "champion", "detail", "since", "seen_at")
        with self._database.write() as connection:
            now = self._database.now(connection)
            old = fetch(connection, select(served.c.version, served.c.since).where(*_is_replica(usecase, replica)))
            since = old[0][1] if old and old[0][0] == version else now
            row = (usecase, replica, model, version, champion, text, since, now)
            if old:
                values = dict(zip(columns, row, strict=True))
                connection.execute(update(served).where(*_is_replica(usecase, replica)).values(values))
            else:
                self._database.insert_new(connection, served, columns, [row])

    def live(self, usecase: str, within_seconds: float = 15.0) -> list[Replica]:
        """Replicas that were heard of lately, by the database's clock."""
        c = served.c
        query = select(c.replica, c.model, c.version, c.champion, c.since, c.seen_at, c.detail)
        with self._database.read() as connection:
            now = self._database.now(connection)
            recent = query.where(c.usecase == usecase, c.seen_at >= now - int(within_seconds * 1e6))
            rows = fetch(connection, recent.order_by(c.replica))
        return [
            Replica(name, model, version, champion, from_us(since), from_us(seen), (now - seen) / 1e6, detail)
            for name, model, version, champion, since, seen, detail in rows
        ]

    def leave(self, usecase: str, replica: str) -> None:
        """Forget a replica that shuts down in order."""
        with self._database.write() as connection:
            connection.execute(delete(served).where(*_is_replica(usecase, replica)))


def _is_replica(usecase: str, replica: str) -> tuple[Any, ...]:
    return (served.c.usecase == usecase, served.c.replica == replica)
