"""Replay a source through a running service, day by day in event-time order, with its labels.

Before a day begins, the labels that become known on it are reported, and the windows of the service
have learnt them; each counts from its own time on. So the features that the service logs are those that
the offline build gives for the same events and labels.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.schema.table_cleaning import empty_labels
from flows.errors import FlowRefused, NoData
from flows.sources.base import EventSource, SourceRead
from flows.steps.operations.replay_events import ReplayClient
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

_DAY = timedelta(days=1)
PATIENCE = 120.0
"""Seconds that labels may take on their road to the windows."""
Progress = Callable[[int, int], None]


@dataclass
class ReplayResult:
    """What a replay did.

    Attributes:
        window: what was replayed.
        events: events sent.
        answered: events that got an answer.
        labels: label statements reported.
        refused_labels: statements in requests that the service refused.
        quarantined: rows of the source that are no events.
        versions: answers by model version.
        reasons: requests that failed, by reason.
    """

    window: TimeWindow
    events: int = 0
    answered: int = 0
    labels: int = 0
    refused_labels: int = 0
    quarantined: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "start": self.window.start,
            "end": self.window.end,
            "events": self.events,
            "answered": self.answered,
            "labels": self.labels,
            "failed_requests": sum(self.reasons.values()),
            "refused_labels": self.refused_labels,
            "quarantined": self.quarantined,
            "versions": dict(self.versions),
            "reasons": dict(self.reasons),
        }


@dataclass(frozen=True)
class ReplayOptions:
    """How a window is sent.

    Attributes:
        batch: events of one request.
        labels: whether labels are reported too.
        patience: seconds to wait for the labels of a day.
    """

    batch: int = 100
    labels: bool = True
    patience: float = PATIENCE


def replay_days(
    client: ReplayClient,
    source: EventSource,
    window: TimeWindow,
    store: Store,
    as_of: datetime | None = None,
    options: ReplayOptions | None = None,
    progress: Progress = lambda result, total: None,
) -> ReplayResult:
    """Send a window of a source through a service; one day is held in memory, and the labels still to come.

    Args:
        client: where the events go.
        source: any source.
        window: event times.
        store: the service's database, to see labels arrive.
        as_of: events and labels of later times are left out.
        options: how it is sent.
        progress: told of each day.

    Raises:
        SourceError: a day cannot be read.
        FlowRefused: the labels of a day did not reach the windows; is the scribe running?
    """
    result, pending_labels, options = ReplayResult(window), empty_labels(), options or ReplayOptions()
    days = list(_days(window))
    for number, day in enumerate(days):
        source_read = _read_day(source, day, as_of)
        if source_read is not None:
            result.quarantined += len(source_read.quarantine)
            pending_labels = (
                pd.concat([pending_labels, source_read.revisions], ignore_index=True)
                if len(pending_labels)
                else source_read.revisions
            )
        if options.labels:
            is_due = (pending_labels["observed_at"] < day.end).to_numpy()
            _post_labels(client, store, pending_labels[is_due], result, options.patience)
            pending_labels = pending_labels[~is_due]
        if source_read is not None:
            tally = client.send(source_read.events, options.batch)
            result.events += tally.sent
            result.answered += tally.answered
            result.versions += tally.versions
            result.reasons += tally.reasons
        progress(number + 1, len(days))
    return result


def _days(window: TimeWindow) -> Iterator[TimeWindow]:
    start = window.start
    while start < window.end:
        yield TimeWindow(start, min(start + _DAY, window.end))
        start += _DAY


def _read_day(source: EventSource, day: TimeWindow, as_of: datetime | None) -> SourceRead | None:
    """A day of the source, or nothing: a day without events is no fault."""
    try:
        return source.read(day, as_of)
    except NoData:
        return None


def _post_labels(
    client: ReplayClient, store: Store, labels: pd.DataFrame, result: ReplayResult, patience: float
) -> None:
    """Post labels in the order in which they became known, and wait until the windows know them."""
    if not len(labels):
        return
    labels = labels.sort_values("observed_at", kind="stable")
    result.labels += len(labels)
    refused = client.send_labels(labels)
    result.refused_labels += refused
    if refused:
        return
    name, expected_keys = client.usecase.name, set(zip(labels["event_id"], labels["observed_at"], strict=True))
    ids = list(dict.fromkeys(labels["event_id"]))
    deadline, last_id = time.monotonic() + patience, 0
    while not last_id or client.model()["labels_known_up_to"] < last_id:
        if not last_id:
            statements = store.labels.of_events(name, ids)
            stored_keys = {
                (statement.event_id, pd.Timestamp(statement.observed_at, unit="us", tz="UTC"))
                for statement in statements
            }
            last_id = (
                max(statement.label_id for statement in statements)
                if statements and stored_keys >= expected_keys
                else 0
            )
        if time.monotonic() > deadline:
            raise FlowRefused("labels do not reach the windows of the service; does its scribe run on this database?")
        time.sleep(0.05)
