"""Data quality read from a real database."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pandas as pd
from sqlalchemy import insert

from flows.steps.drift.data_quality import measure_data_quality
from monitoring.core.calendar import BusinessCalendar
from monitoring.store import Store, open_store
from monitoring.store.database.tables import quarantine

AS_OF = datetime(2026, 3, 11, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = BusinessCalendar("UTC", time(0, 0))


def bad(store: Store, reason: str, records: int) -> None:
    with store.database.write() as connection:
        row = {"usecase": "fraud", "writer": f"w{reason}{records}", "segment": 1, "position": records, "seq": records}
        connection.execute(
            insert(quarantine).values(row | {"records": records, "reason": reason, "payload": b"x", "stored_at": 1})
        )


def test_quarantine_is_told_by_reason_and_by_what_is_new_since_the_last_check() -> None:
    store = open_store("memory://")
    times = [AS_OF - timedelta(days=n, minutes=40) for n in (0, 7, 7, 14, 14, 14)] + [AS_OF + HOUR]
    events = pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(times))],
            "ts": pd.Series(pd.to_datetime(times, utc=True)).dt.as_unit("us"),
            "amount": 1.0,
        }
    )
    store.log.import_history("fraud", events, "event_id", "ts")
    bad(store, "bad score", 2)
    first = measure_data_quality(store, "fraud", DAYS, AS_OF, HOUR)
    assert first.quarantine == {"bad score": 2}
    assert first.new_quarantine == {"bad score": 2}
    assert first.new_duplicates is None
    assert first.freshness.age_s == 2400.0, "an event that is later than the check is not looked at"
    assert (first.volume.day, first.volume.rows, first.volume.usual) == ("2026-03-10", 1, 2.5)
    assert first.volume.status == "low"
    bad(store, "bad score", 1)
    bad(store, "unknown plan", 4)
    second = measure_data_quality(store, "fraud", DAYS, AS_OF, HOUR, first.to_json())
    assert second.quarantine == {"bad score": 3, "unknown plan": 4}
    assert second.new_quarantine == {"bad score": 1, "unknown plan": 4}
    assert second.new_duplicates == 0
    store.close()
