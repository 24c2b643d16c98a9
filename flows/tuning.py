"""Tuning: search for training settings on folds before the test fold, then train, judge and seat the winner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from pydantic import Field

from flows.runs.operation import is_scheduled, operation
from flows.runs.parameters import DECLARED, SourceChoice
from flows.runs.provenance import note_maker
from flows.runs.run_record import record_run
from flows.steps.data.read_history import read_history
from flows.steps.data.split import retraining_case
from flows.steps.training.role_assignment import assign_role
from flows.steps.training.training_steps import TrainingStores
from flows.steps.tuning.folds import extra_history
from flows.steps.tuning.search import Attempt, Work, in_threads
from flows.steps.tuning.tune import train_winner, tune_model, tuning_policy
from flows.views.models import tuning_report, tuning_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.progress import report_step
from flows.workspace.workspace import open_workspace


@operation("tune {model} until {time}", time="until")
def tuning(
    usecase: str | None = None,
    until: datetime | None = None,
    source: SourceChoice = DECLARED,
    trials: Annotated[int, Field(ge=1)] | None = None,
    minutes: Annotated[float, Field(gt=0)] | None = None,
    reason: str = "",
) -> FlowOutcome:
    """Search for training settings, then train a model with the best, judge it, and give it the role it has earned.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        until: Business time of the training; nothing later is read. Empty takes the end of the source.
        source: Where events are read. Empty takes what the use case declares.
        trials: How many settings are tried. Empty, with minutes empty too, takes what the use case declares.
        minutes: How long is searched, alone or beside trials; a round under way is finished.
        reason: Why it is searched, for the record.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "tuning", until) as run:
        policy = tuning_policy(workspace.usecase, workspace.reference, trials, minutes, unattended=is_scheduled())
        stores = TrainingStores.of(workspace)
        is_retraining = "champion" in stores.registry.roles(workspace.model)
        case = retraining_case(workspace.usecase) if is_retraining else workspace.usecase
        history = read_history(source.open(workspace), case, until, extra_history(case, policy))
        dataset, as_of = history.read, run.set_as_of(history.as_of)
        search = tune_model(case, policy, dataset, as_of, stores=stores, batch=in_tasks, progress=report_step)
        result = train_winner(search, dataset, as_of, stores=stores, progress=report_step)
        ref, verdict = result.ref, result.verdict
        request = workspace.request(reason, as_of)
        note_maker(workspace, "tuning", ref, verdict, result.run_id, result.snapshot.digest, request)
        assignment = assign_role(workspace.release_context(), ref, verdict, request)
        report = tuning_report(search, result, assignment, reason)
        run.keep("training", verdict.outcome, report, model=verdict.champion, challenger=verdict.challenger)
        return run.conclude(tuning_view(search, result, assignment, case.training, run.as_of))


def in_tasks(work: Work, attempts: Sequence[Attempt]) -> list[float]:
    """Each attempt as a Prefect task over the flow's task runner; outside a Prefect run in plain threads."""
    if FlowRunContext.get() is None:
        return in_threads(work, attempts)

    @task(name="trial", task_run_name="{attempt.name}", cache_policy=NO_CACHE, persist_result=False)
    def trial(attempt: Attempt) -> float:
        return work(attempt)

    return [future.result() for future in [trial.submit(attempt) for attempt in attempts]]
