"""How far the database is behind a service, and the challenger behind the champion."""

from __future__ import annotations

import time

from sqlalchemy import func, select

from flows.drills.load.homes import BenchHome
from monitoring.store.database.tables import predictions


class LagWatch:
    """How far the database is behind the service."""

    def __init__(self, home: BenchHome) -> None:
        self._home = home

    def stored(self) -> int:
        """Events in the log."""
        with self._home.store() as store, store.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(predictions)).scalar_one())

    def lag(self) -> float:
        """Age in seconds of the oldest record that is not in the database: what has arrived since the newest that is.

        A spool is shipped in order, so everything older than the newest stored record is stored.
        """
        now = time.time()
        query = select(predictions.c.received_at).order_by(predictions.c.row_id.desc()).limit(1)
        with self._home.store() as store, store.database.read() as connection:
            newest = connection.execute(query).scalar()
        return 0.0 if newest is None else max(0.0, now - int(newest) / 1e6)

    def shadow_pending(self) -> int:
        """Answered events that the challenger has still to score."""
        challenger = self._home.registry.roles(self._home.model).get("challenger")
        if challenger is None:
            return 0
        with self._home.store() as store:
            return store.shadow.progress(self._home.usecase.name, challenger.label).pending
