"""From what a flow found to what people and machines are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.steps.drift.check import DriftFinding, drifted_features
from flows.views.comparison import appendix_of
from flows.views.drift import drift_figures
from flows.views.pictures import cost_picture, drift_picture, saving_picture
from flows.workspace.outcome import FlowOutcome, Status
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from bentos.promotion.promote import ReleaseOutcome as Release
    from bentos.registry.ports import ModelRef
    from flows.steps.comparison.compare import ComparisonResult
    from flows.steps.data.label_files import LabelFile
    from flows.steps.drift.retraining_due import RetrainingCheck
    from flows.steps.training.evaluate_version import EvaluationOutcome
    from flows.steps.training.role_assignment import RoleAssignment
    from flows.steps.training.train import TrainingOutcome
    from monitoring.store import LabelResult

Figures = list[tuple[str, object]]


def training_view(result: TrainingOutcome, assignment: RoleAssignment, as_of: datetime) -> FlowOutcome:
    """A training: what was fitted on what, what the gates said, which role it got."""
    model = result.verdict.challenger
    role = f"@{assignment.role}" if assignment.role else "no role"
    summary = f"{model}: gates {result.verdict.outcome}, {role}. {assignment.reason}"
    figures: Figures = [("model", model), ("role", role), ("mlflow run", result.run_id)]
    figures += [("rows", result.snapshot.rows), ("positives", result.snapshot.positives)]
    figures += [("data", result.snapshot.digest[:12]), ("trained until", f"{result.split.refit.end:%Y-%m-%d}")]
    figures += [(name, _interval(m)) for name, m in result.evidence.metrics.items() if name in _METRICS]
    status: Status = "done" if result.passed else "refused"
    return FlowOutcome(
        "training", status, summary, as_of, training_report(result, assignment), result.verdict.checks, figures,
        picture=cost_picture(result.model),
    )  # fmt: skip


def training_report(result: TrainingOutcome, assignment: RoleAssignment, reason: str = "") -> dict[str, Any]:
    """A training as plain JSON."""
    return {
        "model": None if result.ref is None else result.ref.label,
        "role": assignment.role,
        "role_reason": assignment.reason,
        "reason": reason,
        "mlflow_run": result.run_id,
        "data_digest": result.snapshot.digest,
        "trained_from": result.split.refit.start.isoformat(),
        "trained_until": result.split.refit.end.isoformat(),
        "verdict": result.verdict.to_json(),
        "evidence": result.evidence.to_json(),
    }


def evaluation_view(judgement: EvaluationOutcome, as_of: datetime) -> FlowOutcome:
    """A judgement of a registered version."""
    verdict = judgement.verdict
    champion = f" against {verdict.champion}" if verdict.champion else ""
    summary = f"{judgement.ref.label}{champion}: gates {verdict.outcome}. {_first(verdict)}"
    figures: Figures = [(name, _interval(m)) for name, m in judgement.evidence.metrics.items() if name in _METRICS]
    data = {"model": judgement.ref.label, "verdict": verdict.to_json(), "evidence": judgement.evidence.to_json()}
    status: Status = "done" if verdict.outcome == "pass" else "refused"
    return FlowOutcome("evaluation", status, summary.strip(), as_of, data, verdict.checks, figures)


def drift_view(finding: DriftFinding, page: Path | None) -> FlowOutcome:
    """A drift check: the alarm, what moved, how well it still goes."""
    latest = finding.latest
    if not finding.known:
        summary = f"insufficient data: {latest.rows} rows in the latest window"
    else:
        drifted = ", ".join(finding.alarm.features) or "nothing"
        summary = f"drift {finding.outcome} against {finding.model}: {drifted}"
    figures: Figures = [("model", finding.model), ("rows", latest.rows), ("share of features", latest.share)]
    if finding.performance is not None:
        metrics = finding.performance.metrics.items()
        figures += [(f"matured {name}", _interval(m)) for name, m in metrics if name in _METRICS]
    if constant := [f.name for f in latest.features if f.status == "constant" and f.raises]:
        figures += [("warning, constant", ", ".join(constant))]
    if finding.skew is not None:
        figures += [("feature skew", finding.skew.share)]
    figures += [(f"PSI above chance, {name}", size) for name, size in drifted_features(finding).items()]
    figures += drift_figures(finding)
    status: Status = "done" if finding.known else "insufficient_data"
    picture = drift_picture(finding.reports)
    return FlowOutcome("drift", status, summary, finding.as_of, finding.to_json(), (), figures, page, picture=picture)


def drift_event(finding: DriftFinding) -> dict[str, Any]:
    """The payload of the Prefect event: what a retraining needs to know."""
    return {
        "model": finding.model,
        "as_of": finding.as_of.isoformat(),
        "band": finding.alarm.band,
        "score_moved": finding.alarm.score_moved,
        "share": finding.latest.share,
        "features": dict(drifted_features(finding)),
    }


def comparison_view(
    comparison: ComparisonResult, as_of: datetime, page: Path | None = None, *, retired: bool = False
) -> FlowOutcome:
    """A comparison: the verdict, and what both models cost on the same events."""
    verdict, result = comparison.verdict, comparison.result
    summary = f"{verdict.outcome.replace('_', ' ')}: {verdict.challenger} against {verdict.champion}. {_first(verdict)}"
    figures: Figures = [("matured days", result.days), ("rows", result.rows), ("positives", result.positives)]
    figures += [("days in shadow", comparison.shadow_days), ("days still needed", verdict.days_needed)]
    figures += [("plan", f"{verdict.plan_hash[:16]}, from {comparison.stored.plan.first_day}")]
    figures += [("warning", text) for text in comparison.warnings]
    if retired:
        figures += [("retired", f"{verdict.challenger} has left shadow")]
    status: Status = "insufficient_data" if result.days == 0 else "done"
    return FlowOutcome(
        "comparison",
        status,
        summary.strip(),
        as_of,
        comparison.to_json(),
        verdict.checks,
        figures,
        page,
        [*_provisional_cost(comparison), *appendix_of(result)],
        saving_picture(result),
    )


def _provisional_cost(comparison: ComparisonResult) -> Figures:
    provisional, money = comparison.provisional, comparison.result.currency
    if provisional is None or not provisional.labelled:
        return []
    costs = f"champion {provisional.champion:,.0f}, challenger {provisional.challenger:,.0f} {money}"
    return [
        ("provisional cost, labels known so far", f"{costs} on {provisional.labelled} labelled events of young days")
    ]


def release_view(
    release: Release, as_of: datetime, verdict: Verdict | None = None, page: Path | None = None
) -> FlowOutcome:
    """A promotion or rollback, done or previewed."""
    data: dict[str, Any] = {
        "model": release.model,
        "from_version": release.from_version,
        "to_version": release.to_version,
        "operation": release.op_id or None,
        "state": release.state or None,
        "preview": release.preview,
        "repeated": release.repeated,
        "acknowledged": release.acknowledged,
        "steps": list(release.steps),
    }
    figures: Figures = [
        ("from", release.from_version),
        ("to", release.to_version),
        ("state", release.state or "preview"),
    ]
    figures += [(f"step {number}", step) for number, step in enumerate(release.steps, start=1)]
    checks = () if verdict is None else verdict.checks
    status: Status = "preview" if release.preview else "done"
    return FlowOutcome(release.kind, status, release.message, as_of, data, checks, figures, page)


def scoring_view(
    table: pd.DataFrame, files: Sequence[Path], ref: ModelRef, window: TimeWindow, as_of: datetime
) -> FlowOutcome:
    """A bulk scoring: how many, how many flagged, where the list is."""
    flagged = int(table["decision"].sum())
    summary = f"{len(table)} events scored by {ref.label}, {flagged} flagged: {files[-1]}"
    data = {"model": ref.label, "rows": len(table), "flagged": flagged, "files": [str(file) for file in files]}
    data |= {"start": window.start.isoformat(), "end": window.end.isoformat()}
    figures: Figures = [("model", ref.label), ("rows", len(table)), ("flagged", flagged)]
    return FlowOutcome("scoring", "done", summary, as_of, data, (), figures, files[-1])


def labels_view(
    location: Path, imports: Sequence[LabelFile], results: Sequence[LabelResult], as_of: datetime
) -> FlowOutcome:
    """An import of labels: what was new, repeated, contradicted, early, refused."""
    refusals: dict[str, int] = {}
    for file in imports:
        for reason, count in file.refused.items():
            refusals[reason] = refusals.get(reason, 0) + count
    names = ("stored", "duplicates", "conflicts", "parked")
    counts = {name: sum(getattr(result, name) for result in results) for name in names}
    data: dict[str, Any] = {"files": len(imports), **counts, "refused": refusals}
    bad = sum(refusals.values())
    summary = f"{counts['stored']} new labels from {len(imports)} files in {location}, {bad} rows refused"
    figures: Figures = [("files", len(imports)), *counts.items(), *[(f"refused: {k}", v) for k, v in refusals.items()]]
    return FlowOutcome("labels", "done", summary, as_of, data, (), figures)


def retraining_view(renewal: RetrainingCheck, as_of: datetime, training: FlowOutcome | None = None) -> FlowOutcome:
    """The answer of the retraining policy, and what came of it."""
    data = renewal.to_json() | {"training": None if training is None else training.to_json()}
    if training is None:
        return FlowOutcome("retraining", "done", f"no retraining: {renewal.reason}", as_of, data)
    summary = f"retrained ({renewal.reason or 'forced'}): {training.summary}"
    return FlowOutcome("retraining", training.status, summary, as_of, data, training.checks, training.figures)


_METRICS = ("average_precision", "auc_roc", "recall", "precision", "false_positive_rate", "cost", "calibration_error")


def _interval(figure: Measurement) -> str:
    if figure.value is None:
        return "unknown"
    if figure.low is None or figure.high is None:
        return _number(figure.value)
    return f"{_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _first(verdict: Verdict) -> str:
    return verdict.reasons[0] if verdict.reasons else ""
