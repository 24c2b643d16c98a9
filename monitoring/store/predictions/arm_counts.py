"""What the arms of a routing policy answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, and_, func, select

from monitoring.core.calendar import TimeWindow
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, decode_bodies, fetch, texts, times, to_us
from monitoring.store.database.records import split_label
from monitoring.store.database.tables import predictions, shadow

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS: Final = 200_000


@dataclass(frozen=True)
class ArmCount:
    """Answered events of one arm, by the role that answered; ``alerts`` of them were flagged."""

    arm: str
    alias: str
    events: int
    alerts: int


class Arms:
    """Reads of the log by routing policy; ``routing`` is the short digest that each routed event carries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, usecase: str, routing: Sequence[str]) -> list[ArmCount]:
        """Events and alerts of each arm, by the role that answered."""
        p = predictions.c
        query = select(p.arm, p.alias, func.count(), func.sum(p.decision)).where(*_is_routed(usecase, routing))
        with self._database.read() as connection:
            rows = fetch(connection, query.group_by(p.arm, p.alias).order_by(p.arm, p.alias))
        return [ArmCount(arm, alias, int(events), int(alerts or 0)) for arm, alias, events, alerts in rows]

    def shadow_counts(self, usecase: str, routing: Sequence[str], model: str) -> tuple[int, int]:
        """Events that this model scored in shadow under these policies, and those it would have flagged."""
        p, s = predictions.c, shadow.c
        name, version = split_label(model)
        same = and_(s.usecase == p.usecase, s.model == name, s.version == version, s.event_id == p.event_id)
        query = select(func.count(), func.sum(s.decision)).select_from(predictions.join(shadow, same))
        with self._database.read() as connection:
            events, alerts = connection.execute(query.where(*_is_routed(usecase, routing), s.error.is_(None))).one()
        return int(events), int(alerts or 0)

    def units(self, usecase: str, routing: Sequence[str], entity: str | None) -> dict[str, int]:
        """How many different units each arm has seen: values of a column, or events where there is none.

        Only the newest 200,000 events are looked at: a ramp asks every few seconds.
        """
        p = predictions.c
        query = select(p.arm, p.event_id, p.body).where(*_is_routed(usecase, routing))
        with self._database.read() as connection:
            rows = fetch(connection, query.order_by(p.row_id.desc()).limit(_MAX_ROWS))
        arms, ids, bodies = columns_of(rows, 3)
        found: dict[str, set[str]] = {}
        for arm, unit in zip(arms, _units(ids, bodies, entity), strict=True):
            found.setdefault(arm, set()).add(unit)
        return {arm: len(units) for arm, units in found.items()}

    def answers(self, usecase: str, routing: Sequence[str], window: TimeWindow) -> pd.DataFrame:
        """Answered events of a span of event time: event_id, event_time, arm, alias, decision (bool)."""
        import pandas as pd

        p = predictions.c
        query = select(p.event_id, p.event_time, p.arm, p.alias, p.decision).where(
            *_is_routed(usecase, routing), p.event_time >= to_us(window.start), p.event_time < to_us(window.end)
        )
        with self._database.read() as connection:
            rows = fetch(connection, query.order_by(p.event_time, p.row_id))
        ids, at, arms, alias, decision = columns_of(rows, 5)
        frame = {"event_id": texts(ids), "event_time": times(at), "arm": texts(arms), "alias": texts(alias)}
        return pd.DataFrame(frame | {"decision": pd.Series([bool(d) for d in decision], dtype=bool)})


def _is_routed(usecase: str, routing: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    p = predictions.c
    return (p.routing.in_(list(routing)), p.usecase == usecase, p.origin == "live")


def _units(ids: Sequence[str], bodies: Sequence[bytes], entity: str | None) -> Sequence[str]:
    if entity is None:
        return ids
    # Whatever its type, as the text that the hash was taken of; a keyed hash counts like what it stands for.
    values = decode_bodies(list(bodies), {entity: "string"})[entity]
    return [event_id if value is None else value for event_id, value in zip(ids, values, strict=True)]
