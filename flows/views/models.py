"""A search and the training after it, as people and machines are shown them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.usecase.definition import TrainingPolicy
from flows.views.reports import training_report, training_view
from flows.workspace.outcome import FlowOutcome

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRef
    from flows.steps.bulk.score_table import BulkResult
    from flows.steps.training.role_assignment import RoleAssignment
    from flows.steps.training.train import TrainingOutcome
    from flows.steps.tuning.tune import TuningOutcome


def tuning_view(
    search: TuningOutcome,
    result: TrainingOutcome,
    assignment: RoleAssignment,
    file_settings: TrainingPolicy,
    as_of: datetime,
) -> FlowOutcome:
    """What was tried, what won, and what became of the model; ``file_settings`` are the file's settings."""
    view, winner, first = training_view(result, assignment, as_of), search.winner, search.trials[0]
    metric = search.metric.replace("_", " ")
    conclusion = "the file's own settings stay" if winner.number == 0 else f"trial {winner.number} is best"
    summary = (
        f"{len(search.trials)} trials on {len(search.folds)} folds: {conclusion}, {metric} {winner.value:.4f}, "
        f"{first.value:.4f} with the file's own. {view.summary}"
    )
    figures = [
        ("trials", len(search.trials)),
        ("of these given up", sum(trial.pruned for trial in search.trials)),
        (f"{metric} on the folds", winner.value),
        (f"{metric}, file's own settings", first.value),
        *(
            (f"[training] {name}", _change(getattr(file_settings, name), value))
            for name, value in winner.parameters.items()
        ),
        *(("note", note) for note in search.notes),
        ("mlflow run of the search", search.run_id),
    ]
    report = tuning_report(search, result, assignment)
    return replace(view, flow="tuning", summary=summary, figures=[*figures, *view.figures], data=report)


def tuning_report(
    search: TuningOutcome, result: TrainingOutcome, assignment: RoleAssignment, reason: str = ""
) -> dict[str, Any]:
    """The training as plain JSON, with the search before it under ``tuning``."""
    return {**training_report(result, assignment, reason), "tuning": search.to_json()}


def _change(old: object, new: object) -> str:
    return _short(new) if old == new else f"{_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def bulk_view(result: BulkResult, ref: ModelRef, as_of: datetime) -> FlowOutcome:
    """The scoring of a whole table: every row of it is in the list or in the quarantine."""
    counts = {name: getattr(result, name) for name in ("rows_in", "rows_out", "quarantined", "flagged", "resumed")}
    summary = (
        f"{result.rows_in} rows read, {result.rows_out} scored by {ref.label}, {result.quarantined} refused, "
        f"{result.flagged} flagged: {result.output}"
    )
    data = {"model": ref.label, **counts, "output": result.output, "quarantine": str(result.quarantine)}
    return FlowOutcome("scoring", "done", summary, as_of, data, (), [("model", ref.label), *counts.items()])
