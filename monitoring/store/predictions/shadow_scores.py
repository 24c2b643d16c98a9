"""What models in shadow said about events that another model answered.

A *watch* says from when (machine time) a model is due to score. It only scores events that arrived
after it entered its role: earlier ones may be among those it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import astuple
from sqlalchemy import Select, and_, func, not_, select, update

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch
from monitoring.store.database.records import ShadowRecord, split_label
from monitoring.store.database.tables import predictions, roles, shadow, shadow_watches

_FIELDS: Final = ShadowRecord.__struct_fields__
_DECISION: Final = _FIELDS.index("decision")
NOT_LOGGED: Final = "features_missing"
"""The note on an event that was logged without a feature that the model wants."""
_SETTLED_US: Final = 30_000_000
"""Rows stored longer ago than this have all become visible: no writer's transaction lasts so long."""


@dataclass(frozen=True)
class PendingRow:
    """An answered event that a model has not scored yet, with its features as served; ``row_id`` is its place."""

    event_id: str
    plan_id: str
    features: bytes
    row_id: int


@dataclass(frozen=True)
class PendingBody:
    """An answered event that an external incumbent is not noted for yet; ``row_id`` is its place."""

    event_id: str
    body: bytes
    row_id: int


@dataclass(frozen=True)
class ShadowProgress:
    """How one model in shadow gets on: scored rows, failures among them, rows still to score."""

    model: str
    scored: int
    errors: int
    pending: int


class ShadowLog:
    """Reads and writes of shadow scores; ``model`` is a label such as ``dev-fraud/3``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def watch(self, usecase: str, model: str) -> int:
        """Start to watch (or find the watch) and return since when, in machine microseconds.

        A new watch starts when the journal says that the version took its role, else now.
        """
        name, version = split_label(model)
        w = shadow_watches.c
        with self._database.write() as connection:
            known = connection.execute(select(w.since).where(*_is_watch(usecase, model))).scalar()
            if known is not None:
                return int(known)
            since = connection.execute(_shadow_start_query(name, version)).scalar() or self._database.now(connection)
            first = select(func.min(predictions.c.row_id)).where(
                predictions.c.usecase == usecase, predictions.c.received_at >= since
            )
            last = select(func.max(predictions.c.row_id))
            low = connection.execute(first).scalar()
            low = (connection.execute(last).scalar() or 0) if low is None else low - 1
            row = (usecase, name, version, int(since), int(low))
            self._database.insert_new(
                connection, shadow_watches, ("usecase", "model", "version", "since", "low_row"), [row]
            )
            return int(since)

    def pending(self, usecase: str, model: str, limit: int, after: int = 0) -> list[PendingRow]:
        """Oldest answered events since the watch began that this model neither answered nor scored.

        ``after`` leaves out rows up to that place: a caller that has just looked at them saves the database that.
        """
        p = predictions.c
        query = select(p.event_id, p.plan_id, p.features, p.row_id).where(p.row_id > after)
        query = query.order_by(p.row_id).limit(limit)
        with self._database.read() as connection:
            return [PendingRow(*row) for row in fetch(connection, _unscored_query(query, usecase, model))]

    def pending_bodies(self, usecase: str, model: str, limit: int, after: int = 0) -> list[PendingBody]:
        """The same events with their bodies instead of their features."""
        p = predictions.c
        query = select(p.event_id, p.body, p.row_id).where(p.row_id > after).order_by(p.row_id).limit(limit)
        with self._database.read() as connection:
            return [PendingBody(*row) for row in fetch(connection, _unscored_query(query, usecase, model))]

    def newest_row(self) -> int:
        """Place of the newest row of the log; a row that is still being written may get an earlier one."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(predictions.c.row_id))).scalar() or 0)

    def advance(self, usecase: str, model: str) -> None:
        """Remember that nothing old is pending, so that the next look starts later. Only a saving."""
        p = predictions.c
        with self._database.write() as connection:
            old = self._database.now(connection) - _SETTLED_US
            low = select(shadow_watches.c.low_row).where(*_is_watch(usecase, model)).scalar_subquery()
            settled = select(func.max(p.row_id)).where(p.row_id > low, p.stored_at < old)
            target = connection.execute(settled).scalar()
            waiting = connection.execute(_unscored_query(select(func.min(p.row_id)), usecase, model)).scalar()
            if target is None:
                return
            target = target if waiting is None else min(target, waiting - 1)
            connection.execute(update(shadow_watches).where(*_is_watch(usecase, model)).values(low_row=target))

    def append(self, rows: Sequence[ShadowRecord]) -> int:
        """Store scores or failures; a pair of model and event that is there already stays. Returns the new ones.

        Raises:
            RowRefused: a score outside 0..1; nothing was stored.
        """
        with self._database.write(lazy=True) as connection:  # a row that a power cut takes is due again
            return self._database.insert_new(connection, shadow, _FIELDS, [_as_row(row) for row in rows])

    def progress(self, usecase: str, model: str) -> ShadowProgress:
        """Counts since the watch began; it begins now for a version that the journal gave a role."""
        name, version = split_label(model)
        with self._database.read() as connection:
            appointed = connection.execute(_shadow_start_query(name, version)).scalar()
        if appointed is not None:
            self.watch(usecase, model)
        s = shadow.c
        counted = select(func.count(), func.count(s.error)).where(
            s.usecase == usecase, s.model == name, s.version == version
        )
        with self._database.read() as connection:
            scored, errors = connection.execute(counted).one()
            pending = connection.execute(_unscored_query(select(func.count()), usecase, model)).scalar_one()
        return ShadowProgress(model, int(scored) - int(errors), int(errors), int(pending))


def _shadow_start_query(name: str, version: str) -> Select[Any]:
    """When the version first held a role in which it is scored, by the journal; machine time or null."""
    is_version = (roles.c.model == name, roles.c.version == version, roles.c.role != "candidate")
    return select(func.min(roles.c.recorded_at)).where(*is_version)


def _is_watch(usecase: str, model: str) -> tuple[Any, ...]:
    name, version = split_label(model)
    w = shadow_watches.c
    return (w.usecase == usecase, w.model == name, w.version == version)


def _unscored_query(query: Select[Any], usecase: str, model: str) -> Select[Any]:
    name, version = split_label(model)
    p, s, w = predictions.c, shadow.c, shadow_watches.c
    same_event = and_(s.usecase == p.usecase, s.model == name, s.version == version, s.event_id == p.event_id)
    source = predictions.join(shadow_watches, and_(*_is_watch(usecase, model))).outerjoin(shadow, same_event)
    return query.select_from(source).where(
        # Not by the index on usecase, which holds all history: by row_id, from the watch's place on.
        func.coalesce(p.usecase, "") == usecase,
        p.row_id > select(w.low_row).where(*_is_watch(usecase, model)).scalar_subquery(),
        p.received_at >= w.since,
        p.origin == "live",
        p.features.is_not(None),
        p.plan_id.is_not(None),
        not_(and_(p.model == name, p.version == version)),
        s.event_id.is_(None),
    )


def _as_row(record: ShadowRecord) -> tuple[Any, ...]:
    row = astuple(record)
    return row if record.decision is None else (*row[:_DECISION], int(record.decision), *row[_DECISION + 1 :])
