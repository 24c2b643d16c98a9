"""Data quality of a window: what was refused, what is missing, how old the newest event is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring.core.calendar import BusinessCalendar, TimeWindow
from monitoring.drift.data_quality import WEEKS, QualityReport, freshness, volume
from monitoring.store.predictions.recent_pairs import newest_event
from monitoring.store.predictions.spool_ledger import quarantined

if TYPE_CHECKING:
    from monitoring.store import Store


def measure_data_quality(
    store: Store,
    usecase: str,
    calendar: BusinessCalendar,
    as_of: datetime,
    stale_after: timedelta,
    last_payload: Mapping[str, Any] | None = None,
) -> QualityReport:
    """Look at one use case.

    Args:
        store: log and ledger.
        usecase, calendar: whose events, in which days.
        as_of: business time of the check; later events are not looked at.
        stale_after: age of the newest event from which it is unknown whether all is well.
        last_payload: what this function found at the check before, as JSON.
    """
    end = calendar.start_of(calendar.day_of(as_of))
    last = calendar.day_of(end - timedelta(hours=1))
    days = [last - timedelta(weeks=n) for n in range(WEEKS + 1)]
    counts = [store.log.count(usecase, TimeWindow(calendar.start_of(d), calendar.end_of(d))) for d in days]
    reasons = quarantined(store.database, usecase)
    duplicates = store.ledger.accounting(usecase).duplicates
    last_quality = None if last_payload is None else QualityReport.from_json(last_payload)
    last_quarantine = {} if last_quality is None else last_quality.quarantine
    increases = {name: count - last_quarantine.get(name, 0) for name, count in reasons.items()}
    return QualityReport(
        freshness(newest_event(store.database, usecase, as_of), as_of, stale_after),
        volume(str(last), counts[0], counts[1:]),
        duplicates,
        None if last_quality is None else duplicates - last_quality.duplicates,
        reasons,
        {name: count for name, count in increases.items() if count > 0},
    )
