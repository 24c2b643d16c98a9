"""Signs of life of parts that answer nobody: the scribe and the notifier. The service has its own (``served``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select, update

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.tables import heartbeats


class Heartbeats:
    """Reads and writes of signs of life, all on the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, usecase: str, part: str) -> None:
        """Say that a part lives now."""
        with self._database.write(lazy=True) as connection:
            row = (usecase, part, self._database.now(connection))
            if not self._database.insert_new(connection, heartbeats, ("usecase", "part", "seen_at"), [row]):
                ours = (heartbeats.c.usecase == usecase, heartbeats.c.part == part)
                connection.execute(update(heartbeats).where(*ours).values(seen_at=row[2]))

    def seen(self, usecase: str) -> Mapping[str, tuple[datetime, float]]:
        """By part: its last sign of life, and how many seconds ago that was."""
        query = select(heartbeats.c.part, heartbeats.c.seen_at).where(heartbeats.c.usecase == usecase)
        with self._database.read() as connection:
            now = self._database.now(connection)
            return {part: (from_us(at), max(0.0, (now - at) / 1e6)) for part, at in fetch(connection, query)}
