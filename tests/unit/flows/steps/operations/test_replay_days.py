from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from bentos.usecase.loading import load_usecase
from flows.errors import FlowRefused, NoData
from flows.sources.base import SourceRead
from flows.steps.operations.replay_days import ReplayOptions, replay_days
from flows.steps.operations.replay_events import ReplayTally
from monitoring.core.calendar import TimeWindow
from monitoring.store import LabelRecord, memory_store

FRAUD = load_usecase("fraud")
DAY = timedelta(days=1)
START = pd.Timestamp("2026-03-01", tz="UTC")
WINDOW = TimeWindow(START.to_pydatetime(), (START + 3.5 * DAY).to_pydatetime())


class Source:
    """Two events a day, none on the third day; an event's label is known 1.5 days later."""

    kind = "table"
    origin = "a test"

    def read(self, window: TimeWindow, as_of: object = None) -> SourceRead:
        every = [START + n * DAY / 2 for n in range(8) if n not in (4, 5)]
        times = [t for t in every if window.start <= t < window.end]
        if not times:
            raise NoData("nothing")
        ids = [f"t-{t:%d-%H}" for t in times]
        events = pd.DataFrame({"transaction_id": ids, "tx_time": pd.Series(times).dt.as_unit("us")})
        observed = pd.Series([t + 1.5 * DAY for t in times]).dt.as_unit("us")
        labels = pd.DataFrame({"event_id": ids, "y": [1] * len(ids), "observed_at": observed, "source": "chargeback"})
        return SourceRead(events, labels, pd.DataFrame(), window, self.origin, revisions=labels)

    def extent(self) -> TimeWindow:
        return WINDOW


class Service:
    """Notes what it is sent; stores labels at once, and knows them after a few questions."""

    usecase = FRAUD

    def __init__(self, *, scribe: bool = True, refuses: int = 0) -> None:
        self.heard: list[Any] = []
        self.store = memory_store()
        self._scribe, self._refuses, self._known = scribe, refuses, 0

    def send(self, events: pd.DataFrame, batch: int) -> ReplayTally:
        self.heard.append(list(events["transaction_id"]))
        return ReplayTally(sent=len(events), answered=len(events))

    def send_labels(self, labels: pd.DataFrame) -> int:
        self.heard.append({row.event_id for row in labels.itertuples()})
        at = labels["observed_at"].astype("int64").tolist()
        rows = [LabelRecord("fraud", e, 1, t, "chargeback", t) for e, t in zip(labels["event_id"], at, strict=True)]
        if self._scribe:
            self.store.labels.add(rows, FRAUD.label)
        return self._refuses

    def model(self) -> dict[str, int]:
        self._known += 1
        return {"labels_known_up_to": self._known}


def test_labels_go_out_before_the_day_on_which_they_become_known() -> None:
    service, seen = Service(), []
    done = replay_days(service, Source(), WINDOW, service.store, progress=lambda n, of: seen.append((n, of)))  # type: ignore[arg-type]  # a stand-in
    assert service.heard == [
        ["t-01-00", "t-01-12"],
        {"t-01-00"},
        ["t-02-00", "t-02-12"],
        {"t-01-12", "t-02-00"},
        {"t-02-12"},
        ["t-04-00"],
    ]
    assert (done.events, done.answered, done.labels, done.refused_labels) == (5, 5, 4, 0)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_events_alone_can_be_replayed() -> None:
    service = Service()
    done = replay_days(service, Source(), WINDOW, service.store, options=ReplayOptions(labels=False))  # type: ignore[arg-type]  # a stand-in
    assert all(isinstance(part, list) for part in service.heard)
    assert (done.events, done.labels) == (5, 0)


def test_labels_that_reach_no_database_end_the_replay_with_a_reason() -> None:
    service = Service(scribe=False)
    with pytest.raises(FlowRefused, match="scribe"):
        replay_days(service, Source(), WINDOW, service.store, options=ReplayOptions(patience=0.1))  # type: ignore[arg-type]  # a stand-in


def test_refused_labels_are_counted() -> None:
    service = Service(refuses=1)
    assert replay_days(service, Source(), WINDOW, service.store).refused_labels == 3  # type: ignore[arg-type]  # a stand-in
