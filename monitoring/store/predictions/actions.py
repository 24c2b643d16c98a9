"""What was really done with events, and by whom: statements, of which the latest counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Select, select

from monitoring.core.calendar import TimeWindow
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, fetch, floats, texts, times, to_us
from monitoring.store.database.records import ActionRecord
from monitoring.store.database.tables import actions, event_ids, predictions

if TYPE_CHECKING:
    import pandas as pd

_FIELDS: Final = ActionRecord.__struct_fields__
_ROW: Final = attrgetter(*_FIELDS)
_END_OF_TIME: Final = 2**62


class Actions:
    """Reads and writes of the actions. ``as_of`` is business time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[ActionRecord]) -> int:
        """Store actions; one that is known word for word changes nothing. Returns the new ones.

        Raises:
            RowRefused: an action or an actor that is none; nothing was stored.
            StoreUnavailable: nothing was stored; try again.
        """
        with self._database.write() as connection:
            return insert_actions(self._database, connection, records)

    def latest(self, usecase: str, as_of: datetime, window: TimeWindow | None = None) -> pd.DataFrame:
        """The latest action of each event: event_id, action, by, taken_at. With a window, of its events only."""
        bounds = None if window is None else (to_us(window.start), to_us(window.end))
        with self._database.read() as connection:
            return latest_actions(connection, usecase, to_us(as_of), bounds)

    def blocked(self, usecase: str, as_of: datetime | None, window: TimeWindow) -> frozenset[str]:
        """Events of a span of event time that were blocked: as reported, else as the answer asked for."""
        p, bounds = predictions.c, (to_us(window.start), to_us(window.end))
        query = select(p.event_id).where(p.usecase == usecase, p.action == "block")
        query = query.where(p.event_time >= bounds[0], p.event_time < bounds[1])
        with self._database.read() as connection:
            asked = {event_id for (event_id,) in fetch(connection, query)}
            known_at = _END_OF_TIME if as_of is None else to_us(as_of)
            done = latest_actions(connection, usecase, known_at, bounds)
        reported = done["action"] == "block"
        released = set(done.loc[~reported, "event_id"])
        return frozenset((asked - released) | set(done.loc[reported, "event_id"]))

    def asked(self, usecase: str, window: TimeWindow) -> pd.DataFrame:
        """Flagged events of a span of event time: event_id, action (``block``, ``explore``), propensity."""
        import pandas as pd

        p = predictions.c
        query = select(p.event_id, p.action, p.propensity).where(p.usecase == usecase)
        query = query.where(p.action.in_(("block", "explore")))
        query = query.where(p.event_time >= to_us(window.start), p.event_time < to_us(window.end))
        with self._database.read() as connection:
            ids, action, chance = columns_of(fetch(connection, query), 3)
        return pd.DataFrame({"event_id": texts(ids), "action": texts(action), "propensity": floats(chance)})


def insert_actions(database: Database, connection: Connection, records: Sequence[ActionRecord]) -> int:
    """Insert within a transaction of the caller."""
    if not records:
        return 0
    now = database.now(connection)
    return database.insert_new(
        connection, actions, (*_FIELDS, "stored_at"), [(*_ROW(record), now) for record in records]
    )


def latest_actions(connection: Connection, usecase: str, as_of: int, bounds: tuple[int, int] | None) -> pd.DataFrame:
    """The latest action of each event, as known at ``as_of``; microseconds."""
    import pandas as pd

    c = actions.c
    query: Select[Any] = select(c.event_id, c.action, c.by, c.taken_at)
    if bounds is not None:
        events = event_ids(connection.dialect.name == "sqlite")
        p = events.c
        query = query.join(events, (p.usecase == c.usecase) & (p.event_id == c.event_id))
        query = query.where(p.event_time >= bounds[0], p.event_time < bounds[1])
    query = query.where(c.usecase == usecase, c.taken_at <= as_of).order_by(c.taken_at, c.action_id)
    ids, action, by, taken_times = columns_of(fetch(connection, query), 4)
    frame = pd.DataFrame(
        {"event_id": texts(ids), "action": texts(action), "by": texts(by), "taken_at": times(taken_times)}
    )
    return frame.drop_duplicates("event_id", keep="last").reset_index(drop=True)
