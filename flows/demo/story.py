"""The demo: a model becomes champion, meets a changed world and a challenger, is replaced, and comes back.

The story is told in a simulated world (card transactions, or telephone customers) with every part
real: Prefect server and worker, the MLflow store, the Bento service, the scribe, the database. Each
deployment runs once through the worker; the other simulated days run in this process.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd

from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.demo.plan import DemoPlan, plan_demo
from flows.demo.stage import LABELS_BY_FILE, Stage
from flows.demo.summary import summarise
from flows.errors import FlowRefused, SchemaProblem, StackError
from flows.sources.simulator import SimulatorSource
from flows.stack.local_stack import Ports, demo_home, running
from flows.stack.occupants import find_orphaned_stack
from flows.steps.operations.replay_events import ReplayClient, SteadyTraffic
from flows.workspace.installation import Home
from flows.workspace.progress import progress
from monitoring.core.durations import format_duration

if TYPE_CHECKING:
    from flows.workspace.outcome import FlowOutcome

_OTHER_USECASES = "Name another with --usecase: fraud, churn, or a file with the columns of one of them"
SWAP_DAYS = 5
"""Live days that a change of champion may take at most, at the plan's pace."""


def run_demo(home: Home, *, keep: bool = False, plan: DemoPlan | None = None) -> dict[str, Any]:
    """Tell the whole story from an empty home; returns what ``summary.json`` holds.

    Raises:
        StackError: a part of the stack failed; the message names its log file.
        FlowRefused: the use case has no simulated world, or the story did not come to its end.
    """
    require_world(home.settings.usecase)
    home = demo_home(home)
    with running(home, Ports.find(), outlive=keep, prepare=lambda: _empty_home(home)) as stack:
        home.enter()
        os.environ.update(stack.environment)
        from flows.workspace.workspace import open_workspace

        workspace = open_workspace(home.settings.usecase)
        story = Story(workspace, stack, plan or plan_demo(workspace.usecase))
        try:
            summary = story.tell()
        except Exception as exc:
            exc.add_note(f"(logs: {home.logs})")
            raise
        (home.root / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        if keep:
            stack.leave()
    return summary


class Story(Stage):
    """The demo, chapter by chapter."""

    def tell(self) -> dict[str, Any]:
        """All chapters, and the figures at the end."""
        self.first_champion()
        self.open_for_traffic()
        with (
            ReplayClient(self.stack.urls["service"], self.workspace.usecase) as self.client,
            progress("live days", self.plan.expected_days) as self.bar,
        ):
            self.post_labels(0)
            self.days_until(self.labels_and_list_are_loaded)
            self.days_until(self.drift_is_noticed)
            self.days_until(self.a_challenger_is_in_shadow)
            self.days_until(self.the_verdict_is_promote)
            self.wait_for_runs()
            self.change_champion("promotion", "the challenger catches more at less cost")
            self.change_champion("rollback", "the demo shows the way back")
        self.write_status()
        self.require_healthy_stack()
        return self.figures()

    def write_status(self) -> None:
        """The page of who is active and what to do next, among the reports."""
        from flows.steps.reports.overview import build_overview, write_overview

        write_overview(self.workspace.settings.reports / "status.html", build_overview(self.workspace, self.as_of))

    def require_healthy_stack(self) -> None:
        """Every part as a person sees it: what ``incumbent status --deep`` says.

        Raises:
            StackError: something is wrong; each line that says so.
        """
        from flows.health.status import deep_status, text_of

        with progress("every part seen from outside"):
            self.stack.tend()
            findings = deep_status(self.workspace.reference)
        failures = {name: finding for name, finding in findings.items() if finding.state == "wrong"}
        if failures:
            raise StackError(f"incumbent status --deep is not content:\n{text_of(failures)}")

    def first_champion(self) -> None:
        """History goes into the log, Prefect comes up, and the training deployment makes the first champion."""
        from flows.sources import open_source
        from flows.steps.data.import_history import load_history

        self.stack.keep("prefect-server", "reports")
        source = open_source(self.workspace.usecase, "simulator", **self.plan.simulator())
        with progress("history") as bar:
            load_history(source, self.plan.history, self.workspace.store, self.workspace.usecase, self.as_of, bar)
        with progress("Prefect server, deployments, worker"):
            self.stack.keep()
            self.stack.wait_ready("prefect-server", "deployments", "prefect-worker")
            self.stack.publish()
        with progress("first champion (training deployment)"):
            self.run("training", until=self.as_of, source={"kind": "log"}, reason="the first model")

    def open_for_traffic(self) -> None:
        """The service loads the champion and fills its windows from the log."""
        with progress("service: champion loaded, windows warm"):
            self.stack.wait_for_champion()

    def days_until(self, condition: Callable[[], bool]) -> None:
        """Live days, one after the other, until something came true at the end of one.

        Raises:
            FlowRefused: it did not within the plan's days.
        """
        self.bar.say("")
        while self.today < self.plan.live_days:
            self.replay_day()
            if condition():
                return
        event = condition.__name__.replace("_", " ")
        raise FlowRefused(f"after {self.today} live days it is still not so that {event}")

    def labels_and_list_are_loaded(self) -> bool:
        """Labels from a file and a list scored in bulk, through the worker."""
        self.check_drift()
        file = self.workspace.settings.root / "inbox" / "labels" / "second-day.csv"
        file.parent.mkdir(parents=True)
        self.labels_of(LABELS_BY_FILE).to_csv(file, index=False)
        self.run("labels")
        self.await_labels(LABELS_BY_FILE)
        self.begin("scoring", end=self.as_of)
        return True

    def drift_is_noticed(self) -> bool:
        """The daily check raises an alarm; the deployment writes its page."""
        outcome = self.check_drift()
        if outcome.data["outcome"] not in ("warning", "severe"):
            return False
        self.bar.tell(f"day {self.today - 1}: {outcome.summary}")
        self.run("drift", as_of=self.as_of, html="always")
        return True

    def a_challenger_is_in_shadow(self) -> bool:
        """Once the policy says so the retraining deployment trains; a model that passes becomes challenger."""
        from flows.steps.drift.retraining_due import check_retraining

        self.check_drift()
        champion = self.workspace.champion()
        model = self.workspace.load(champion)
        decision = check_retraining(
            self.workspace.store, self.workspace.usecase, self.workspace.model, self.as_of, champion.label, model
        )
        if not decision.due:
            self.bar.say(decision.reason)
            return False
        self.bar.tell(f"day {self.today - 1}: retraining: {decision.reason}")
        self.run("retraining", as_of=self.as_of)
        challenger = self.workspace.registry.roles(self.workspace.model).get("challenger")
        if challenger is None:
            self.bar.tell(f"day {self.today - 1}: the gates refused the new model")
            return False
        self.begin("evaluation", as_of=self.as_of)
        self.bar.tell(f"day {self.today - 1}: version {challenger.version} passed the gates and is scored in shadow")
        return True

    def the_verdict_is_promote(self) -> bool:
        """The daily comparison, on whole matured days only, until its bounds decide."""
        from flows.comparison import comparison
        from flows.runs.run_record import call

        self.check_drift()
        self.wait_for("the shadow", lambda: self.shadow_pending() == 0)
        outcome = call(comparison, usecase=self.workspace.reference, as_of=self.as_of)
        verdict = outcome.data["verdict"]
        self.bar.say(f"{verdict['outcome'].replace('_', ' ')}: {(verdict['reasons'] or ['no matured day yet'])[0]}")
        if verdict["outcome"] == "keep":
            raise FlowRefused(f"the comparison says that the champion stays: {'; '.join(verdict['reasons'])}")
        if verdict["outcome"] != "promote":
            return False
        self.bar.tell(f"day {self.today - 1}: {outcome.summary}")
        self.run("comparison", as_of=self.as_of)
        return True

    def change_champion(self, flow: str, reason: str) -> None:
        """Promote or roll back through the worker while events are sent one by one."""
        old_version = self.workspace.champion().version
        self.bar.say(f"{flow} under traffic")
        days = [self.events_of(day) for day in range(self.today, self.today + SWAP_DAYS)]
        with SteadyTraffic(self.client, pd.concat(days, ignore_index=True), self.plan.pace) as traffic:
            self.wait_for("traffic", lambda: traffic.tally.versions[old_version] >= self.plan.pace)
            self.run(flow, as_of=self.as_of, preview=False, reason=reason)
            new_version = self.workspace.champion().version
            self.wait_for("the new champion's answers", lambda: traffic.tally.versions[new_version] >= self.plan.pace)
        self.bar.tell(f"day {self.today}: {flow}: version {old_version} out, version {new_version} in")
        self.finish_days(days, traffic.sent)

    def check_drift(self) -> FlowOutcome:
        """The daily drift check, in this process; the worker's own has the aftermath and the page too."""
        from flows.drift import drift
        from flows.runs.run_record import call

        return call(
            drift, usecase=self.workspace.reference, as_of=self.as_of, html="never", skew=False, aftermath=False
        )

    def figures(self) -> dict[str, Any]:
        """What happened, read from the database."""
        usecase, plan = self.workspace.usecase, self.plan
        return summarise(
            self.workspace.store, usecase, self.workspace.model, plan.live, plan.shift_day, self.client.total
        )


def require_world(reference: str) -> None:
    """The simulator must make every column of the use case."""
    usecase = load_usecase(reference)
    if usecase.snapshot is not None:
        raise FlowRefused(f"{_no_world(usecase)}: {_monthly_reason(usecase)}. {_OTHER_USECASES}")
    try:
        SimulatorSource(usecase, usecase.source.simulator).names()
    except SchemaProblem as exc:
        reason = exc.message.partition(";")[0]
        raise FlowRefused(f"{_no_world(usecase)}: {reason}. {_OTHER_USECASES}") from exc


def _no_world(usecase: UseCase) -> str:
    return f"the demo has no simulated world for {usecase.name!r}"


def refuse_table(reference: str, path: str) -> NoReturn:
    """Say why the demo does not tell its story on a table, and what does something with that table.

    Raises:
        FlowRefused: always.
    """
    usecase, file = load_usecase(reference), shlex.quote(path)
    kind = "parquet" if path.endswith((".parquet", ".pq")) else "csv"
    name = shlex.quote(reference)
    reason = "nobody knows whether and when the world changed in a table, and the demo tells whether that was noticed"
    if usecase.snapshot is not None:
        reason = _monthly_reason(usecase)
    elif usecase.untimed:
        reason = "a table without a time has no days to live through"
    train = f"incumbent train --usecase {name} --source {kind} --path {file}"
    bench = f", and 'python -m tests.bench usecase {name} --data {file}' measures it"
    raise FlowRefused(
        f"the demo takes no table: {reason}. '{train}' makes a model of it"
        f"{bench if usecase.untimed or usecase.snapshot is not None else ''}; 'incumbent serve' answers with it"
    )


def _monthly_reason(usecase: UseCase) -> str:
    days = usecase.promotion.min_matured_days
    matures = format_duration(usecase.label.matures_after)
    return (
        f"{usecase.name} has one snapshot a month, and its comparison needs {days} of them and {matures} for the last "
        "label: its story takes more than a year, and the demo tells days"
    )


def _empty_home(home: Home) -> None:
    """Remove what an earlier demo left, but the lock that is ours; a stack that lives is not pulled from under."""
    if find_orphaned_stack(home) is not None:
        raise StackError(f"an earlier demo is still up in {home.root}; stop it with: incumbent down --demo")
    for entry in home.root.iterdir():
        if entry == home.run:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    home.addresses.unlink(missing_ok=True)
