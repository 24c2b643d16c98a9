"""Behind the scenes of the demo: days of traffic, runs of the worker, and waiting for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.usecase.definition import WindowFeature
from bentos.windows.aggregates import AGGREGATES
from flows.demo.plan import DAY, DemoPlan
from flows.errors import StackError
from flows.stack.local_stack import Stack
from flows.steps.operations.replay_events import ReplayClient
from flows.workspace.progress import Bar
from flows.workspace.workspace import Workspace
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from flows.runs.deployments import SubmittedRun
    from flows.sources.base import SourceRead

LABELS_BY_FILE = 1
"""Live day whose labels come from a file instead of HTTP."""
PATIENCE = 120.0
"""Seconds that the log may take to catch up with a day of traffic."""


@dataclass
class Stage:
    """What the demo's story is told with: the world, the clock of its days, the worker, the log.

    Attributes:
        home: the demo's own use case, registry and database.
        stack: the processes, started as the story needs them.
        plan: when what happens.
        today: the live day that comes next, counted from 0.
        as_of: business time: the end of the last live day.
        under_way: runs of the worker that need not be waited for yet.
    """

    workspace: Workspace
    stack: Stack
    plan: DemoPlan
    today: int = 0
    as_of: datetime = field(init=False)
    under_way: list[SubmittedRun] = field(default_factory=list)
    bar: Bar = field(init=False)
    client: ReplayClient = field(init=False)

    def __post_init__(self) -> None:
        self.as_of = self.plan.live_from

    def replay_day(self) -> None:
        """One day of traffic, in batches."""
        events = self.events_of(self.today)
        self.client.send(events)
        self.close_day(len(events))

    def finish_days(self, days: Sequence[pd.DataFrame], sent_events: int) -> None:
        """Send in batches what the days that were begun still hold."""
        for events in days:
            self.client.send(events.iloc[sent_events:])
            self.close_day(len(events))
            sent_events -= len(events)
            if sent_events <= 0:
                return

    def close_day(self, sent_events: int) -> None:
        """Labels that become known tomorrow are posted, and the log catches up."""
        usecase, window = self.workspace.usecase, self.plan.day(self.today)
        self.post_labels(self.today + 1)
        self.wait_for("the log", lambda: self.workspace.store.log.count(usecase.name, window) >= sent_events)
        self.stack.check()
        self.today += 1
        self.as_of = window.end
        self.bar(self.today, max(self.today, self.plan.expected_days))

    def post_labels(self, day: int) -> None:
        """Post the labels that become known on a day; each counts from its own time on.

        Raises:
            StackError: the service refused some.
        """
        refused = 0 if day == LABELS_BY_FILE else self.client.send_labels(self.labels_of(day))
        if refused:
            raise StackError(f"{refused} labels were refused; look at {self.stack.home.logs / 'service.log'}")
        if day != LABELS_BY_FILE:
            self.await_labels(day)

    def await_labels(self, day: int) -> None:
        """Wait until the log, and the service's windows where they count labels, know those of a day.

        A simulated day lasts a second or two, which is what a label needs on its road through the
        log; without waiting, the first events of a day would be scored on yesterday's labels.
        """
        name, events = self.workspace.usecase.name, list(self.labels_of(day)["event_id"])
        if not events:
            return
        self.wait_for(
            "the log of labels", lambda: len(self.workspace.store.labels.of_events(name, events)) >= len(events)
        )
        if not any(
            isinstance(f, WindowFeature) and AGGREGATES[f.agg].of_labels for f in self.workspace.usecase.features
        ):
            return
        last = max(label.label_id for label in self.workspace.store.labels.of_events(name, events))
        self.wait_for("the windows", lambda: self.client.model()["labels_known_up_to"] >= last)

    def begin(self, flow: str, **parameters: Any) -> SubmittedRun:
        """Ask the worker for a run; live days go on meanwhile."""
        from flows.runs.deployments import submit_run

        plain = {name: v.isoformat() if isinstance(v, datetime) else v for name, v in parameters.items()}
        self.under_way.append(submit_run(self.workspace.settings, self.workspace.usecase.name, flow, **plain))
        return self.under_way[-1]

    def run(self, flow: str, **parameters: Any) -> None:
        """Run a deployment through the worker and wait for its end."""
        self.begin(flow, **parameters)
        self.wait_for_runs()

    def wait_for_runs(self) -> None:
        """Wait for every run that is under way.

        Raises:
            StackError: one did not complete; the message names the worker's log.
        """
        from flows.runs.deployments import wait_for_run

        while self.under_way:
            try:
                wait_for_run(self.under_way.pop(0))
            except StackError as exc:
                raise StackError(f"{exc.message}; look at {self.stack.home.logs / 'prefect-worker.log'}") from exc

    def wait_for(self, subject: str, condition: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            StackError: it is not in time, or a process ended.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.stack.check()
            if time.monotonic() > deadline:
                raise StackError(f"{subject} did not catch up within {PATIENCE:.0f} s; look at {self.stack.home.logs}")
            time.sleep(0.05)

    def shadow_pending(self) -> int:
        """Answered events that the challenger has still to score."""
        challenger = self.workspace.registry.resolve(self.workspace.model, "challenger")
        return self.workspace.store.shadow.progress(self.workspace.usecase.name, challenger.label).pending

    @cached_property
    def world(self) -> SourceRead:
        """Live events, and the labels of all events whose label is not known at the start."""
        from flows.sources import open_source

        source = open_source(self.workspace.usecase, "simulator", **self.plan.simulator())
        start = self.plan.live_from - self.workspace.usecase.label.matures_after - DAY
        return source.read(TimeWindow(start, self.plan.live.end))

    def events_of(self, day: int) -> pd.DataFrame:
        """The events of a live day, in order."""
        return _between(self.world.events, self.workspace.usecase.event_time, self.plan.day(day))

    def labels_of(self, day: int) -> pd.DataFrame:
        """Labels that become known on a live day; positives only where no label means a negative one."""
        labels = _between(self.world.revisions, "observed_at", self.plan.day(day))
        return labels[labels["y"] == 1] if self.workspace.usecase.label.absent_after_maturity == "negative" else labels


def _between(table: pd.DataFrame, column: str, window: TimeWindow) -> pd.DataFrame:
    mask = (table[column] >= window.start) & (table[column] < window.end)
    return table[mask].reset_index(drop=True)
