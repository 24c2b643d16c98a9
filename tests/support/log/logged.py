"""Small builders of what lies in the log: records, labels, policies, times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from monitoring.core.calendar import TimeWindow
from monitoring.policies import LabelPolicy
from monitoring.store import LabelRecord, PlanRecord, ScoreRecord, ShadowRecord
from monitoring.store.database.frames import to_us

START = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday, midnight."""
PLAN = PlanRecord("plan-1", ("amount", "count"))
CHAMPION, CHALLENGER = "dev-fraud/1", "dev-fraud/2"


def at(days: float) -> datetime:
    """That many days after the start."""
    return START + timedelta(days=days)


def days(first: float, last: float) -> TimeWindow:
    """A window of days after the start."""
    return TimeWindow(at(first), at(last))


def labels_policy(**changes: Any) -> LabelPolicy:
    """Labels mature after 7 days, absence is negative, a chargeback outranks an analyst."""
    values: dict[str, Any] = {
        "column": "y",
        "matures_after": timedelta(days=7),
        "absent_after_maturity": "negative",
        "sources": ("chargeback", "analyst"),
    }
    return LabelPolicy(**values | changes)


def scored(number: int, day: float = 0.0, **changes: Any) -> ScoreRecord:
    """Event ``number``, answered by version 1 with a score of .2 on a threshold of .5."""
    values: dict[str, Any] = {
        "usecase": "fraud",
        "event_id": f"e{number:05d}",
        "event_time": to_us(at(day)),
        "received_at": to_us(at(day)),
        "origin": "live",
        "body": b'{"id":"e%05d","amount":%d.5}' % (number, number),
        "plan_id": PLAN.plan_id,
        "features": np.array([number, 1], dtype="<f4").tobytes(),
        "model": "dev-fraud",
        "version": "1",
        "alias": "champion",
        "contract": "c" * 64,
        "raw_score": 0.25,
        "score": 0.2,
        "threshold": 0.5,
        "decision": False,
    }
    return ScoreRecord(**values | changes)


def unscored(number: int, day: float = 0.0, **changes: Any) -> ScoreRecord:
    """Event ``number``, sent not to be scored."""
    full = scored(number, day, **{"origin": "event"} | changes)
    return ScoreRecord(full.usecase, full.event_id, full.event_time, full.received_at, full.origin, full.body)


def shadowed(number: int, **changes: Any) -> ShadowRecord:
    """What version 2 said in shadow about event ``number``: .8 on a threshold of .6."""
    values: dict[str, Any] = {
        "usecase": "fraud",
        "event_id": f"e{number:05d}",
        "model": "dev-fraud",
        "version": "2",
        "role": "challenger",
        "raw_score": 0.75,
        "score": 0.8,
        "threshold": 0.6,
        "decision": True,
        "error": None,
        "scored_at": 0,
    }
    return ShadowRecord(**values | changes)


def label(number: int, y: int, day: float, source: str = "chargeback") -> LabelRecord:
    """One statement about event ``number``, known since ``day``."""
    return LabelRecord("fraud", f"e{number:05d}", y, to_us(at(day)), source, to_us(at(day)))


def numbers(ids: Sequence[str]) -> list[int]:
    """Event ids back to their numbers."""
    return [int(name[1:]) for name in ids]
