"""The whole training job, without Prefect: from a source's rows to a registered version.

    snapshot -> features -> split -> fit the twin -> calibrate -> threshold -> evaluate -> gates
             -> refit on all matured rows -> register (without a role)

The twin is what the gates look at; the refit is what is registered. When the gates refuse, the run
is logged with its reasons and nothing is registered. Roles are given by :mod:`flows.steps.training.role_assignment`.

The refit uses the length of the training fold, not all history: years of rows would be another model than the twin
that passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.registry.mlflow import ModelRef, VersionInfo
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.errors import TooFewRows
from flows.snapshots.store import SnapshotRef
from flows.sources.base import SourceRead
from flows.steps.data.folds import TrainingHistory
from flows.steps.data.split import Split, plan_split
from flows.steps.evaluation.judge import Judgement
from flows.steps.fitting.build import Recipe
from flows.steps.tracking import training_record, version_tags
from flows.steps.tracking.mlflow_run import open_run
from flows.steps.training.training_data import InMemoryMaterial, Material, training_plan
from flows.steps.training.training_steps import (
    STEPS,
    Job,
    Progress,
    TrainingStores,
    build_folds,
    fit_twin,
    judge_fitted_twin,
    keep_data,
    record_fitted_twin,
    refit_model,
    register_model,
)
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Evidence, Verdict


@dataclass(frozen=True)
class TrainingOutcome:
    """What one training gave.

    Attributes:
        run_id: the MLflow run; it exists whatever the verdict.
        verdict: of the gates on the twin; ``verdict.challenger`` is ``ref.label`` once registered.
        evidence: the twin's figures on the test window.
        incumbent: the champion's figures on the same rows, or none.
        ref: the registered version, or none when the gates refused.
        model: the registered model, or the twin when the gates refused.
        split: the folds.
        snapshot: the exact data.
        notes: plain sentences: what limits the comparison with the champion, which features are constant.
    """

    run_id: str
    verdict: Verdict
    evidence: Evidence
    incumbent: Evidence | None
    ref: ModelRef | None
    model: ScoringModel
    split: Split
    snapshot: SnapshotRef
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the gates let the model through."""
        return self.verdict.outcome == "pass"


def train_model(
    usecase: UseCase,
    read: SourceRead,
    as_of: datetime,
    *,
    stores: TrainingStores,
    seed: int | None = None,
    progress: Progress | None = None,
) -> TrainingOutcome:
    """Train, judge, and register when the gates pass.

    Args:
        usecase: everything that is policy.
        read: the whole history that may be used, with the labels known at ``as_of``.
        as_of: business time of the training; later labels are not looked at.
        stores: where versions, data and runs go; the champion is read from there.
        seed: overrides ``[training] seed``.
        progress: told of each step.

    Raises:
        TooFewRows: history or a fold is too short.
        OneClass: a fold holds one class only.
        RegistryUnavailable: the registry or the disk failed; nothing is registered.
    """
    job = stores.job(usecase, as_of, progress)
    history = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, as_of)
    split = plan_split(usecase, history_start(usecase, history, read.window), as_of)
    snapshot = keep_data(job, stores.snapshots, read)
    recipe = Recipe(usecase, training_plan(usecase, history, split), usecase.training.seed if seed is None else seed)
    return train_on(job, InMemoryMaterial(recipe, split, snapshot, history))


def train_on(job: Job, material: Material) -> TrainingOutcome:
    """The training behind its data: fit, judge, and register when the gates pass; see :func:`train_model`."""
    usecase, as_of = job.usecase, job.as_of
    tags = {"usecase": usecase.name, "kind": "training", "as_of": as_of.isoformat(), "engine": material.engine}
    with open_run(job.tracker, job.name, f"{usecase.name} as of {as_of:%Y-%m-%d %H:%M}", tags) as run_id:
        training_record.record_data(job.tracker, run_id, usecase, material.snapshot, material.split)
        return _fit_and_judge(job, material, run_id)


def history_start(usecase: UseCase, history: TrainingHistory, window: TimeWindow) -> datetime:
    """Start of the first day with events, or of the window that was read if that is later.

    Raises:
        TooFewRows: when nothing was known at ``as_of``.
    """
    if history.events.empty:
        raise TooFewRows(f"no event lies before {history.as_of:%Y-%m-%d %H:%M} UTC")
    return first_whole_day(usecase, history.events[usecase.event_time].min().to_pydatetime(), window)


def first_whole_day(usecase: UseCase, first: datetime, window: TimeWindow) -> datetime:
    """Start of the day of the first event, or of the window that was read if that is later."""
    return max(window.start, usecase.calendar.start_of(usecase.calendar.day_of(first)))


def _fit_and_judge(job: Job, material: Material, run_id: str) -> TrainingOutcome:
    parent, recipe = version_tags.newest_version(job.registry, job.name), material.recipe
    split, snapshot = material.split, material.snapshot
    folds = build_folds(job, material)
    metadata = _metadata_of(job, recipe, snapshot, parent)
    twin = fit_twin(job, material, folds, metadata)
    judgement = judge_fitted_twin(job, material, folds, twin)
    evaluation = training_record.StoredEvaluation(split, job.as_of, snapshot.digest)
    record_fitted_twin(job, run_id, twin, judgement, folds, evaluation)
    if judgement.verdict.outcome != "pass":
        job.tell(len(STEPS))
        return _outcome(run_id, judgement, None, twin, split, snapshot)
    model = refit_model(job, material, folds, replace(metadata, twin_digest=twin.booster_digest))
    ref = register_model(job, model, judgement, parent, run_id)
    job.tell(len(STEPS))
    return _outcome(run_id, judgement.of(ref.label), ref, model, split, snapshot)


def _metadata_of(job: Job, recipe: Recipe, snapshot: SnapshotRef, parent: VersionInfo | None) -> ModelMetadata:
    kin = version_tags.VersionDigests(
        EventSchema.of(job.usecase).fingerprint,
        recipe.plan.fingerprint,
        version_tags.parameters_digest(job.usecase.training.model_dump(mode="json"), recipe.seed),
    )
    return ModelMetadata(
        usecase=job.usecase.name,
        semantic_version=version_tags.next_version(parent, kin),
        data_digest=snapshot.digest,
        as_of=job.as_of.isoformat(),
        parent=version_tags.parent_label(parent),
    )


def _outcome(
    run_id: str, judgement: Judgement, ref: ModelRef | None, model: ScoringModel, split: Split, snapshot: SnapshotRef
) -> TrainingOutcome:
    return TrainingOutcome(
        run_id, judgement.verdict, judgement.evidence, judgement.incumbent, ref, model, split, snapshot, judgement.notes
    )
