"""The training of a model on a cluster: the same steps, gates and registration, other places for the rows.

slices of time ── features by entity ── labelled rows by slice ── booster on the workers
calibration, test and reference rows come home; they are as long as the use case says, not as the history
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import ClassVar

import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.registry.mlflow import ModelRegistry
from bentos.schema.event_schema import EventSchema
from bentos.schema.table_cleaning import empty_labels
from bentos.usecase.definition import UseCase
from flows.distributed import slices
from flows.distributed.dask_cluster import Cluster
from flows.distributed.fitting import fit_on_cluster, require_hist
from flows.distributed.folds import PartRows, keep_rows, positions_of, read_fold
from flows.distributed.shuffle import Shuffle, buckets_of
from flows.errors import NoData, TooFewRows, TrainingError
from flows.snapshots.store import SnapshotRef, SnapshotStore
from flows.steps.data.folds import Fold, TrainingHistory
from flows.steps.data.split import Split, plan_split, split_at
from flows.steps.evaluation.evaluate import LATENCY_CONTEXT, LATENCY_EVENTS
from flows.steps.evaluation.judge import Folds, fetch_model
from flows.steps.fitting.build import FittedBooster, Recipe, complete_model, reference_window
from flows.steps.training.train import TrainingOutcome, first_whole_day, train_on
from flows.steps.training.training_data import full_window
from flows.steps.training.training_steps import Progress, TrainingStores
from monitoring.core.calendar import TimeWindow

BASELINE_ROWS = 500_000
"""Training rows that the logistic-regression baseline learns from; more are sampled."""
_TRAIN, _REFIT = 0, 1


def train_on_cluster(
    cluster: Cluster,
    call: slices.SourceCall,
    window: TimeWindow,
    *,
    stores: TrainingStores,
    rows: int | None = None,
    progress: Progress | None = None,
) -> TrainingOutcome:
    """Train, judge, and register when the gates pass; see :func:`flows.steps.training.train.train_model`.

    Args:
        cluster: scheduler, workers and their shared folder.
        call: the source, and with it the use case.
        window: the history; it ends at the business time.
        stores, progress: as on one machine.
        rows: of the source where that is known; they decide how long a slice is.

    Raises:
        TrainingError: what only one machine can do: no time, derived snapshots, exact trees.
        SchemaProblem: an id stands on two days.
        EngineError: the cluster failed.
    """
    usecase, as_of = call.usecase, window.end
    if usecase.untimed:
        raise TrainingError("data without a time are cross-validated on one machine; use --engine single")
    if usecase.snapshot is not None:
        raise TrainingError("monthly snapshots are derived from the whole table on one machine; use --engine single")
    require_hist(usecase.training)
    job = stores.job(usecase, as_of, progress)
    champion = _champion_plan(usecase, stores.registry, job.name)
    material = prepare(cluster, call, window, stores.snapshots, champion=champion, rows=rows)
    return train_on(job, material)


@dataclass(frozen=True, eq=False)
class OnCluster:
    """Material on the workers of a cluster; see :class:`flows.steps.training.training_data.Material`.

    Attributes:
        union: the plan's features, and the champion's where they differ: all that was kept of each row.
        facts: rows of each part in the training and the refit window.
    """

    engine: ClassVar[str] = "dask"
    cluster: Cluster
    recipe: Recipe
    split: Split
    snapshot: SnapshotRef
    known: TrainingHistory
    union: FeaturePlan
    facts: tuple[PartRows, ...]

    def folds(self) -> Folds:
        """The calibration and everything later, and a sample of the training rows."""
        late = TimeWindow(min(self.split.calibration.start, self._reference.start), self.split.matured_until)
        late_folds = Folds.cut(self._read("history", late, self.recipe.plan), self.split)
        rows = sum(fact.rows[_TRAIN] for fact in self.facts)
        share = min(1.0, BASELINE_ROWS / max(1, rows))
        train = self._read("train", self.split.train, self.recipe.plan, share)
        return replace(late_folds, train=train, train_rows=rows)

    def twin(self, folds: Folds, about: ModelMetadata) -> ScoringModel:
        """See :class:`flows.steps.training.training_data.Material`."""
        return complete_model(self.recipe, self.fitted_twin(), folds.calibration, folds.calibration, about)

    def fitted_twin(self) -> FittedBooster:
        """The twin's booster."""
        return self._fit(_TRAIN, self.split.train)

    def refit(self, folds: Folds, about: ModelMetadata) -> ScoringModel:
        """See :func:`flows.steps.training.training_data.refit`."""
        reference = folds.every.between("reference", self._reference)
        fitted = self._fit(_REFIT, self.split.refit)
        return complete_model(self.recipe, fitted, folds.refit_calibration, reference, about)

    def rows_of(self, plan: FeaturePlan) -> Fold:
        """See :class:`flows.steps.training.training_data.Material`."""
        return self._read("test", self.split.test, plan)

    @property
    def _reference(self) -> TimeWindow:
        matured = TimeWindow(self.split.refit.start, self.split.refit_calibration.end)
        return reference_window(self.recipe.usecase, matured)

    def _fit(self, fold: int, window: TimeWindow) -> FittedBooster:
        plan, usecase = self.recipe.plan, self.recipe.usecase
        return fit_on_cluster(
            self.cluster, self.cluster.folder, self.facts, fold, window, positions_of(plan, self.union), plan.names,
            usecase.training, self.recipe.seed,
        )  # fmt: skip

    def _read(self, name: str, window: TimeWindow, plan: FeaturePlan, share: float = 1.0) -> Fold:
        parts = [fact.part for fact in self.facts if fact.overlaps(window)]
        positions = positions_of(plan, self.union)
        return read_fold(name, self.cluster.folder, parts, window, positions, share, self.recipe.seed)


def prepare(
    cluster: Cluster,
    call: slices.SourceCall,
    window: TimeWindow,
    snapshots: SnapshotStore,
    *,
    champion: FeaturePlan | None = None,
    rows: int | None = None,
    keep: TimeWindow | None = None,
) -> OnCluster:
    """Read the history in slices, build the features, and keep the labelled rows; see :func:`train_on_cluster`.

    Args:
        keep: window of the labelled rows; by default from the first training row to the last matured one.
    """
    usecase, as_of, workers = call.usecase, window.end, cluster.workers
    split = split_at(usecase, as_of)
    plan = FeaturePlan.of(usecase)
    shuffle = Shuffle(cluster.folder, _union(plan, champion), as_of, buckets_of(rows, workers))
    ids = slices.id_parts(rows)
    job = slices.SliceJob(call, as_of, shuffle, ids, snapshots.folder, split.train)
    windows = slices.split_window(usecase, window, rows, workers)
    slice_facts = cluster.run("read slices", partial(slices.keep_slice, job), list(enumerate(windows)))
    facts = [fact for fact in slice_facts if fact.rows]
    _require_rows(usecase, facts, window, as_of)
    parts = [fact.part for fact in facts]
    cluster.run("look for repeats", partial(slices.require_distinct, cluster.folder, parts), range(ids))
    for entity in shuffle.entities:
        build = partial(shuffle.build, entity, parts=parts)
        cluster.run(f"windows of {entity}", build, range(shuffle.buckets))
    plan = slices.with_categories(plan, facts)
    shuffle = replace(shuffle, plan=_union(plan, champion))
    write_part = partial(keep_rows, shuffle, usecase, keep or full_window(split), (split.train, split.refit))
    part_rows = cluster.run("features", write_part, parts)
    snapshot = snapshots.join(
        [fact.digest for fact in facts], usecase=usecase, window=window, source=facts[0].origin, as_of=as_of
    )
    recipe = Recipe(usecase, plan, usecase.training.seed)
    newest_rows = _newest(usecase, shuffle, facts, as_of)
    return OnCluster(cluster, recipe, split, snapshot, newest_rows, shuffle.plan, tuple(part_rows))


def _union(plan: FeaturePlan, champion: FeaturePlan | None) -> FeaturePlan:
    return plan if champion is None else FeaturePlan.union([plan, champion])


def _champion_plan(usecase: UseCase, registry: ModelRegistry, name: str) -> FeaturePlan | None:
    """The features of who is active, where that can be measured on these rows."""
    ref = registry.roles(name).get("champion")
    if ref is None:
        return None
    model = fetch_model(registry, ref)
    return model.plan if model.schema_fingerprint == EventSchema.of(usecase).fingerprint else None


def _require_rows(usecase: UseCase, facts: Sequence[slices.SliceFacts], window: TimeWindow, as_of: datetime) -> None:
    first = min((fact.first for fact in facts if fact.first is not None), default=None)
    if first is None:
        raise TooFewRows(f"no event lies before {as_of:%Y-%m-%d %H:%M} UTC")
    slices.require_present(usecase, facts)
    plan_split(usecase, first_whole_day(usecase, first, window), as_of)


def _newest(usecase: UseCase, shuffle: Shuffle, facts: Sequence[slices.SliceFacts], as_of: datetime) -> TrainingHistory:
    """As many of the newest events as the latency is measured with; labels are not needed for it."""
    frames: list[pd.DataFrame] = []
    for fact in reversed(facts):
        if sum(map(len, frames)) >= LATENCY_CONTEXT + LATENCY_EVENTS:
            break
        frames.insert(0, shuffle.events(fact.part))
    if not frames:
        raise NoData("no slice of the history holds an event")
    return TrainingHistory(pd.concat(frames, ignore_index=True), empty_labels(), empty_labels(), as_of)
