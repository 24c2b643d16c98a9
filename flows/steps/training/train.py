"""The whole training job, without Prefect: from a source's rows to a registered version.

    snapshot -> features -> split -> fit the twin -> calibrate -> threshold -> evaluate -> gates
             -> refit on all matured rows -> register (without a role)

The twin is what the gates look at; the refit is what is registered. When the gates refuse, the run
is logged with its reasons and nothing is registered. Roles are given by :mod:`flows.steps.training.role_assignment`.

The refit uses the length of the training fold, not all history: years of rows would be another model than the twin
that passed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bentos.errors import RegistryUnavailable
from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.registry.mlflow import ModelRef, ModelRegistry, VersionInfo
from bentos.schema.event_schema import EventSchema
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from flows.errors import EvaluationError, TooFewRows
from flows.snapshots.store import SnapshotRef, SnapshotStore
from flows.sources.base import SourceRead
from flows.steps.data.folds import Known, build_fold
from flows.steps.data.split import Split, plan_split
from flows.steps.evaluation.evaluate import constant_features
from flows.steps.evaluation.judge import Folds, Judgement, judge_twin
from flows.steps.fitting.build import Recipe
from flows.steps.tracking import training_record, version_tags
from flows.steps.tracking.mlflow_run import Tracker, open_run, tracker_of
from flows.steps.training.training_data import AtHome, Material, every, plan_of
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Evidence, Verdict

Progress = Callable[[str, int, int], None]
"""Called with (what starts now, steps done, steps in all)."""

STEPS = ("keep the data", "build features", "fit the twin", "measure and judge", "log", "refit", "register")


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


@dataclass(frozen=True)
class EvaluationOutcome:
    """What judging a registered version again gave: see :class:`TrainingOutcome`."""

    ref: ModelRef
    verdict: Verdict
    evidence: Evidence
    incumbent: Evidence | None
    notes: tuple[str, ...] = ()


def train_model(
    usecase: UseCase,
    read: SourceRead,
    as_of: datetime,
    *,
    settings: Settings,
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    seed: int | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
) -> TrainingOutcome:
    """Train, judge, and register when the gates pass.

    Args:
        usecase: everything that is policy.
        read: the whole history that may be used, with the labels known at ``as_of``.
        as_of: business time of the training; later labels are not looked at.
        settings: environment prefix and folders.
        registry: where versions go; the champion is read from it.
        snapshots: where the exact data is kept.
        seed: overrides ``[training] seed``.
        progress: told of each step.
        tracker: where the run is logged; none takes the registry's own.

    Raises:
        TooFewRows: history or a fold is too short.
        OneClass: a fold holds one class only.
        RegistryUnavailable: the registry or the disk failed; nothing is registered.
    """
    job = Job(usecase, settings.model_name(usecase.name), as_of, registry, tracker or tracker_of(registry), progress)
    job.tell(0)
    known = Known.at(usecase, read.events, read.labels, read.revisions, as_of)
    split = plan_split(usecase, history_start(usecase, known, read.window), as_of)
    snapshot = snapshots.save_read(read, usecase)
    recipe = Recipe(usecase, plan_of(usecase, known, split), usecase.training.seed if seed is None else seed)
    return train_on(job, AtHome(recipe, split, snapshot, known))


def train_on(job: Job, material: Material) -> TrainingOutcome:
    """The training behind its data: fit, judge, and register when the gates pass; see :func:`train_model`."""
    usecase, as_of = job.usecase, job.as_of
    tags = {"usecase": usecase.name, "kind": "training", "as_of": as_of.isoformat(), "engine": material.engine}
    with open_run(job.tracker, job.name, f"{usecase.name} as of {as_of:%Y-%m-%d %H:%M}", tags) as run_id:
        training_record.record_data(job.tracker, run_id, usecase, material.snapshot, material.split)
        return _fit_and_judge(job, material, run_id)


def evaluate_version(
    usecase: UseCase,
    ref: ModelRef,
    as_of: datetime,
    *,
    settings: Settings,
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
) -> EvaluationOutcome:
    """Judge a registered version again: its stored twin on its snapshot's test window, against the
    champion of now on the same rows.

    Raises:
        VersionMissing: the registry has no such version.
        SnapshotMissing: its data is gone.
        EvaluationError: the version was not made by :func:`train_model`.
    """
    tell = progress or _silent
    tell("load the twin", 0, 3)
    info = registry.describe(ref)
    if info.run_id is None:
        raise EvaluationError(f"{ref.label} names no run; only versions made by a training can be judged again")
    with tempfile.TemporaryDirectory(prefix="incumbent-run-") as scratch:
        stored, twin = training_record.read_evaluation(tracker or tracker_of(registry), info.run_id, Path(scratch))
    tell("build features", 1, 3)
    snapshot = snapshots.load(stored.data_digest)
    known = Known.at(usecase, snapshot.events, snapshot.labels, snapshot.revisions, stored.as_of)
    folds = Folds.cut(build_fold(usecase, twin.plan, known, every(stored.split)), stored.split)
    tell("measure and judge", 2, 3)
    found = judge_twin(usecase, twin, ref.label, folds, known, registry, ref.name, as_of)
    tell("done", 3, 3)
    return EvaluationOutcome(ref, found.verdict, found.evidence, found.incumbent, found.notes)


def history_start(usecase: UseCase, known: Known, window: TimeWindow) -> datetime:
    """Start of the first day with events, or of the window that was read if that is later.

    Raises:
        TooFewRows: when nothing was known at ``as_of``.
    """
    if known.events.empty:
        raise TooFewRows(f"no event lies before {known.as_of:%Y-%m-%d %H:%M} UTC")
    return first_whole_day(usecase, known.events[usecase.event_time].min().to_pydatetime(), window)


def first_whole_day(usecase: UseCase, first: datetime, window: TimeWindow) -> datetime:
    """Start of the day of the first event, or of the window that was read if that is later."""
    return max(window.start, usecase.calendar.start_of(usecase.calendar.day_of(first)))


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
        (self.progress or _silent)(text, step, len(STEPS))


def _fit_and_judge(job: Job, material: Material, run_id: str) -> TrainingOutcome:
    usecase, parent, recipe = job.usecase, version_tags.newest(job.registry, job.name), material.recipe
    split, snapshot = material.split, material.snapshot
    job.tell(1)
    folds = material.folds()
    about = _about(job, recipe, snapshot, parent)
    job.tell(2)
    twin = material.twin(folds, about)
    job.tell(3)
    label = f"{job.name}/twin-{twin.booster_digest[:12]}"
    found = judge_twin(
        usecase, twin, label, folds, material.known, job.registry, job.name, job.as_of, material.rows_of
    )  # fmt: skip
    found = replace(found, notes=found.notes + constant_features(folds.train, recipe.plan))
    job.tell(4)
    stored = training_record.StoredEvaluation(split, job.as_of, snapshot.digest)
    training_record.record_twin(job.tracker, run_id, usecase, twin, found, folds, stored)
    if found.verdict.outcome != "pass":
        job.tell(len(STEPS))
        return _outcome(run_id, found, None, twin, split, snapshot)
    job.tell(5)
    model = material.refit(folds, replace(about, twin_digest=twin.booster_digest))
    job.tell(6)
    ref = _register(job, model, found, parent, run_id)
    job.tell(len(STEPS))
    return _outcome(run_id, found.of(ref.label, usecase), ref, model, split, snapshot)


def _register(job: Job, model: ScoringModel, found: Judgement, parent: VersionInfo | None, run_id: str) -> ModelRef:
    """Store the refit as a new version; nothing after it may fail the training."""
    tags = version_tags.version_tags(model, parent, found.verdict, found.evidence)
    with tempfile.TemporaryDirectory(prefix="incumbent-model-") as scratch:
        model.save(Path(scratch))
        ref = job.registry.register(Path(scratch), job.name, tags, run_id, _description(job.usecase, model))
    with suppress(RegistryUnavailable):
        job.tracker.log(run_id, tags={"version": ref.label, **{f"version.{k}": v for k, v in tags.items()}})
    return ref


def _about(job: Job, recipe: Recipe, snapshot: SnapshotRef, parent: VersionInfo | None) -> ModelMetadata:
    kin = version_tags.Kinship(
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


def _description(usecase: UseCase, model: ScoringModel) -> str:
    about = model.metadata
    return (
        f"{usecase.description or usecase.name} Version {about.semantic_version}, {about.rows} rows from "
        f"{about.training_start[:10]} to {about.training_end[:10]}, data {about.data_digest[:12]}."
    )


def _outcome(
    run_id: str, found: Judgement, ref: ModelRef | None, model: ScoringModel, split: Split, snapshot: SnapshotRef
) -> TrainingOutcome:
    return TrainingOutcome(
        run_id, found.verdict, found.evidence, found.incumbent, ref, model, split, snapshot, found.notes
    )


def _silent(step: str, done: int, steps: int) -> None:
    """No progress."""
