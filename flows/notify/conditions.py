"""What lasts: a condition is told when it has stood for its grace, once a day while it lasts, and when it is over.

The state is rows in the store, and every notice has an id that follows from when its condition began: so it is told
once, however many processes look and however often they are killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from flows.notify.notice import Notice, identified, span
from monitoring.store import StandingCondition

DAILY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now.

    Attributes:
        subject: what it is about; the same text names the same matter.
        notice: what people are told when it begins; its ``outcome``, ``since`` and ``id`` are filled in.
        grace: how long it must stand before it is told, and be gone before its end is.
    """

    subject: str
    notice: Notice
    grace: timedelta = timedelta(0)


@dataclass(frozen=True)
class Looked:
    """What one look of one watch found.

    Attributes:
        standing: what is wrong.
        endings: by subject, how it ended; others just are over.
        grace: of an end, see :class:`Condition`.
    """

    standing: Sequence[Condition] = ()
    endings: Mapping[str, str] = field(default_factory=dict)
    grace: timedelta = timedelta(0)


@dataclass(frozen=True)
class Turn:
    """What follows from a look: rows to write, rows to forget, notices to tell."""

    standing: list[StandingCondition] = field(default_factory=list)
    ended: list[StandingCondition] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def take_turn(known: Sequence[StandingCondition], looked: Looked, usecase: str, watch: str, now: datetime) -> Turn:
    """What follows from a look at machine time ``now``, given what was known before."""
    turn, before = Turn(), {one.subject: one for one in known}
    for found in looked.standing:
        _goes_on(turn, found, before.pop(found.subject, None), usecase, watch, now)
    for gone in before.values():
        _is_over(turn, gone, looked, now)
    return turn


def _goes_on(
    turn: Turn, found: Condition, row: StandingCondition | None, usecase: str, watch: str, now: datetime
) -> None:
    text = found.notice.to_text()
    if row is None:
        row = StandingCondition(usecase, watch, found.subject, text, now)
    row = replace(row, content=text, cleared_at=None)
    if row.told_at is None and now - row.since >= found.grace:
        turn.notices.append(_as_told(found.notice, row, "begun", ""))
        row = replace(row, told_at=now)
    elif row.told_at is not None and now - row.told_at >= DAILY:
        days = (now - row.since) // DAILY
        turn.notices.append(
            _as_told(
                found.notice, row, "lasts", f"This has lasted for {span((now - row.since).total_seconds())}. ", days
            )
        )
        row = replace(row, told_at=now)
    turn.standing.append(row)


def _is_over(turn: Turn, row: StandingCondition, looked: Looked, now: datetime) -> None:
    if row.cleared_at is None:
        row = replace(row, cleared_at=now)
    assert row.cleared_at is not None
    if now - row.cleared_at < looked.grace and row.told_at is not None:
        turn.standing.append(row)  # it may come back: one that flaps is one matter
        return
    turn.ended.append(row)
    if row.told_at is not None:
        notice = Notice.from_text(row.content)
        how = looked.endings.get(row.subject, "It is over")
        text = f"{how}, after {span((row.cleared_at - row.since).total_seconds())}. What was told: {notice.text}"
        over = replace(notice, text=text, title=f"Over: {notice.title}", todo="", link=notice.link)
        turn.notices.append(_as_told(over, row, "ended", ""))


def _as_told(notice: Notice, row: StandingCondition, outcome: str, lead: str, *more: object) -> Notice:
    dated = replace(notice, outcome=outcome, text=lead + notice.text, since=row.since.isoformat())
    return identified(dated, row.watch, row.subject, row.since.isoformat(), outcome, *more)
