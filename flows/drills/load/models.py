"""Models for drills: 200 trees of depth 6 on the simulated world, by a fixed seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.features.plan import FeaturePlan
from bentos.model.calibration import Calibrator, Threshold
from bentos.model.contract import ModelMetadata, golden_rows
from bentos.model.scoring_model import ScoringModel
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.sources import open_source
from flows.steps.fitting.fit import fit_booster
from monitoring.drift.reference_profile import ReferenceProfile

TREES, DEPTH = 200, 6
_WORLD: dict[str, Any] = {"customers": 600, "terminals": 1200, "days": 60, "seed": 7}
_THRESHOLD_QUANTILE = 0.99


def training_rows(usecase: UseCase, **world: Any) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Features and labels of the simulated world; ``world`` replaces some of its options."""
    source = open_source(usecase, "simulator", **(_WORLD | world))
    dataset = source.read(source.extent())
    features = FeaturePlan.of(usecase).build(dataset.events, dataset.revisions, dataset.window.end)
    y = dataset.labels.set_index("event_id")["y"].reindex(dataset.events[usecase.event_id]).to_numpy(np.int8)
    return np.ascontiguousarray(features.to_numpy(np.float32)), y


def fit_model(
    usecase: UseCase,
    features: NDArray[np.float32],
    y: NDArray[np.int8],
    seed: int,
    trees: int = TREES,
    depth: int = DEPTH,
) -> ScoringModel:
    """A complete model on these rows; another seed gives other scores."""
    changes = {"trees": trees, "max_depth": depth, "subsample": 0.8, "seed": seed}
    policy = usecase.training.model_copy(update=changes)
    plan = FeaturePlan.of(usecase)
    return complete_model(usecase, fit_booster(features, y, plan.names, policy, seed), plan, features, y, seed)


def complete_model(
    usecase: UseCase, booster: Any, plan: FeaturePlan, features: NDArray[np.float32], y: NDArray[np.int8], seed: int
) -> ScoringModel:
    """Make a model of a booster, with a calibrator, a threshold and a reference profile of these rows."""
    calibrator = Calibrator("platt", slope=1.1, intercept=-0.1)
    raw = booster.predict(features)
    scores = calibrator.apply(raw)
    threshold = float(np.quantile(scores, _THRESHOLD_QUANTILE))
    frame = pd.DataFrame(features, columns=list(plan.names))
    return ScoringModel(
        booster=booster,
        plan=plan,
        calibrator=calibrator,
        threshold=Threshold(threshold, threshold, threshold),
        profile=ReferenceProfile.fit(frame, scores, usecase.drift, labels=y),
        schema_fingerprint=EventSchema.of(usecase).fingerprint,
        golden=golden_rows(booster, calibrator, features),
        metadata=ModelMetadata(usecase=usecase.name, rows=len(features), positives=int(y.sum()), seed=seed),
    )
