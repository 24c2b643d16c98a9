"""A search and the training after it, as people and machines are shown them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.usecase.definition import TrainingPolicy
from flows.views.reports import training_report, training_view
from flows.workspace.outcome import Outcome

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRef
    from flows.steps.bulk.score_table import BulkResult
    from flows.steps.training.role_assignment import Seat
    from flows.steps.training.train import TrainingOutcome
    from flows.steps.tuning.tune import Tuned


def tuning_view(tuned: Tuned, trained: TrainingOutcome, seated: Seat, own: TrainingPolicy, as_of: datetime) -> Outcome:
    """What was tried, what won, and what became of the model; ``own`` are the file's settings."""
    shown, winner, first = training_view(trained, seated, as_of), tuned.winner, tuned.trials[0]
    metric = tuned.metric.replace("_", " ")
    found = "the file's own settings stay" if winner.number == 0 else f"trial {winner.number} is best"
    summary = (
        f"{len(tuned.trials)} trials on {len(tuned.folds)} folds: {found}, {metric} {winner.value:.4f}, "
        f"{first.value:.4f} with the file's own. {shown.summary}"
    )
    figures = [
        ("trials", len(tuned.trials)),
        ("of these given up", sum(trial.pruned for trial in tuned.trials)),
        (f"{metric} on the folds", winner.value),
        (f"{metric}, file's own settings", first.value),
        *((f"[training] {name}", _change(getattr(own, name), value)) for name, value in winner.parameters.items()),
        *(("note", note) for note in tuned.notes),
        ("mlflow run of the search", tuned.run_id),
    ]
    report = tuning_report(tuned, trained, seated)
    return replace(shown, flow="tuning", summary=summary, figures=[*figures, *shown.figures], data=report)


def tuning_report(tuned: Tuned, trained: TrainingOutcome, seated: Seat, reason: str = "") -> dict[str, Any]:
    """The training as plain JSON, with the search before it under ``tuning``."""
    return {**training_report(trained, seated, reason), "tuning": tuned.to_json()}


def _change(own: object, found: object) -> str:
    return _short(found) if own == found else f"{_short(own)} -> {_short(found)}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def bulk_view(found: BulkResult, ref: ModelRef, as_of: datetime) -> Outcome:
    """The scoring of a whole table: every row of it is in the list or in the quarantine."""
    counts = {name: getattr(found, name) for name in ("rows_in", "rows_out", "quarantined", "flagged", "resumed")}
    summary = (
        f"{found.rows_in} rows read, {found.rows_out} scored by {ref.label}, {found.quarantined} refused, "
        f"{found.flagged} flagged: {found.output}"
    )
    data = {"model": ref.label, **counts, "output": found.output, "quarantine": str(found.quarantine)}
    return Outcome("scoring", "done", summary, as_of, data, (), [("model", ref.label), *counts.items()])
