"""What lasts: a condition is told when it has stood for its grace, once a day while it lasts, and when it is over.

The state is rows in the store, and every notice has an id that follows from when its condition began: so it is told
once, however many processes look and however often they are killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from flows.notify.notice import Notice, span_text, with_id
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
class ConditionsView:
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
class ConditionChanges:
    """What follows from a look: rows to write, rows to forget, notices to tell."""

    standing: list[StandingCondition] = field(default_factory=list)
    ended: list[StandingCondition] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def follow_conditions(
    rows: Sequence[StandingCondition], view: ConditionsView, usecase: str, watch: str, now: datetime
) -> ConditionChanges:
    """What follows from a look at machine time ``now``, given what was known before."""
    changes, open_rows = ConditionChanges(), {row.subject: row for row in rows}
    for condition in view.standing:
        _continue_condition(changes, condition, open_rows.pop(condition.subject, None), usecase, watch, now)
    for ended_row in open_rows.values():
        _end_condition(changes, ended_row, view, now)
    return changes


def _continue_condition(
    changes: ConditionChanges,
    condition: Condition,
    row: StandingCondition | None,
    usecase: str,
    watch: str,
    now: datetime,
) -> None:
    text = condition.notice.to_text()
    if row is None:
        row = StandingCondition(usecase, watch, condition.subject, text, now)
    row = replace(row, content=text, cleared_at=None)
    if row.told_at is None and now - row.since >= condition.grace:
        changes.notices.append(_dated_notice(condition.notice, row, "begun", ""))
        row = replace(row, told_at=now)
    elif row.told_at is not None and now - row.told_at >= DAILY:
        days = (now - row.since) // DAILY
        changes.notices.append(
            _dated_notice(
                condition.notice,
                row,
                "lasts",
                f"This has lasted for {span_text((now - row.since).total_seconds())}. ",
                days,
            )
        )
        row = replace(row, told_at=now)
    changes.standing.append(row)


def _end_condition(changes: ConditionChanges, row: StandingCondition, view: ConditionsView, now: datetime) -> None:
    if row.cleared_at is None:
        row = replace(row, cleared_at=now)
    assert row.cleared_at is not None
    if now - row.cleared_at < view.grace and row.told_at is not None:
        changes.standing.append(row)  # it may come back: one that flaps is one matter
        return
    changes.ended.append(row)
    if row.told_at is not None:
        notice = Notice.from_text(row.content)
        ending = view.endings.get(row.subject, "It is over")
        text = (
            f"{ending}, after {span_text((row.cleared_at - row.since).total_seconds())}. What was told: {notice.text}"
        )
        over = replace(notice, text=text, title=f"Over: {notice.title}", todo="", link=notice.link)
        changes.notices.append(_dated_notice(over, row, "ended", ""))


def _dated_notice(notice: Notice, row: StandingCondition, outcome: str, lead: str, *more: object) -> Notice:
    dated = replace(notice, outcome=outcome, text=lead + notice.text, since=row.since.isoformat())
    return with_id(dated, row.watch, row.subject, row.since.isoformat(), outcome, *more)
