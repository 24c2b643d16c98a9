"""Evaluation: judge a registered version again, on the same rows as the champion. Changes no role."""

from __future__ import annotations

from datetime import datetime

from flows.runs.operation import operation
from flows.runs.run_record import recorded
from flows.steps.training.evaluate_version import evaluate_version
from flows.views.reports import evaluation_view
from flows.workspace.outcome import Outcome
from flows.workspace.progress import told
from flows.workspace.workspace import open_house


@operation("evaluate {model} as of {time}")
def evaluation(usecase: str | None = None, version: str | None = None, as_of: datetime | None = None) -> Outcome:
    """Judge a registered version against the gates and the champion of now. Changes no role.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        version: Number of the registered version. Empty takes challenger, candidate or champion, in that order.
        as_of: Business time of the judgement. Empty takes now.
    """
    house = open_house(usecase)
    with recorded(house, "evaluation", as_of) as run:
        ref = house.version(version, ("challenger", "candidate", "champion"))
        judged = evaluate_version(
            house.usecase, ref, run.as_of,
            settings=house.settings, registry=house.registry, snapshots=house.snapshots, progress=told,
        )  # fmt: skip
        verdict = judged.verdict
        run.keep("evaluation", verdict.outcome, verdict.to_json(), model=verdict.champion, challenger=ref.label)
        return run.conclude(evaluation_view(judged, run.as_of))
