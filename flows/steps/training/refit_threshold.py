"""A new calibrator and threshold for a version, from matured data: a patch version with the same booster.

It goes the same road as any other version: gates on rows that neither fitted it, a seat as challenger or
candidate, shadow, comparison at its own threshold, promotion. Rolling it back is a rollback like any other.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bentos.model.contract import golden_rows
from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import ModelRef, ModelRegistry, VersionInfo
from bentos.usecase.definition import UseCase
from flows.errors import TooFewRows
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.data.split import business_time_before
from flows.steps.evaluation.evaluate import candidate_evidence, constant_feature_notes, single_event_p99_ms
from flows.steps.evaluation.judge import Judgement, measure_incumbent, weight_notes
from flows.steps.fitting.build import fit_cost_curve, fit_threshold
from flows.steps.fitting.calibrate import fit_by_policy
from flows.steps.fitting.fit import require_both_classes
from flows.steps.tracking import version_tags
from flows.steps.tracking.mlflow_run import open_run
from flows.steps.tracking.training_record import threshold_figures
from flows.steps.training.training_steps import TrainingStores
from monitoring.core.calendar import TimeWindow
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.performance.gates import judge_gates

if TYPE_CHECKING:
    from flows.sources.base import SourceRead


@dataclass(frozen=True)
class Refit:
    """What a refit gave.

    Attributes:
        parent: the version it was made of.
        model: the same booster with a new calibrator and threshold.
        found: the judgement of the gates on the last third of the matured rows.
        ref: the registered version; none where the gates refused.
        run_id: of the tracking server.
    """

    parent: ModelRef
    model: ScoringModel
    found: Judgement
    ref: ModelRef | None
    run_id: str


def refit_threshold(
    usecase: UseCase,
    parent: ModelRef,
    model: ScoringModel,
    read: SourceRead,
    as_of: datetime,
    stores: TrainingStores,
) -> Refit:
    """Fit calibrator and threshold again on matured rows later than everything the version was made of.

    The rows are cut in three by days: the first fits the calibrator, the second the threshold, the last is
    what the gates look at.

    Args:
        usecase: policies.
        parent, model: the version.
        read: events and labels, with enough history for the windows.
        as_of: business time; later labels are not looked at.
        stores: as in a training.

    Raises:
        TooFewRows: fewer than three matured days lie behind the version's own data.
        OneClass: a third holds one class only.
        RegistryUnavailable: nothing is registered.
    """
    history = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, as_of)
    windows = split_in_thirds(usecase, model, as_of)
    rows = build_fold(usecase, model.plan, history, TimeWindow(windows[0].start, windows[2].end))
    names = ("calibration", "threshold", "test")
    first, second, test = (rows.between(name, window) for name, window in zip(names, windows, strict=True))
    require_both_classes(first.y, first.name)
    require_both_classes(second.y, second.name)
    registry, run_tracker = stores.registry, stores.runs
    snapshot = stores.snapshots.save_read(read, usecase)
    refitted = _refit_model(usecase, parent, model, first, second, snapshot.digest, as_of, registry)
    tags = {"usecase": usecase.name, "kind": "threshold", "as_of": as_of.isoformat(), "parent": parent.label}
    with open_run(
        run_tracker, parent.name, f"threshold of {parent.label} as of {as_of:%Y-%m-%d %H:%M}", tags
    ) as run_id:
        label = f"{parent.name}/refit-{refitted.contract_digest[:12]}"
        judgement = _judge_refit(usecase, refitted, label, (first, second, test), history, registry, as_of)
        figures = threshold_figures(refitted.threshold)
        run_tracker.log(run_id, {"data_digest": snapshot.digest}, figures, {"gates": judgement.verdict.outcome})
        if judgement.verdict.outcome != "pass":
            return Refit(parent, refitted, judgement, None, run_id)
        ref = _register(usecase, registry, registry.describe(parent), refitted, judgement, run_id)
        return Refit(parent, refitted, judgement.of(ref.label), ref, run_id)


def split_in_thirds(
    usecase: UseCase, model: ScoringModel, as_of: datetime
) -> tuple[TimeWindow, TimeWindow, TimeWindow]:
    """The newest matured days behind the version's data, at most as many as calibration and test folds take."""
    calendar, policy = usecase.calendar, usecase.split
    end = calendar.matured_until(as_of, usecase.label.matures_after)
    metadata = model.metadata
    used_until = datetime.fromisoformat(metadata.calibration_end or metadata.training_end)
    used_until = used_until if used_until.tzinfo else used_until.replace(tzinfo=UTC)
    start = max(used_until, business_time_before(calendar, end, policy.calibration + policy.test))
    first = calendar.day_of(start)
    first_day = first if calendar.start_of(first) == start else calendar.day_of(calendar.end_of(first))
    days = (calendar.day_of(end) - first_day).days
    if days < 3:
        raise TooFewRows(
            f"{max(0, days)} matured days lie behind the data of the version (up to {used_until:%Y-%m-%d}); "
            "a refit takes 3"
        )
    edges = [calendar.start_of(first_day + pd.Timedelta(days=days * i // 3).to_pytimedelta()) for i in range(3)]
    return TimeWindow(edges[0], edges[1]), TimeWindow(edges[1], edges[2]), TimeWindow(edges[2], end)


def _refit_model(
    usecase: UseCase, parent: ModelRef, model: ScoringModel, first: Fold, second: Fold, digest: str, as_of: datetime,
    registry: ModelRegistry,
) -> ScoringModel:  # fmt: skip
    booster, seed = model.booster, model.metadata.seed
    calibrator = fit_by_policy(booster.predict(first.features), first.y, usecase.training, first.weight)
    scores = calibrator.apply(booster.predict(second.features))
    # Features keep the reference they were trained on; scores have a new scale and so a new reference.
    frame = pd.DataFrame(second.features, columns=list(model.plan.names))
    profile = ReferenceProfile.fit(frame, scores, usecase.drift, days=second.rows["day"], labels=second.y)
    metadata = replace(
        model.metadata,
        semantic_version=_next_patch(registry.versions(parent.name), model.metadata.semantic_version),
        calibration_start=first.window.start.isoformat(),
        calibration_end=second.window.end.isoformat(),
        data_digest=digest,
        as_of=as_of.isoformat(),
        parent=parent.label,
        extra={**model.metadata.extra, "refit_of": parent.label},
    )
    threshold = fit_threshold(usecase, second, scores, seed)
    return replace(
        model,
        calibrator=calibrator,
        threshold=threshold,
        cost_curve=fit_cost_curve(usecase, second, scores, threshold),
        profile=replace(model.profile, score=profile.score),
        golden=golden_rows(booster, calibrator, second.features),
        metadata=metadata,
    )


def _next_patch(versions: list[VersionInfo], parent: str) -> str:
    """The next patch number of the parent's major and minor."""
    minor = parent.rpartition(".")[0]
    labels = [v.tags.get(version_tags.SEMANTIC_VERSION, "") for v in versions] + [parent]
    return f"{minor}.{max(int(label.rpartition('.')[2]) for label in labels if label.rpartition('.')[0] == minor) + 1}"


def _judge_refit(
    usecase: UseCase, refitted: ScoringModel, label: str, folds: tuple[Fold, Fold, Fold], history: TrainingHistory,
    registry: ModelRegistry, as_of: datetime,
) -> Judgement:  # fmt: skip
    """The gates on the last third; the baseline learns from the thirds before it."""
    first, second, test = folds
    earlier = replace(
        first,
        window=TimeWindow(first.window.start, second.window.end),
        features=np.concatenate([first.features, second.features]),
        rows=pd.concat([first.rows, second.rows], ignore_index=True),
    )
    rows = refitted.metadata.rows + sum(len(fold) for fold in folds)
    latency_ms = single_event_p99_ms(usecase, refitted, history.events)
    evidence = candidate_evidence(usecase, refitted, label, earlier, test, rows, latency_ms)
    incumbent, notes = measure_incumbent(usecase, registry, label, history, test)
    notes += weight_notes(usecase, *folds)
    judgement = Judgement(judge_gates(evidence, incumbent, usecase.gates, as_of=as_of), evidence, incumbent, notes)
    return replace(judgement, notes=judgement.notes + constant_feature_notes(earlier, refitted.plan))


def _register(
    usecase: UseCase,
    registry: ModelRegistry,
    parent: VersionInfo,
    refitted: ScoringModel,
    judgement: Judgement,
    run_id: str,
) -> ModelRef:
    tags = version_tags.version_tags(refitted, parent, judgement.verdict, judgement.evidence) | {
        "refit_of": parent.ref.label
    }
    description = f"{usecase.description or usecase.name} Calibrator and threshold of {parent.ref.label}, fitted again."
    with tempfile.TemporaryDirectory(prefix="incumbent-refit-") as folder:
        refitted.save(Path(folder))
        return registry.register(Path(folder), parent.ref.name, tags, run_id, description)
