"""The whole training job, without Prefect: from a source's rows to a registered version.

    snapshot -> features -> split -> fit the twin -> calibrate -> threshold -> evaluate -> gates
             -> refit on all matured rows -> register (without a role)

The twin is what the gates look at; the refit is what is registered. When the gates refuse, the run
is logged with its reasons and nothing is registered. Roles are given by :mod:`flows.steps.gate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bentos.model import ScoringModel
from bentos.registry import ModelRef, ModelRegistry
from bentos.settings import Settings
from bentos.usecase import UseCase
from flows.sources.base import SourceRead
from flows.steps.snapshot import SnapshotRef, SnapshotStore
from flows.steps.split import Split
from monitoring.gates import Evidence, Verdict

Progress = Callable[[str, int, int], None]
"""Called with (what starts now, steps done, steps in all)."""


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
    """

    run_id: str
    verdict: Verdict
    evidence: Evidence
    incumbent: Evidence | None
    ref: ModelRef | None
    model: ScoringModel
    split: Split
    snapshot: SnapshotRef

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

    Raises:
        TooFewRows: history or a fold is too short.
        OneClass: a fold holds one class only.
        RegistryUnavailable: the registry or the disk failed; nothing is registered.
    """
    raise NotImplementedError


def evaluate_version(
    usecase: UseCase,
    ref: ModelRef,
    as_of: datetime,
    *,
    settings: Settings,
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    progress: Progress | None = None,
) -> EvaluationOutcome:
    """Judge a registered version again: its stored twin on its snapshot's test window, against the
    champion of now on the same rows.

    Raises:
        VersionMissing: the registry has no such version.
        SnapshotMissing: its data is gone.
        EvaluationError: the version was not made by :func:`train_model`.
    """
    raise NotImplementedError
