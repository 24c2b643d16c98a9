"""Evaluation: judge a registered version again, on the same rows as the champion. Changes no role."""

from __future__ import annotations

from datetime import datetime

from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.training.evaluate_version import evaluate_version
from flows.steps.training.training_steps import TrainingStores
from flows.views.reports import evaluation_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.progress import report_step
from flows.workspace.workspace import open_workspace


@operation("evaluate {model} as of {time}")
def evaluation(usecase: str | None = None, version: str | None = None, as_of: datetime | None = None) -> FlowOutcome:
    """Judge a registered version against the gates and the champion of now. Changes no role.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        version: Number of the registered version. Empty takes challenger, candidate or champion, in that order.
        as_of: Business time of the judgement. Empty takes now.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "evaluation", as_of) as run:
        ref = workspace.version(version, ("challenger", "candidate", "champion"))
        stores = TrainingStores.of(workspace)
        judgement = evaluate_version(workspace.usecase, ref, run.as_of, stores, report_step)
        verdict = judgement.verdict
        run.keep("evaluation", verdict.outcome, verdict.to_json(), model=verdict.champion, challenger=ref.label)
        return run.conclude(evaluation_view(judgement, run.as_of))
