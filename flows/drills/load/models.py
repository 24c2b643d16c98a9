"""The model that every server of the bench serves: 200 trees of depth 6 on the simulated world, by a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.errors import ModelError
from bentos.features.plan import FeaturePlan
from bentos.model.calibration import Calibrator, Threshold
from bentos.model.contract import ModelMetadata, golden_rows
from bentos.model.scoring_model import ScoringModel
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.steps.fitting.fit import fit_booster
from monitoring.drift.reference_profile import ReferenceProfile

TREES, DEPTH = 200, 6
SEEDS = (7, 8)
"""Champion and challenger."""
VECTOR = "bench_vector"
"""Name of the use case whose features are plain columns."""
_WORLD: dict[str, Any] = {"customers": 600, "terminals": 1200, "days": 60, "seed": 7}
_THRESHOLD_QUANTILE = 0.99


@dataclass(frozen=True)
class BenchModels:
    """What is served.

    Attributes:
        events, vectors: champion and challenger for raw events (the fraud case) and for precomputed features.
        vector_usecase: file of the use case with precomputed features.
        booster: file of the champion's booster, for the other servers.
        features: file of feature rows to send, float32, in the order of ``names``.
    """

    events: tuple[ScoringModel, ...]
    vectors: tuple[ScoringModel, ...]
    vector_usecase: Path
    booster: Path
    features: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.events[0].plan.names


def bench_models(folder: Path) -> BenchModels:
    """Train the models, or take the ones that an earlier run left in ``folder`` (about 10 s saved)."""
    usecase = load_usecase("fraud")
    names = FeaturePlan.of(usecase).names
    folder.mkdir(parents=True, exist_ok=True)
    vector_file = folder / f"{VECTOR}.toml"
    vector_file.write_text(_vector_toml(names), encoding="utf-8")
    vector = load_usecase(vector_file)
    try:
        models = _load(folder, usecase, vector)
    except (ModelError, OSError):
        models = _train(folder, usecase, vector)
    return BenchModels(*models, vector_file, folder / "event-0" / "model.ubj", folder / "features.npy")


Models = tuple[tuple[ScoringModel, ...], tuple[ScoringModel, ...]]


def _load(folder: Path, usecase: UseCase, vector: UseCase) -> Models:
    if not (folder / "features.npy").is_file():
        raise FileNotFoundError(folder / "features.npy")
    pairs = []
    for kind, case in (("event", usecase), ("vector", vector)):
        models = tuple(ScoringModel.load(folder / f"{kind}-{number}") for number in range(len(SEEDS)))
        for model in models:
            model.check_schema(EventSchema.of(case).fingerprint)
        pairs.append(models)
    return pairs[0], pairs[1]


def _train(folder: Path, usecase: UseCase, vector: UseCase) -> Models:
    features, y = training_rows(usecase)
    events = tuple(fit_model(usecase, features, y, seed) for seed in SEEDS)
    vectors = tuple(_same_booster(model, vector, features, y) for model in events)
    for kind, models in (("event", events), ("vector", vectors)):
        for number, model in enumerate(models):
            model.save(folder / f"{kind}-{number}")
    np.save(folder / "features.npy", features[-20_000:])
    return events, vectors


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
    return _complete(usecase, fit_booster(features, y, plan.names, policy, seed), plan, features, y, seed)


def _same_booster(
    model: ScoringModel, usecase: UseCase, features: NDArray[np.float32], y: NDArray[np.int8]
) -> ScoringModel:
    return _complete(usecase, model.booster, FeaturePlan.of(usecase), features, y, model.metadata.seed)


def _complete(
    usecase: UseCase, booster: Any, plan: FeaturePlan, features: NDArray[np.float32], y: NDArray[np.int8], seed: int
) -> ScoringModel:
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


def _vector_toml(names: tuple[str, ...]) -> str:
    """A use case with the same features as plain columns."""
    head = (
        f'name = "{VECTOR}"\nevent_id = "transaction_id"\nevent_time = "tx_time"\n\n'
        '[label]\ncolumn = "is_fraud"\nmatures_after = "7d"\nsources = ["chargeback"]\n\n'
        '[[columns]]\nname = "transaction_id"\ntype = "identifier"\n\n'
        '[[columns]]\nname = "tx_time"\ntype = "datetime"\n'
    )
    columns = "".join(f'\n[[columns]]\nname = "{name}"\ntype = "float"\n' for name in names)
    features = "".join(f'\n[[features]]\nname = "{name}"\nkind = "column"\ncolumn = "{name}"\n' for name in names)
    return head + columns + features
