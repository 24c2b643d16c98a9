"""Training: read a history, fit and judge a model, give it the role it has earned."""

from __future__ import annotations

from datetime import datetime

from flows.distributed.select_engine import prepare_training
from flows.runs.operation import operation
from flows.runs.parameters import AS_SET, DECLARED, EngineChoice, SourceChoice
from flows.runs.provenance import note_maker
from flows.runs.run_record import record_run
from flows.steps.data.split import retraining_case
from flows.steps.training.role_assignment import assign_role
from flows.views.reports import training_report, training_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace


@operation("train {model} until {time}", time="until")
def training(
    usecase: str | None = None,
    until: datetime | None = None,
    source: SourceChoice = DECLARED,
    reason: str = "",
    engine: EngineChoice = AS_SET,
) -> FlowOutcome:
    """Train a model on matured events, judge it, and give it the role it has earned.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        until: Business time of the training; nothing later is read. Empty takes the end of the source.
        source: Where events are read. Empty takes what the use case declares.
        reason: Why a model is trained, for the record.
        engine: Where the work is done. Empty takes what the settings say.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "training", until) as run:
        is_retraining = "champion" in workspace.registry.roles(workspace.model)
        case = retraining_case(workspace.usecase) if is_retraining else workspace.usecase
        work = prepare_training(workspace, case, source, until, engine)
        as_of = run.set_as_of(work.as_of)
        result = work.train()
        verdict, data = result.verdict, result.snapshot.digest
        request = workspace.request(reason, as_of)
        note_maker(workspace, "training", result.ref, verdict, result.run_id, data, request)
        assignment = assign_role(workspace.release_context(), result.ref, verdict, request)
        report = training_report(result, assignment, reason)
        run.keep("training", verdict.outcome, report, model=verdict.champion, challenger=verdict.challenger)
        return run.conclude(training_view(result, assignment, as_of))
