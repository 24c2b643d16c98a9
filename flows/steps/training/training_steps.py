"""The steps of a training: each is a task run of Prefect's where there is one, and logs what it worked on."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.errors import RegistryUnavailable
from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.registry.mlflow import ModelRef, ModelRegistry, VersionInfo
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from flows.snapshots.store import SnapshotRef, SnapshotStore
from flows.sources.base import SourceRead
from flows.steps.evaluation.evaluate import constant_feature_notes
from flows.steps.evaluation.judge import Folds, GateCase, Judgement, judge_twin
from flows.steps.tracking import training_record, version_tags
from flows.steps.tracking.mlflow_run import Tracker, tracker_of
from flows.steps.training.training_data import Material
from flows.workspace.step import step

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

log = logging.getLogger("incumbent.flows")

Progress = Callable[[str, int, int], None]
"""Called with (what starts now, steps done, steps in all)."""

STEPS = ("keep the data", "build features", "fit the twin", "measure and judge", "log", "refit", "register")


@dataclass(frozen=True)
class TrainingStores:
    """Where a training keeps what it makes.

    Attributes:
        settings: environment prefix and folders.
        registry: where versions go; the champion is read from it.
        snapshots: where the exact data is kept.
        tracker: where runs are logged; none takes the registry's own.
    """

    settings: Settings
    registry: ModelRegistry
    snapshots: SnapshotStore
    tracker: Tracker | None = None

    @classmethod
    def of(cls, workspace: Workspace) -> TrainingStores:
        """Those of a workspace."""
        return cls(workspace.settings, workspace.registry, workspace.snapshots)

    @property
    def runs(self) -> Tracker:
        """Where runs are logged."""
        return self.tracker or tracker_of(self.registry)

    def job(self, usecase: UseCase, as_of: datetime, progress: Progress | None) -> Job:
        """A training that keeps its results here."""
        return Job(usecase, self.settings.model_name(usecase.name), as_of, self.registry, self.runs, progress)


@dataclass(frozen=True)
class Job:
    """The ports of one training, and what it is called."""

    usecase: UseCase
    name: str
    as_of: datetime
    registry: ModelRegistry
    tracker: Tracker
    progress: Progress | None

    def tell(self, step: int) -> None:
        """Report that a step starts; the last report is ``done``."""
        text = STEPS[step] if step < len(STEPS) else "done"
        (self.progress or ignore_progress)(text, step, len(STEPS))


@step(
    name="keep the data",
    run_name="keep the data of {job.name} until {job.as_of:%Y-%m-%d}",
    tags=("files",),
    retried=True,
)
def keep_data(job: Job, snapshots: SnapshotStore, read: SourceRead) -> SnapshotRef:
    """Store the exact events and labels of a training by their content."""
    job.tell(0)
    snapshot = snapshots.save_read(read, job.usecase)
    log.info("kept %d events with %d positives as %s", snapshot.rows, snapshot.positives, snapshot.digest[:12])
    return snapshot


@step(
    name="build features",
    run_name="build the features of {job.name} from {material.snapshot.rows} events",
    tags=("compute",),
)
def build_folds(job: Job, material: Material) -> Folds:
    """Make the feature rows of every fold."""
    job.tell(1)
    folds = material.folds()
    log.info(
        "built %d features: %d matured rows, %d in the test fold with %d positives, labels matured until %s",
        len(material.recipe.plan.names), folds.matured_rows, len(folds.test), folds.test.positives,
        f"{material.split.matured_until:%Y-%m-%d}",
    )  # fmt: skip
    return folds


@step(
    name="fit the twin",
    run_name="fit the twin of {job.name}",
    tags=("compute",),
)
def fit_twin(job: Job, material: Material, folds: Folds, about: ModelMetadata) -> ScoringModel:
    """Fit and calibrate the model that the gates look at, and choose its threshold."""
    job.tell(2)
    twin = material.twin(folds, about)
    log.info(
        "fitted the twin on %d rows with %d positives, threshold %.4g",
        twin.metadata.rows, twin.metadata.positives, twin.threshold.value,
    )  # fmt: skip
    return twin


@step(
    name="measure and judge",
    run_name="judge the twin of {job.name} on the test fold",
    tags=("compute", "registry"),
    retried=True,
)
def judge_fitted_twin(job: Job, material: Material, folds: Folds, twin: ScoringModel) -> Judgement:
    """Measure the twin and the champion on the same test rows, and judge it by the gates."""
    job.tell(3)
    label = f"{job.name}/twin-{twin.booster_digest[:12]}"
    found = judge_twin(
        GateCase(job.usecase, job.registry, job.as_of), twin, label, folds, material.known, material.rows_of
    )
    log_judgement(found)
    return replace(found, notes=found.notes + constant_feature_notes(folds.train, material.recipe.plan))


def log_judgement(found: Judgement) -> None:
    """Log the gates in one sentence: how many hold, which do not and why."""
    checks = found.verdict.checks
    failed = [f"{check.name} ({check.detail})" for check in checks if check.status == "FAIL"]
    champion = found.verdict.champion or "nobody"
    text = f"{len(checks) - len(failed)} of {len(checks)} gates hold, beside {champion}: {found.verdict.outcome}"
    log.info("%s", f"{text}; {', '.join(failed)}" if failed else text)


@step(
    name="log",
    run_name="log the twin of {job.name} in MLflow run {run_id}",
    tags=("registry",),
)
def record_fitted_twin(
    job: Job,
    run_id: str,
    twin: ScoringModel,
    found: Judgement,
    folds: Folds,
    stored: training_record.StoredEvaluation,
) -> None:
    """Write parameters, figures, pictures and the twin into the MLflow run."""
    job.tell(4)
    training_record.record_twin(job.tracker, run_id, job.usecase, twin, found, folds, stored)


@step(
    name="refit",
    run_name="refit {job.name} on all matured rows",
    tags=("compute",),
)
def refit_model(job: Job, material: Material, folds: Folds, about: ModelMetadata) -> ScoringModel:
    """Fit the same recipe on all matured rows: the model that is registered."""
    job.tell(5)
    model = material.refit(folds, about)
    log.info("fitted the model on %d rows with %d positives", model.metadata.rows, model.metadata.positives)
    return model


@step(
    name="register",
    run_name="register {job.name} {model.metadata.semantic_version}",
    tags=("registry",),
)
def register_model(
    job: Job, model: ScoringModel, found: Judgement, parent: VersionInfo | None, run_id: str
) -> ModelRef:
    """Store the refit as a new version of the registry, without a role; nothing after it may fail the training."""
    job.tell(6)
    tags = version_tags.version_tags(model, parent, found.verdict, found.evidence)
    with tempfile.TemporaryDirectory(prefix="incumbent-model-") as scratch:
        model.save(Path(scratch))
        ref = job.registry.register(Path(scratch), job.name, tags, run_id, _description(job.usecase, model))
    with suppress(RegistryUnavailable):
        job.tracker.log(run_id, tags={"version": ref.label, **{f"version.{k}": v for k, v in tags.items()}})
    log.info("registered %s", ref.label)
    return ref


def _description(usecase: UseCase, model: ScoringModel) -> str:
    about = model.metadata
    return (
        f"{usecase.description or usecase.name} Version {about.semantic_version}, {about.rows} rows from "
        f"{about.training_start[:10]} to {about.training_end[:10]}, data {about.data_digest[:12]}."
    )


def ignore_progress(step: str, done: int, steps: int) -> None:
    """No progress."""
