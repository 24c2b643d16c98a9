"""What a training is made of: the recipe, and the rows wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.usecase.definition import UseCase
from flows.snapshots.store import SnapshotRef
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.data.split import Split
from flows.steps.evaluation.judge import Folds
from flows.steps.fitting.build import Recipe, build_model, reference_window
from monitoring.core.calendar import TimeWindow


class Material(Protocol):
    """Recipe and rows of one training, wherever the rows are."""

    @property
    def engine(self) -> str:
        """What does the work, for the record."""
        ...

    @property
    def recipe(self) -> Recipe:
        """What the model is made of."""
        ...

    @property
    def split(self) -> Split:
        """The windows of the folds."""
        ...

    @property
    def snapshot(self) -> SnapshotRef:
        """The exact data."""
        ...

    @property
    def known(self) -> TrainingHistory:
        """The newest events at least."""
        ...

    def folds(self) -> Folds:
        """The rows that calibrate, judge and describe a model."""
        ...

    def twin(self, folds: Folds, metadata: ModelMetadata) -> ScoringModel:
        """The model that the gates look at."""
        ...

    def refit(self, folds: Folds, metadata: ModelMetadata) -> ScoringModel:
        """The model that is registered; see :func:`refit`."""
        ...

    def rows_of(self, plan: FeaturePlan) -> Fold:
        """The test rows with the features of another plan."""
        ...


@dataclass(frozen=True, eq=False)
class InMemoryMaterial:
    """Material in the memory of this process."""

    engine: ClassVar[str] = "single"
    recipe: Recipe
    split: Split
    snapshot: SnapshotRef
    known: TrainingHistory

    def folds(self) -> Folds:
        """See :class:`Material`."""
        return Folds.cut(
            build_fold(self.recipe.usecase, self.recipe.plan, self.known, full_window(self.split)), self.split
        )

    def twin(self, folds: Folds, metadata: ModelMetadata) -> ScoringModel:
        """See :class:`Material`."""
        return build_model(self.recipe, folds.train, folds.calibration, folds.calibration, metadata)

    def refit(self, folds: Folds, metadata: ModelMetadata) -> ScoringModel:
        """See :class:`Material`."""
        return refit(self.recipe, folds, metadata)

    def rows_of(self, plan: FeaturePlan) -> Fold:
        """See :class:`Material`."""
        return build_fold(self.recipe.usecase, plan, self.known, self.split.test)


def refit(recipe: Recipe, folds: Folds, metadata: ModelMetadata) -> ScoringModel:
    """The recipe on all matured rows but the short, late calibration fold: what is registered and answers.

    Raises:
        TooFewRows, OneClass: as :func:`flows.steps.fitting.build.build_model`.
    """
    matured = TimeWindow(folds.refit.window.start, folds.refit_calibration.window.end)
    reference = folds.every.between("reference", reference_window(recipe.usecase, matured))
    return build_model(recipe, folds.refit, folds.refit_calibration, reference, metadata)


def training_plan(usecase: UseCase, history: TrainingHistory, split: Split) -> FeaturePlan:
    """The declared features; open category lists are learnt from the training fold."""
    times = history.events[usecase.event_time]
    inside = (times >= split.train.start) & (times < split.train.end)
    return FeaturePlan.of(usecase).with_categories(history.events[inside])


def full_window(split: Split) -> TimeWindow:
    """From the first training row to the last matured one."""
    return TimeWindow(split.train.start, split.matured_until)
