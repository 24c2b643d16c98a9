"""A registered version judged again: its stored twin on its snapshot's test window, beside the champion of now."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from flows.errors import EvaluationError
from flows.snapshots.store import SnapshotStore
from flows.steps.data.folds import TrainingHistory, build_fold
from flows.steps.evaluation.judge import Folds, GateCase, Judgement, judge_twin
from flows.steps.tracking import training_record
from flows.steps.tracking.mlflow_run import Tracker
from flows.steps.training.training_data import full_window
from flows.steps.training.training_steps import Progress, TrainingStores, ignore_progress, log_judgement
from flows.workspace.step import step
from monitoring.core.verdict import Evidence, Verdict

log = logging.getLogger("incumbent.flows")


@dataclass(frozen=True)
class EvaluationOutcome:
    """What judging a registered version again gave: see :class:`flows.steps.training.train.TrainingOutcome`."""

    ref: ModelRef
    verdict: Verdict
    evidence: Evidence
    incumbent: Evidence | None
    notes: tuple[str, ...] = ()


def evaluate_version(
    usecase: UseCase,
    ref: ModelRef,
    as_of: datetime,
    stores: TrainingStores,
    progress: Progress | None = None,
) -> EvaluationOutcome:
    """Judge a registered version again: its stored twin on its snapshot's test window, against the
    champion of now on the same rows.

    Raises:
        VersionMissing: the registry has no such version.
        SnapshotMissing: its data is gone.
        EvaluationError: the version was not made by :func:`flows.steps.training.train.train_model`.
    """
    tell = progress or ignore_progress
    tell("load the twin", 0, 3)
    stored, twin = _load_twin(ref, stores.registry, stores.runs)
    tell("build features", 1, 3)
    folds, known = _folds_again(usecase, twin, ref, stored, stores.snapshots)
    tell("measure and judge", 2, 3)
    found = _judge_again(usecase, twin, ref, folds, known, stores.registry, as_of)
    tell("done", 3, 3)
    return EvaluationOutcome(ref, found.verdict, found.evidence, found.incumbent, found.notes)


@step(
    name="load the twin",
    run_name="load the twin of {ref.label}",
    tags=("registry",),
    retried=True,
)
def _load_twin(
    ref: ModelRef, registry: ModelRegistry, tracker: Tracker
) -> tuple[training_record.StoredEvaluation, ScoringModel]:
    """Fetch the model that the gates looked at from the MLflow run of the version."""
    info = registry.describe(ref)
    if info.run_id is None:
        raise EvaluationError(f"{ref.label} names no run; only versions made by a training can be judged again")
    with tempfile.TemporaryDirectory(prefix="incumbent-run-") as scratch:
        return training_record.read_evaluation(tracker, info.run_id, Path(scratch))


@step(
    name="build features",
    run_name="build the features of {ref.label} from data {stored.data_digest:.12}",
    tags=("files", "compute"),
)
def _folds_again(
    usecase: UseCase,
    twin: ScoringModel,
    ref: ModelRef,
    stored: training_record.StoredEvaluation,
    snapshots: SnapshotStore,
) -> tuple[Folds, TrainingHistory]:
    """Make the feature rows of every fold from the stored data of the version."""
    snapshot = snapshots.load(stored.data_digest)
    known = TrainingHistory.at(usecase, snapshot.events, snapshot.labels, snapshot.revisions, stored.as_of)
    folds = Folds.cut(build_fold(usecase, twin.plan, known, full_window(stored.split)), stored.split)
    log.info(
        "read %d events; %d in the test fold with %d positives",
        len(snapshot.events), len(folds.test), folds.test.positives,
    )  # fmt: skip
    return folds, known


@step(
    name="measure and judge",
    run_name="judge {ref.label} as of {as_of:%Y-%m-%d %H:%M}",
    tags=("compute", "registry"),
    retried=True,
)
def _judge_again(
    usecase: UseCase,
    twin: ScoringModel,
    ref: ModelRef,
    folds: Folds,
    known: TrainingHistory,
    registry: ModelRegistry,
    as_of: datetime,
) -> Judgement:
    """Measure the version and the champion on the same test rows, and judge it by the gates."""
    found = judge_twin(GateCase(usecase, registry, as_of), twin, ref.label, folds, known)
    log_judgement(found)
    return found
