"""What a training writes into its MLflow run: data, parameters, figures, pictures, the twin itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bentos.model.booster_adapters import DEFAULT
from bentos.model.calibration import Threshold
from bentos.model.scoring_model import ScoringModel
from bentos.usecase.definition import UseCase
from flows.errors import EvaluationError
from flows.snapshots.store import SnapshotRef
from flows.steps.data.split import Split
from flows.steps.evaluation.evaluate import score_fold
from flows.steps.evaluation.judge import Folds, Judgement
from flows.steps.evaluation.plots import PlotData, ShapSummary, draw_plots, shap_summary
from flows.steps.tracking.mlflow_run import DatasetFacts, Tracker
from flows.steps.tracking.version_tags import environment_digest, git_commit
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Evidence

EVALUATION_FILE = "evaluation.json"
TWIN_FOLDER = "twin"


@dataclass(frozen=True)
class StoredEvaluation:
    """What a run keeps so that its model can be judged again."""

    split: Split
    as_of: datetime
    data_digest: str


def record_data(tracker: Tracker, run_id: str, usecase: UseCase, snapshot: SnapshotRef, split: Split) -> None:
    """Before anything is fitted: which data, which code, which environment, which folds."""
    columns = {column.name: column.type for column in usecase.columns}
    tracker.dataset(
        run_id,
        DatasetFacts(usecase.name, snapshot.digest, str(snapshot.path), columns, snapshot.rows, snapshot.positives),
    )
    folds = {f"window_{name}": format_window(getattr(split, name)) for name in split.__dataclass_fields__}
    params = {
        "data_digest": snapshot.digest,
        "data_source": snapshot.source,
        "git_commit": git_commit() or "none",
        "environment_digest": environment_digest(),
        "booster_library": DEFAULT.requirement(),
    }
    tracker.log(run_id, params=params | folds)


def record_twin(
    tracker: Tracker,
    run_id: str,
    usecase: UseCase,
    twin: ScoringModel,
    judgement: Judgement,
    folds: Folds,
    evaluation: StoredEvaluation,
) -> None:
    """Parameters, figures with intervals, pictures, SHAP, verdict and the twin's own files."""
    shap = shap_summary(twin.booster, folds.test.features, twin.plan.names, twin.metadata.seed)
    params = {**twin.metadata.parameters, "seed": twin.metadata.seed, "features": len(twin.plan.names)}
    tracker.log(run_id, params=params, metrics=figures(judgement, twin), tags=_tags(judgement))
    with tempfile.TemporaryDirectory(prefix="incumbent-run-") as scratch:
        folder = Path(scratch)
        scored_test = score_fold(twin, folds.test)
        data = PlotData(
            folds.test.y,
            scored_test.scores,
            None if twin.threshold.amount else twin.threshold.value,
            folds.test.prices(usecase),
            usecase.cost.currency,
            folds.test.weight,
        )
        draw_plots(data, twin.booster, shap, folder / "plots")
        _write(folder / "shap_summary.json", shap.to_json())
        _write(folder / EVALUATION_FILE, _evaluation(judgement, evaluation, shap))
        twin.save(folder / TWIN_FOLDER)
        tracker.keep(run_id, folder)


def read_evaluation(tracker: Tracker, run_id: str, into: Path) -> tuple[StoredEvaluation, ScoringModel]:
    """What :func:`record_twin` kept.

    Raises:
        VersionMissing: the run keeps no evaluation.
        EvaluationError: what it keeps cannot be read.
    """
    data = json.loads(tracker.fetch(run_id, EVALUATION_FILE, into).read_text(encoding="utf-8"))
    try:
        split = Split(**{name: parse_window(data["split"][name]) for name in Split.__dataclass_fields__})
        evaluation = StoredEvaluation(split, datetime.fromisoformat(data["as_of"]), data["data_digest"])
    except (KeyError, ValueError, TypeError) as exc:
        raise EvaluationError(f"{EVALUATION_FILE} of run {run_id} cannot be read: {exc!r}") from exc
    return evaluation, ScoringModel.load(tracker.fetch(run_id, TWIN_FOLDER, into))


def figures(judgement: Judgement, twin: ScoringModel) -> dict[str, float]:
    """Every known figure by name; bounds end in ``_low`` and ``_high``; an unknown figure is absent."""
    evidence = judgement.evidence
    metrics = _flatten_metrics("", evidence.metrics) | _flatten_metrics("baseline_", evidence.baseline)
    if judgement.incumbent is not None:
        metrics |= _flatten_metrics("champion_", judgement.incumbent.metrics)
    scalars = {
        "single_event_p99_ms": evidence.latency_p99_ms,
        "model_mb": evidence.model_mb,
        "matured_rows": evidence.rows,
        "test_positives": evidence.positives,
    }
    return (
        metrics
        | threshold_figures(twin.threshold)
        | {name: float(value) for name, value in scalars.items() if value is not None}
    )


def threshold_figures(threshold: Threshold) -> dict[str, float]:
    """The cut with its bounds, named by what it is: a ``threshold``, or by amount the ``least_saving`` in money."""
    name = "threshold" if threshold.amount is None else "least_saving"
    return {name: threshold.value, f"{name}_low": threshold.low, f"{name}_high": threshold.high}


def format_window(interval: TimeWindow) -> str:
    """``2026-01-01T00:00:00+00:00/2026-01-29T00:00:00+00:00``, end excluded."""
    return f"{interval.start.isoformat()}/{interval.end.isoformat()}"


def parse_window(text: str) -> TimeWindow:
    """The reverse of :func:`format_window`; raises ``ValueError``."""
    start, _, end = text.partition("/")
    return TimeWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))


def _evaluation(judgement: Judgement, evaluation: StoredEvaluation, shap: ShapSummary) -> dict[str, Any]:
    return {
        "as_of": evaluation.as_of.isoformat(),
        "data_digest": evaluation.data_digest,
        "split": {name: format_window(getattr(evaluation.split, name)) for name in Split.__dataclass_fields__},
        "verdict": judgement.verdict.to_json(),
        "evidence": judgement.evidence.to_json(),
        "incumbent": _plain(judgement.incumbent),
        "notes": list(judgement.notes),
        "shap": shap.to_json(),
    }


def _tags(judgement: Judgement) -> dict[str, str]:
    verdict = judgement.verdict
    tags = {"gates": verdict.outcome, "gate_reasons": "; ".join(verdict.reasons), "verdict_digest": verdict.digest}
    if verdict.champion is not None:
        tags["champion"] = verdict.champion
    return tags | ({"notes": "; ".join(judgement.notes)} if judgement.notes else {})


def _flatten_metrics(prefix: str, metrics: Mapping[str, Measurement]) -> dict[str, float]:
    values_by_name = {}
    for name, measurement in metrics.items():
        for suffix, value in (("", measurement.value), ("_low", measurement.low), ("_high", measurement.high)):
            if value is not None:
                values_by_name[f"{prefix}{name}{suffix}"] = value
    return values_by_name


def _plain(evidence: Evidence | None) -> dict[str, Any] | None:
    return None if evidence is None else evidence.to_json()


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True), encoding="utf-8")
