"""The evaluated twin against its gates, the baseline and whoever is active.

An event is timed in three passes and its shortest time counts: a pause of the machine rarely meets one event thrice.
A champion that was fitted on rows of the test window is not measured on them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from bentos.errors import ContractMismatch
from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import ModelRef, ModelRegistry
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.data.split import Split
from flows.steps.evaluation.crossfit import cross_fit_evidence
from flows.steps.evaluation.evaluate import (
    candidate_evidence,
    incumbent_evidence,
    score_external,
    score_fold,
    single_event_p99_ms,
)
from monitoring.core.calendar import TimeWindow
from monitoring.core.measured import digest_of
from monitoring.core.verdict import Evidence, Verdict
from monitoring.performance.gates import judge_gates

BuildTestRows = Callable[[FeaturePlan], Fold]
"""The test rows with the features of a plan."""


@dataclass(frozen=True, eq=False)
class Folds:
    """The rows of a split, with the features of one plan; ``every`` holds all of them.

    A cluster keeps the long folds: ``train`` is then a sample for the baseline, ``every`` and ``refit`` hold late rows
    only, and ``train_rows`` says how many rows the booster was fitted on.
    """

    every: Fold
    train: Fold
    calibration: Fold
    test: Fold
    refit: Fold
    refit_calibration: Fold
    train_rows: int | None = None

    @classmethod
    def cut(cls, rows: Fold, split: Split) -> Folds:
        """Cut every matured row of the split into its folds."""
        cut = {name: rows.between(name, getattr(split, name)) for name in Split.__dataclass_fields__}
        return cls(rows, cut["train"], cut["calibration"], cut["test"], cut["refit"], cut["refit_calibration"])

    @property
    def matured_rows(self) -> int:
        """Rows that the twin and its test look at."""
        train = len(self.train) if self.train_rows is None else self.train_rows
        return train + len(self.calibration) + len(self.test)


@dataclass(frozen=True)
class Judgement:
    """A verdict with the evidence that it rests on.

    Attributes:
        notes: plain sentences on what a reader of the figures should know.
    """

    verdict: Verdict
    evidence: Evidence
    incumbent: Evidence | None
    notes: tuple[str, ...] = ()

    def of(self, label: str) -> Judgement:
        """The same judgement, made once, about the version that the twin became."""
        evidence = replace(self.evidence, model=label)
        digest = digest_of((evidence, self.incumbent))
        return replace(self, evidence=evidence, verdict=replace(self.verdict, challenger=label, evidence_digest=digest))


@dataclass(frozen=True)
class GateCase:
    """What a twin is judged under: policies, where the champion is, and the business time of the judgement."""

    usecase: UseCase
    registry: ModelRegistry
    as_of: datetime


def judge_twin(
    case: GateCase,
    twin: ScoringModel,
    label: str,
    folds: Folds,
    history: TrainingHistory,
    rows_of: BuildTestRows | None = None,
) -> Judgement:
    """Measure the twin on the test fold, the incumbent on the same rows, and judge.

    Args:
        case: what it is judged under.
        twin: the model that the gates look at.
        label: how the evidence names it, with the champion's name: ``dev-fraud/3``.
        folds: rows with the twin's features.
        history: events and labels, for an incumbent with other features.
        rows_of: makes the test rows with an incumbent's features; by default out of ``history``.
    """
    usecase, as_of = case.usecase, case.as_of
    latency_ms = single_event_p99_ms(usecase, twin, history.events)
    if usecase.untimed:
        # The champion was fitted on these very rows: a comparison with it needs live traffic.
        evidence = cross_fit_evidence(usecase, twin, label, folds.every, latency_ms)
        note = f"figures of {usecase.evaluation.folds}-fold cross-validation over {len(folds.every)} rows"
        notes = (note, *weight_notes(usecase, folds.every))
        return Judgement(judge_gates(evidence, None, usecase.gates, as_of=as_of), evidence, None, notes)
    evidence = candidate_evidence(usecase, twin, label, folds.train, folds.test, folds.matured_rows, latency_ms)
    incumbent, notes = measure_incumbent(usecase, case.registry, label, history, folds.test, rows_of)
    notes += weight_notes(usecase, folds.calibration, folds.test)
    return Judgement(judge_gates(evidence, incumbent, usecase.gates, as_of=as_of), evidence, incumbent, notes)


def measure_incumbent(
    usecase: UseCase,
    registry: ModelRegistry,
    own_label: str,
    history: TrainingHistory,
    test: Fold,
    rows_of: BuildTestRows | None = None,
) -> tuple[Evidence | None, tuple[str, ...]]:
    """The figures of the champion, or of an external incumbent, on the rows of ``test``.

    A champion that was fitted on these rows would win on them by memory. It is not measured then: the comparison on
    live traffic is between the two. Where models become champion after their gates nothing follows, so it is measured.

    Returns:
        The evidence, or none when nobody else is active or can be measured, and notes on its fairness.
    """
    ref = registry.roles(own_label.rpartition("/")[0]).get("champion")
    if ref is None and usecase.incumbent is not None:
        label = f"external/{usecase.incumbent.column}"
        scored_fold = score_external(usecase, test)
        return incumbent_evidence(usecase, label, scored_fold, test.window, usecase.training.seed), ()
    if ref is None or ref.label == own_label:
        return None, ()
    champion = fetch_model(registry, ref)
    try:
        champion.check_schema(EventSchema.of(usecase).fingerprint)
    except ContractMismatch:
        return None, (f"{ref.label} is active with another input schema and cannot be measured on these rows",)
    overlap = _training_overlap(ref, champion, test.window)
    if overlap and usecase.promotion.takes_office == "after_comparison":
        return None, (f"{overlap}: it is not measured on them; the comparison in shadow decides",)
    rows = rows_of(champion.plan) if rows_of else build_fold(usecase, champion.plan, history, test.window)
    evidence = incumbent_evidence(usecase, ref.label, score_fold(champion, rows), test.window, usecase.training.seed)
    return evidence, ((f"{overlap}: its figures flatter it",) if overlap else ())


def weight_notes(usecase: UseCase, *folds: Fold) -> tuple[str, ...]:
    """How many rows stand for blocked events, and how many of them are held at the cap; nothing where none do."""
    weights = [fold.weight for fold in folds]
    if any(weight is None for weight in weights):
        return ()
    all_weights = np.concatenate([weight for weight in weights if weight is not None])
    explored, cap = all_weights[all_weights > 1.0], usecase.intervention.max_weight
    if not len(explored):
        return (
            "flagged events are blocked and none that was let through has a label: what was flagged is missing from "
            "these figures; declare an exploration_share",
        )
    capped = int(np.count_nonzero(explored >= cap))
    sentence = f"{len(explored)} explored events stand for {explored.sum():.0f} flagged ones"
    return (f"{sentence}; {capped} of them are held at [intervention] max_weight = {cap:g}" if capped else sentence,)


def fetch_model(registry: ModelRegistry, ref: ModelRef) -> ScoringModel:
    """Load a registered version into memory."""
    with tempfile.TemporaryDirectory(prefix="incumbent-model-") as folder:
        return ScoringModel.load(registry.fetch(ref, Path(folder)))


def _training_overlap(ref: ModelRef, champion: ScoringModel, test: TimeWindow) -> str:
    """That the champion was fitted on rows of the test window, in words; empty where it was not."""
    trained_until = champion.metadata.calibration_end
    if trained_until and datetime.fromisoformat(trained_until) > test.start:
        return f"{ref.label} was fitted on rows up to {trained_until}, inside the test window"
    return ""
