"""From what a flow found to what people and machines are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.steps.drift.check import DriftFinding, drifted_features
from flows.views.comparison import appendix_of
from flows.views.drift import lines_of
from flows.views.pictures import cost_picture, drift_picture, saving_picture
from flows.workspace.outcome import Outcome, Status
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measured
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from bentos.promotion.promote import Outcome as Release
    from bentos.registry.ports import ModelRef
    from flows.steps.comparison.compare import Comparison
    from flows.steps.data.label_files import LabelFile
    from flows.steps.drift.retraining_due import Renewal
    from flows.steps.training.evaluate_version import EvaluationOutcome
    from flows.steps.training.role_assignment import Seat
    from flows.steps.training.train import TrainingOutcome
    from monitoring.store import LabelResult

Figures = list[tuple[str, object]]


def training_view(trained: TrainingOutcome, seated: Seat, as_of: datetime) -> Outcome:
    """A training: what was fitted on what, what the gates said, which role it got."""
    model = trained.verdict.challenger
    role = f"@{seated.role}" if seated.role else "no role"
    summary = f"{model}: gates {trained.verdict.outcome}, {role}. {seated.reason}"
    figures: Figures = [("model", model), ("role", role), ("mlflow run", trained.run_id)]
    figures += [("rows", trained.snapshot.rows), ("positives", trained.snapshot.positives)]
    figures += [("data", trained.snapshot.digest[:12]), ("trained until", f"{trained.split.refit.end:%Y-%m-%d}")]
    figures += [(name, _interval(m)) for name, m in trained.evidence.metrics.items() if name in _SHOWN]
    status: Status = "done" if trained.passed else "refused"
    return Outcome(
        "training", status, summary, as_of, training_report(trained, seated), trained.verdict.checks, figures,
        picture=cost_picture(trained.model),
    )  # fmt: skip


def training_report(trained: TrainingOutcome, seated: Seat, reason: str = "") -> dict[str, Any]:
    """A training as plain JSON."""
    return {
        "model": None if trained.ref is None else trained.ref.label,
        "role": seated.role,
        "role_reason": seated.reason,
        "reason": reason,
        "mlflow_run": trained.run_id,
        "data_digest": trained.snapshot.digest,
        "trained_from": trained.split.refit.start.isoformat(),
        "trained_until": trained.split.refit.end.isoformat(),
        "verdict": trained.verdict.to_json(),
        "evidence": trained.evidence.to_json(),
    }


def evaluation_view(judged: EvaluationOutcome, as_of: datetime) -> Outcome:
    """A judgement of a registered version."""
    verdict = judged.verdict
    champion = f" against {verdict.champion}" if verdict.champion else ""
    summary = f"{judged.ref.label}{champion}: gates {verdict.outcome}. {_first(verdict)}"
    figures: Figures = [(name, _interval(m)) for name, m in judged.evidence.metrics.items() if name in _SHOWN]
    data = {"model": judged.ref.label, "verdict": verdict.to_json(), "evidence": judged.evidence.to_json()}
    status: Status = "done" if verdict.outcome == "pass" else "refused"
    return Outcome("evaluation", status, summary.strip(), as_of, data, verdict.checks, figures)


def drift_view(finding: DriftFinding, page: Path | None) -> Outcome:
    """A drift check: the alarm, what moved, how well it still goes."""
    latest = finding.latest
    if not finding.known:
        summary = f"insufficient data: {latest.rows} rows in the latest window"
    else:
        moved = ", ".join(finding.alarm.features) or "nothing"
        summary = f"drift {finding.outcome} against {finding.model}: {moved}"
    figures: Figures = [("model", finding.model), ("rows", latest.rows), ("share of features", latest.share)]
    if finding.performance is not None:
        shown = finding.performance.metrics.items()
        figures += [(f"matured {name}", _interval(m)) for name, m in shown if name in _SHOWN]
    if constant := [f.name for f in latest.features if f.status == "constant" and f.raises]:
        figures += [("warning, constant", ", ".join(constant))]
    if finding.skew is not None:
        figures += [("feature skew", finding.skew.share)]
    figures += [(f"PSI above chance, {name}", size) for name, size in drifted_features(finding).items()]
    figures += lines_of(finding)
    status: Status = "done" if finding.known else "insufficient_data"
    picture = drift_picture(finding.reports)
    return Outcome("drift", status, summary, finding.as_of, finding.to_json(), (), figures, page, picture=picture)


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


def comparison_view(found: Comparison, as_of: datetime, page: Path | None = None, *, retired: bool = False) -> Outcome:
    """A comparison: the verdict, and what both models cost on the same events."""
    verdict, result = found.verdict, found.result
    summary = f"{verdict.outcome.replace('_', ' ')}: {verdict.challenger} against {verdict.champion}. {_first(verdict)}"
    figures: Figures = [("matured days", result.days), ("rows", result.rows), ("positives", result.positives)]
    figures += [("days in shadow", found.shadow_days), ("days still needed", verdict.days_needed)]
    figures += [("plan", f"{verdict.plan_hash[:16]}, from {found.stored.plan.first_day}")]
    figures += [("warning", text) for text in found.warnings]
    if retired:
        figures += [("retired", f"{verdict.challenger} has left shadow")]
    status: Status = "insufficient_data" if result.days == 0 else "done"
    return Outcome(
        "comparison",
        status,
        summary.strip(),
        as_of,
        found.to_json(),
        verdict.checks,
        figures,
        page,
        [*_early(found), *appendix_of(result)],
        saving_picture(result),
    )


def _early(found: Comparison) -> Figures:
    early, money = found.provisional, found.result.currency
    if early is None or not early.labelled:
        return []
    costs = f"champion {early.champion:,.0f}, challenger {early.challenger:,.0f} {money}"
    return [("provisional cost, labels known so far", f"{costs} on {early.labelled} labelled events of young days")]


def release_view(done: Release, as_of: datetime, verdict: Verdict | None = None, page: Path | None = None) -> Outcome:
    """A promotion or rollback, done or previewed."""
    data: dict[str, Any] = {
        "model": done.model,
        "from_version": done.from_version,
        "to_version": done.to_version,
        "operation": done.op_id or None,
        "state": done.state or None,
        "preview": done.preview,
        "repeated": done.repeated,
        "acknowledged": done.acknowledged,
        "steps": list(done.steps),
    }
    figures: Figures = [("from", done.from_version), ("to", done.to_version), ("state", done.state or "preview")]
    figures += [(f"step {number}", step) for number, step in enumerate(done.steps, start=1)]
    checks = () if verdict is None else verdict.checks
    status: Status = "preview" if done.preview else "done"
    return Outcome(done.kind, status, done.message, as_of, data, checks, figures, page)


def scoring_view(
    table: pd.DataFrame, files: Sequence[Path], ref: ModelRef, window: TimeWindow, as_of: datetime
) -> Outcome:
    """A bulk scoring: how many, how many flagged, where the list is."""
    flagged = int(table["decision"].sum())
    summary = f"{len(table)} events scored by {ref.label}, {flagged} flagged: {files[-1]}"
    data = {"model": ref.label, "rows": len(table), "flagged": flagged, "files": [str(file) for file in files]}
    data |= {"start": window.start.isoformat(), "end": window.end.isoformat()}
    figures: Figures = [("model", ref.label), ("rows", len(table)), ("flagged", flagged)]
    return Outcome("scoring", "done", summary, as_of, data, (), figures, files[-1])


def labels_view(place: Path, found: Sequence[LabelFile], stored: Sequence[LabelResult], as_of: datetime) -> Outcome:
    """An import of labels: what was new, repeated, contradicted, early, refused."""
    refused: dict[str, int] = {}
    for file in found:
        for reason, count in file.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    names = ("stored", "duplicates", "conflicts", "parked")
    counts = {name: sum(getattr(one, name) for one in stored) for name in names}
    data: dict[str, Any] = {"files": len(found), **counts, "refused": refused}
    bad = sum(refused.values())
    summary = f"{counts['stored']} new labels from {len(found)} files in {place}, {bad} rows refused"
    figures: Figures = [("files", len(found)), *counts.items(), *[(f"refused: {k}", v) for k, v in refused.items()]]
    return Outcome("labels", "done", summary, as_of, data, (), figures)


def retraining_view(renewal: Renewal, as_of: datetime, trained: Outcome | None = None) -> Outcome:
    """The answer of the retraining policy, and what came of it."""
    data = renewal.to_json() | {"training": None if trained is None else trained.to_json()}
    if trained is None:
        return Outcome("retraining", "done", f"no retraining: {renewal.reason}", as_of, data)
    summary = f"retrained ({renewal.reason or 'forced'}): {trained.summary}"
    return Outcome("retraining", trained.status, summary, as_of, data, trained.checks, trained.figures)


_SHOWN = ("average_precision", "auc_roc", "recall", "precision", "false_positive_rate", "cost", "calibration_error")


def _interval(figure: Measured) -> str:
    if figure.value is None:
        return "unknown"
    if figure.low is None or figure.high is None:
        return _number(figure.value)
    return f"{_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _first(verdict: Verdict) -> str:
    return verdict.reasons[0] if verdict.reasons else ""
