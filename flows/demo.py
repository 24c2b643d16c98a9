"""The demo: a model takes office, meets a changed world and a challenger, is replaced, and comes back.

The story is told on simulated card transactions with every part real: Prefect server and worker, the
MLflow store, the Bento service, the scribe, the database. Each deployment runs once through the
worker; the other simulated days run in this process.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from flows.errors import FlowRefused, StackError
from flows.home import Home
from flows.house import House
from flows.progress import Bar, progress
from flows.stack import Ports, Stack, demo_home, running
from flows.steps.demoplan import DAY, DemoPlan, plan_demo
from flows.steps.replay import Replay, Traffic
from flows.steps.tale import summarise
from monitoring.calendar import TimeWindow

if TYPE_CHECKING:
    from flows.deployed import Submitted
    from flows.outcome import Outcome
    from flows.sources.base import SourceRead

PACE = 50.0
"""Events a second that are sent one by one while the office changes hands."""
SWAP_DAYS = 5
"""Live days that a change of office may take at most, at that pace."""
LABELS_BY_FILE = 1
"""Live day whose labels come from a file instead of HTTP."""
PATIENCE = 60.0
"""Seconds that the log may take to catch up with a day of traffic."""


def run_demo(home: Home, *, keep: bool = False, plan: DemoPlan | None = None) -> dict[str, Any]:
    """Tell the whole story from an empty home; returns what ``summary.json`` holds.

    Raises:
        StackError: a part of the stack failed; the message names its log file.
        FlowRefused: the story did not come to its end.
    """
    home = demo_home(home)
    _empty(home)
    with running(home, Ports.find(), outlive=keep) as stack:
        home.enter()
        os.environ.update(stack.environment)
        from flows.house import open_house

        house = open_house(home.settings.usecase)
        story = Story(house, stack, plan or plan_demo(house.usecase))
        try:
            summary = story.tell()
        except Exception as exc:
            exc.add_note(f"(logs: {home.logs})")
            raise
        (home.root / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        if keep:
            stack.leave()
    return summary


@dataclass
class Story:
    """The demo, chapter by chapter.

    Attributes:
        house: the demo's own use case, registry and database.
        stack: the processes, started as the story needs them.
        plan: when what happens.
        today: the live day that comes next, counted from 0.
        as_of: business time: the end of the last live day.
        under_way: runs of the worker that need not be waited for yet.
    """

    house: House
    stack: Stack
    plan: DemoPlan
    today: int = 0
    as_of: datetime = field(init=False)
    under_way: list[Submitted] = field(default_factory=list)
    bar: Bar = field(init=False)
    client: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.as_of = self.plan.live_from

    def tell(self) -> dict[str, Any]:
        """All chapters, and the figures at the end."""
        self.first_champion()
        self.open_for_traffic()
        with (
            Replay(self.stack.urls["service"], self.house.usecase) as self.client,
            progress("live days", self.plan.expected_days) as self.bar,
        ):
            self.days_until(self.the_other_roads_were_used)
            self.days_until(self.drift_is_noticed)
            self.days_until(self.a_challenger_is_in_shadow)
            self.days_until(self.the_verdict_is_promote)
            self.wait_for_runs()
            self.change_office("promotion", "the challenger catches more fraud at less cost")
            self.change_office("rollback", "the demo shows the way back")
        return self.figures()

    def first_champion(self) -> None:
        """History goes into the log, Prefect comes up, and the training deployment makes the first champion."""
        from flows.sources import open_source
        from flows.steps.history import load_history

        server = self.stack.start_prefect()
        self.stack.start_reports()
        source = open_source(self.house.usecase, "simulator", **self.plan.simulator())
        with progress("history") as bar:
            load_history(source, self.plan.history, self.house.store, self.house.usecase, self.as_of, bar)
        with progress("Prefect server, deployments, worker"):
            server.wait_ready()
            self.stack.start_worker()
            self.stack.start_scribe()
            self.stack.start_service(vacant=True)
            self.stack.publish()
        with progress("first champion (training deployment)"):
            self.run("training", until=self.as_of, source={"kind": "log"}, reason="the first model")

    def open_for_traffic(self) -> None:
        """The service loads the champion and fills its windows from the log."""
        with progress("service: champion loaded, windows warm"):
            self.stack.await_office()

    def days_until(self, came_true: Callable[[], bool]) -> None:
        """Live days, one after the other, until something came true at the end of one.

        Raises:
            FlowRefused: it did not within the plan's days.
        """
        while self.today < self.plan.live_days:
            events = self.events_of(self.today)
            self.client.send(events)
            self.end_of_day(len(events))
            if came_true():
                return
        what = came_true.__name__.replace("_", " ")
        raise FlowRefused(f"after {self.today} live days it is still not so that {what}")

    def the_other_roads_were_used(self) -> bool:
        """Labels from a file and a list scored in bulk, through the worker."""
        self.check_drift()
        file = self.house.settings.root / "inbox" / "labels" / "second-day.csv"
        file.parent.mkdir(parents=True)
        self.labels_of(LABELS_BY_FILE).to_csv(file, index=False)
        self.run("labels")
        self.begin("scoring", end=self.as_of)
        return True

    def drift_is_noticed(self) -> bool:
        """The daily check raises an alarm; the deployment writes its page."""
        found = self.check_drift()
        if found.data["outcome"] not in ("warning", "severe"):
            return False
        self.bar.tell(f"day {self.today - 1}: {found.summary}")
        self.run("drift", as_of=self.as_of, html="always")
        return True

    def a_challenger_is_in_shadow(self) -> bool:
        """Once the policy says so the retraining deployment trains; a model that passes becomes challenger."""
        from flows.steps.renewal import retraining_due

        self.check_drift()
        champion = self.house.champion()
        model = self.house.load(champion)
        due = retraining_due(self.house.store, self.house.usecase, self.house.model, self.as_of, champion.label, model)
        if not due.due:
            self.bar.say(due.reason)
            return False
        self.bar.tell(f"day {self.today - 1}: retraining: {due.reason}")
        self.run("retraining", as_of=self.as_of)
        challenger = self.house.registry.roles(self.house.model).get("challenger")
        if challenger is None:
            self.bar.tell(f"day {self.today - 1}: the gates refused the new model")
            return False
        self.begin("evaluation", as_of=self.as_of)
        self.bar.tell(f"day {self.today - 1}: version {challenger.version} passed the gates and is scored in shadow")
        return True

    def the_verdict_is_promote(self) -> bool:
        """The daily comparison, on whole matured days only, until its bounds decide."""
        from flows.comparison import comparison
        from flows.recording import call

        self.check_drift()
        self.wait_for("the shadow", lambda: self.shadow_pending() == 0)
        found = call(comparison, usecase=self.house.reference, as_of=self.as_of)
        verdict = found.data["verdict"]
        self.bar.say(f"{verdict['outcome'].replace('_', ' ')}: {(verdict['reasons'] or ['no matured day yet'])[0]}")
        if verdict["outcome"] == "keep":
            raise FlowRefused(f"the comparison says that the champion stays: {'; '.join(verdict['reasons'])}")
        if verdict["outcome"] != "promote":
            return False
        self.bar.tell(f"day {self.today - 1}: {found.summary}")
        self.run("comparison", as_of=self.as_of)
        return True

    def change_office(self, flow: str, reason: str) -> None:
        """Promote or roll back through the worker while events are sent one by one."""
        before = self.house.champion().version
        self.bar.say(f"{flow} under traffic")
        days = [self.events_of(day) for day in range(self.today, self.today + SWAP_DAYS)]
        with Traffic(self.client, pd.concat(days, ignore_index=True), PACE) as traffic:
            self.wait_for("traffic", lambda: traffic.tally.versions[before] >= PACE)
            self.run(flow, as_of=self.as_of, preview=False, reason=reason)
            after = self.house.champion().version
            self.wait_for("the new champion's answers", lambda: traffic.tally.versions[after] >= PACE)
        self.bar.tell(f"day {self.today}: {flow}: version {before} out, version {after} in")
        self.finish_days(days, traffic.sent)

    def finish_days(self, days: list[pd.DataFrame], sent: int) -> None:
        """Send in batches what the days that were begun still hold."""
        for events in days:
            self.client.send(events.iloc[sent:])
            self.end_of_day(len(events))
            sent -= len(events)
            if sent <= 0:
                return

    def end_of_day(self, sent: int) -> None:
        """Labels that become known tomorrow are posted, and the log catches up."""
        usecase, window = self.house.usecase, self.plan.day(self.today)
        if self.today + 1 != LABELS_BY_FILE:
            self.client.send_labels(self.labels_of(self.today + 1))
        self.wait_for("the log", lambda: self.house.store.log.count(usecase.name, window) >= sent)
        self.stack.check()
        self.today += 1
        self.as_of = window.end
        self.bar(self.today, max(self.today, self.plan.expected_days))

    def check_drift(self) -> Outcome:
        """The daily drift check, in this process."""
        from flows.drift import drift
        from flows.recording import call

        return call(drift, usecase=self.house.reference, as_of=self.as_of, html="never", skew=False)

    def begin(self, flow: str, **parameters: Any) -> Submitted:
        """Ask the worker for a run; live days go on meanwhile."""
        from flows.deployed import submit

        plain = {name: v.isoformat() if isinstance(v, datetime) else v for name, v in parameters.items()}
        self.under_way.append(submit(self.house.settings, self.house.usecase.name, flow, **plain))
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
        from flows.deployed import wait

        while self.under_way:
            try:
                wait(self.under_way.pop(0))
            except StackError as exc:
                raise StackError(f"{exc.message}; look at {self.stack.home.logs / 'prefect-worker.log'}") from exc

    def wait_for(self, what: str, came_true: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
            StackError: it is not in time, or a process ended.
        """
        deadline = time.monotonic() + PATIENCE
        while not came_true():
            self.stack.check()
            if time.monotonic() > deadline:
                raise StackError(f"{what} did not catch up within {PATIENCE:.0f} s; look at {self.stack.home.logs}")
            time.sleep(0.05)

    def shadow_pending(self) -> int:
        """Answered events that the challenger has still to score."""
        challenger = self.house.registry.resolve(self.house.model, "challenger")
        return self.house.store.shadow.progress(self.house.usecase.name, challenger.label).pending

    def figures(self) -> dict[str, Any]:
        """What happened, read from the database."""
        shown, failed = self.plan.live, self.client.total.failed
        return summarise(self.house.store, self.house.usecase, self.house.model, shown, self.plan.shift_day, failed)

    @cached_property
    def world(self) -> SourceRead:
        """Live events, and the labels of all events whose label is not known at the start."""
        from flows.sources import open_source

        source = open_source(self.house.usecase, "simulator", **self.plan.simulator())
        start = self.plan.live_from - self.house.usecase.label.matures_after - DAY
        return source.read(TimeWindow(start, self.plan.live.end))

    def events_of(self, day: int) -> pd.DataFrame:
        """The events of a live day, in order."""
        return _between(self.world.events, self.house.usecase.event_time, self.plan.day(day))

    def labels_of(self, day: int) -> pd.DataFrame:
        """Positives that become known on a live day: most fraud teams are told of frauds only."""
        known = _between(self.world.revisions, "observed_at", self.plan.day(day))
        return known[known["y"] == 1]


def _between(table: pd.DataFrame, column: str, window: TimeWindow) -> pd.DataFrame:
    inside = (table[column] >= window.start) & (table[column] < window.end)
    return table[inside].reset_index(drop=True)


def _empty(home: Home) -> None:
    """Remove what an earlier demo left; a stack that is still up is not pulled from under its feet."""
    if home.known_addresses():
        raise StackError(f"an earlier demo is still up in {home.root}; stop it with: incumbent down --demo")
    shutil.rmtree(home.root, ignore_errors=True)
