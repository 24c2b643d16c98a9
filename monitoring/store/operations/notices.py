"""Notices to people: an outbox of what is to be told to whom, and the state behind it.

A notice is stored under a stable id before it is sent, once for each target, and a sender claims it for a while
before it sends. A sender that dies in between leaves it claimed; when the claim runs out it is sent again under the
same id: at least once, never lost. Writing a notice that is there already changes nothing, so several processes may
find the same matter. Targets are names; their addresses hold secrets and are never stored.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, exists, func, select, update

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import notice_conditions, notice_marks, notices

NoticeState = Literal["waiting", "delivered", "given_up"]
_INSERT_COLUMNS: Final = (
    "notice_id",
    "target",
    "usecase",
    "kind",
    "state",
    "content",
    "problem",
    "created_at",
    "next_at",
)


@dataclass(frozen=True)
class NoticeEntry:
    """One notice for one target, to be stored; ``content`` is JSON text."""

    notice_id: str
    target: str
    usecase: str
    kind: str
    content: str


@dataclass(frozen=True)
class WaitingNotice:
    """A notice that the caller has claimed and must send; ``attempts`` counts this one too."""

    notice_id: str
    target: str
    content: str
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class StandingCondition:
    """Something that was wrong when somebody looked.

    Attributes:
        usecase, watch, subject: what is wrong, and which watch found it.
        content: the notice about it as JSON text, as of the last look.
        since: machine time of the first look that found it.
        told_at: machine time of the last notice about it; none while it is younger than its grace.
        cleared_at: machine time of the first look that did not find it any more; none while it stands.
    """

    usecase: str
    watch: str
    subject: str
    content: str
    since: datetime
    told_at: datetime | None = None
    cleared_at: datetime | None = None


class Notices:
    """Reads and writes of the outbox. Times are machine time of the caller."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, entries: Sequence[NoticeEntry], now: datetime, marks: Mapping[tuple[str, str], int] | None = None
    ) -> int:
        """Store the notices that are new, and how far their source was read, in one transaction; returns how many."""
        with self._database.write() as connection:
            stored = self._insert(connection, entries, now)
            for (usecase, name), value in (marks or {}).items():
                row = (usecase, name, value)
                if not self._database.insert_new(connection, notice_marks, ("usecase", "name", "value"), [row]):
                    ours = (
                        notice_marks.c.usecase == usecase,
                        notice_marks.c.name == name,
                        notice_marks.c.value < value,
                    )
                    connection.execute(update(notice_marks).where(*ours).values(value=value))
        return stored

    def mark(self, usecase: str, name: str) -> int | None:
        """How far a source was read; none before the first time."""
        c = notice_marks.c
        with self._database.read() as connection:
            found: int | None = connection.execute(select(c.value).where(c.usecase == usecase, c.name == name)).scalar()
        return found

    def claim(
        self, now: datetime, seconds: float, limit: int = 20, notice_id: str | None = None
    ) -> builtins.list[WaitingNotice]:
        """Take notices that are due, oldest first; nobody else gets them for ``seconds``."""
        c, at = notices.c, to_us(now)
        due = select(c.notice_id, c.target, c.content, c.attempts, c.created_at, c.next_at).where(
            c.state == "waiting", c.next_at <= at
        )
        if notice_id is not None:
            due = due.where(c.notice_id == notice_id)
        with self._database.read() as connection:
            rows = fetch(connection, due.order_by(c.created_at, c.notice_id).limit(limit))
        if not rows:
            return []
        until = at + int(seconds * 1e6)
        with self._database.write() as connection:
            return [
                WaitingNotice(name, target, content, attempts + 1, from_us(created))
                for name, target, content, attempts, created, next_at in rows
                if connection.execute(
                    update(notices)
                    .where(*_is_notice(name, target), c.state == "waiting", c.next_at == next_at)
                    .values(next_at=until, attempts=attempts + 1)
                ).rowcount
                == 1
            ]

    def mark_delivered(self, claimed: WaitingNotice, now: datetime) -> None:
        """Say that a target took a notice."""
        values = {"state": "delivered", "problem": "", "delivered_at": to_us(now)}
        with self._database.write(durable=True) as connection:
            connection.execute(update(notices).where(*_is_notice(claimed.notice_id, claimed.target)).values(values))

    def refused(self, claimed: WaitingNotice, problem: str, again_at: datetime | None) -> None:
        """Say why a target did not take a notice, and when to try again; none gives it up."""
        values: dict[str, Any] = {"problem": problem}
        values |= {"state": "given_up"} if again_at is None else {"next_at": to_us(again_at)}
        ours = (*_is_notice(claimed.notice_id, claimed.target), notices.c.state == "waiting")
        with self._database.write() as connection:
            connection.execute(update(notices).where(*ours).values(values))

    def conditions(self, usecase: str, watch: str) -> builtins.list[StandingCondition]:
        """What a watch has found and not seen end yet."""
        return [one for one in self.standing(usecase) if one.watch == watch]

    def standing(self, usecase: str) -> builtins.list[StandingCondition]:
        """What all watches of a use case have found and not seen end yet."""
        c = notice_conditions.c
        query = select(*(c[name] for name in _CONDITION)).where(c.usecase == usecase)
        with self._database.read() as connection:
            return [_condition(row) for row in fetch(connection, query.order_by(c.watch, c.subject))]

    def save(
        self,
        open_conditions: Sequence[StandingCondition],
        ended_conditions: Sequence[StandingCondition],
        entries: Sequence[NoticeEntry],
        now: datetime,
    ) -> None:
        """Write the state of conditions, forget those that ended, and store the notices, in one transaction.

        Nothing is written where another process has just found one of the same conditions.
        """
        if not (open_conditions or ended_conditions or entries):
            return
        with contextlib.suppress(_ConditionExists), self._database.write() as connection:
            for one in open_conditions:
                row = _condition_row(one)
                if self._database.insert_new(connection, notice_conditions, _CONDITION, [tuple(row.values())]):
                    continue
                if one.since == now:
                    raise _ConditionExists  # it tells what this look would tell; the next look finds its row
                connection.execute(update(notice_conditions).where(*_is_condition(one)).values(row))
            for one in ended_conditions:
                connection.execute(delete(notice_conditions).where(*_is_condition(one)))
            self._insert(connection, entries, now)

    def problems(self) -> builtins.list[tuple[str, int, datetime, str]]:
        """Targets with notices that were tried and not taken: name, how many, since when, the newest reason."""
        c, later = notices.c, notices.alias("later")
        # What was given up before the target took another notice is history.
        since_then = exists().where(later.c.target == c.target, later.c.delivered_at > c.next_at)
        open_ones = ((c.state == "given_up") & ~since_then) | ((c.state == "waiting") & (c.problem != ""))
        query = select(c.target, func.count(), func.min(c.created_at), func.max(c.problem)).where(open_ones)
        with self._database.read() as connection:
            rows = fetch(connection, query.group_by(c.target).order_by(c.target))
        return [(target, int(count), from_us(since), problem) for target, count, since, problem in rows]

    def prune(self, before: datetime) -> int:
        """Forget notices that were delivered or given up before a machine time; returns how many."""
        old = (notices.c.state != "waiting", notices.c.created_at < to_us(before))
        with self._database.write() as connection:
            return connection.execute(delete(notices).where(*old)).rowcount

    def _insert(self, connection: Connection, entries: Sequence[NoticeEntry], now: datetime) -> int:
        at = to_us(now)
        rows = [(e.notice_id, e.target, e.usecase, e.kind, "waiting", e.content, "", at, at) for e in entries]
        return self._database.insert_new(connection, notices, _INSERT_COLUMNS, rows)


class _ConditionExists(Exception):
    """Another process has found the same condition first."""


RETENTION: Final = timedelta(days=90)
"""How long a notice is remembered after it was stored."""
_CONDITION: Final = ("usecase", "watch", "subject", "content", "since", "told_at", "cleared_at")
_TIMES: Final = ("since", "told_at", "cleared_at")


def _is_notice(notice_id: str, target: str) -> tuple[Any, ...]:
    return (notices.c.notice_id == notice_id, notices.c.target == target)


def _is_condition(condition: StandingCondition) -> tuple[Any, ...]:
    c = notice_conditions.c
    return (c.usecase == condition.usecase, c.watch == condition.watch, c.subject == condition.subject)


def _condition_row(condition: StandingCondition) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(condition, name) for name in _CONDITION}
    return row | {name: None if row[name] is None else to_us(row[name]) for name in _TIMES}


def _condition(row: tuple[Any, ...]) -> StandingCondition:
    values = dict(zip(_CONDITION, row, strict=True))
    return StandingCondition(
        **values | {name: None if values[name] is None else from_us(values[name]) for name in _TIMES}
    )
