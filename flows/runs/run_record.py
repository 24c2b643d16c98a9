"""What is kept of each run of a flow: one row in the runs table, whatever becomes of it, and its reports."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.exceptions import ExternalSignal, Pause
from prefect.states import Completed, State

from bentos.errors import RoleVacant
from flows.errors import NothingToDo
from flows.runs.artifacts import publish
from flows.runs.run_name import rename_run
from flows.workspace.clock import business_time, machine_now
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import Workspace
from monitoring.errors import MonitoringError

if TYPE_CHECKING:
    from monitoring.store import Report, ReportKind
    from monitoring.store.operations.runs import RunState

log = logging.getLogger("incumbent.flows")


@dataclass
class FlowRun:
    """One run of one flow.

    Attributes:
        home: what it works with.
        flow: name of the flow.
        as_of: business time; see :meth:`set_as_of`.
        run_id: that of the Prefect run, else a new one.
        started: machine time.
        outcome: what it concluded, once it has.
    """

    workspace: Workspace
    flow: str
    as_of: datetime
    run_id: str
    started: datetime
    outcome: FlowOutcome | None = None

    def set_as_of(self, as_of: datetime) -> datetime:
        """Take the business time that the flow has worked out, and name the Prefect run by it."""
        self.as_of = as_of
        rename_run(as_of)
        return as_of

    def keep(
        self,
        kind: ReportKind,
        outcome: str,
        payload: Mapping[str, Any],
        *,
        model: str | None = None,
        challenger: str | None = None,
        html: Path | None = None,
    ) -> Report:
        """Store a finding of this run for its business time."""
        from monitoring.store import Report

        page = None if html is None else str(html)
        report = Report(
            self.workspace.usecase.name, kind, self.as_of, outcome, payload, model, challenger, page, self.run_id
        )
        return self.workspace.store.reports.add(report)

    def conclude(self, outcome: FlowOutcome) -> FlowOutcome:
        """Publish what was found and return it.

        In a Prefect run too little data gives a completed state of that name; Prefect takes a returned
        state in the place of a result.
        """
        self.outcome = outcome
        log.info("%s: %s", self.flow, outcome.summary)
        publish(outcome, self.workspace.settings, self.workspace.usecase.name)
        if outcome.status == "insufficient_data" and FlowRunContext.get() is not None:
            return cast(FlowOutcome, Completed(message=f"insufficient_data: {outcome.summary}", data=outcome))
        return outcome


@contextmanager
def record_run(
    workspace: Workspace, flow: str, as_of: datetime | None, *, each_minute: bool = False
) -> Iterator[FlowRun]:
    """Record a run: its start, its end, its outcome, or the error that ended it.

    With ``each_minute`` a run leaves a row only where it did something or failed.
    """
    context = FlowRunContext.get()
    run_id = str(context.flow_run.id) if context is not None and context.flow_run is not None else uuid.uuid4().hex
    run = FlowRun(workspace, flow, business_time(as_of), run_id, machine_now())
    _tidy(workspace, run.started)
    if not each_minute:
        _warn_of_last(run)
        _write(run, "running", "")
    try:
        with _vacancy_as_nothing_to_do(workspace), _keep_alive(run, each_minute):
            yield run
    except NothingToDo as exc:
        if not each_minute:
            _write(run, "completed", str(exc))
        raise
    except Pause:
        _write(run, "running", "suspended: waits for a person", process=False)
        raise
    except BaseException as exc:
        # What went wrong matters more than that it could not be written down.
        with suppress(MonitoringError):
            _write(run, "failed", _ending(exc))
        raise
    outcome = run.outcome
    _write(run, "completed", "" if outcome is None else f"{outcome.status}: {outcome.summary}")


def _tidy(workspace: Workspace, now: datetime) -> None:
    """Close what died and drop what is old. A database that is away says so at the first write of the run itself."""
    from flows.steps.operations.dead_runs import close_dead_runs

    with suppress(MonitoringError):
        for run in close_dead_runs(workspace.store, workspace.usecase.name, now):
            log.warning("%s of %s: %s", run.flow, run.started_at.isoformat(), run.message)
        workspace.store.runs.prune(workspace.usecase.name, now - timedelta(days=workspace.settings.run_days))


def _warn_of_last(run: FlowRun) -> None:
    """Say how the run before this one ended, where it did not come to its end."""
    with suppress(MonitoringError):
        last = run.workspace.store.runs.latest(run.workspace.usecase.name, run.flow)
        if last is not None and last.state in ("failed", "killed") and last.run_id != run.run_id:
            begun = f"{last.started_at:%Y-%m-%d %H:%M} UTC"
            log.warning("the last %s, begun at %s, did not come to its end: %s", run.flow, begun, last.message)


def _ending(exc: BaseException) -> str:
    """What ended a run, for its record; Prefect ends the process of a run whose worker died by ``SystemExit``."""
    if isinstance(exc, ExternalSignal | KeyboardInterrupt | SystemExit):
        return "cancelled: it was stopped before its end"
    return str(exc) or type(exc).__name__


@contextmanager
def _keep_alive(run: FlowRun, each_minute: bool) -> Iterator[None]:
    """The row says each minute that its process lives."""
    from flows.steps.operations.dead_runs import keep_touching

    if each_minute:
        yield
        return
    with keep_touching(lambda: _write(run, "running", "")):
        yield


@contextmanager
def _vacancy_as_nothing_to_do(workspace: Workspace) -> Iterator[None]:
    """A role that nobody ever held is no fault; one that somebody held and that is gone is one."""
    try:
        yield
    except RoleVacant as exc:
        if workspace.store.decisions.terms(workspace.model, "champion"):
            raise
        raise NothingToDo(str(exc)) from exc


def call(flow: Flow[..., Any], **parameters: object) -> FlowOutcome:
    """Run a flow from inside another flow or from the command line.

    Inside a Prefect run it becomes a run of its own below it. Elsewhere the plain function is called:
    Prefect would start a server for one run.
    """
    result = flow(**parameters) if FlowRunContext.get() is not None else flow.fn(**parameters)
    return cast(FlowOutcome, result.data if isinstance(result, State) else result)


def _write(run: FlowRun, state: RunState, message: str, *, process: bool = True) -> None:
    from flows.steps.operations.dead_runs import this_process
    from monitoring.store import Run

    now = machine_now()
    payload: dict[str, Any] = this_process(now) if state == "running" and process else {}
    if run.outcome is not None:
        payload |= {name: value for name, value in run.outcome.figures if isinstance(value, int | float)}
    ended_at = None if state == "running" else now
    run.workspace.store.runs.put(
        Run(run.run_id, run.workspace.usecase.name, run.flow, state, run.started, ended_at, run.as_of, message, payload)
    )
