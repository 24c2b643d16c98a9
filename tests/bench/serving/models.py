"""The model that every server of the bench serves: the same trees for raw events and for precomputed features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bentos.errors import ModelError
from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ScoringModel
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.drills.load.models import complete_model, fit_model, training_rows

SEEDS = (7, 8)
"""Champion and challenger."""
VECTOR = "bench_vector"
"""Name of the use case whose features are plain columns."""


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


def _same_booster(
    model: ScoringModel, usecase: UseCase, features: NDArray[np.float32], y: NDArray[np.int8]
) -> ScoringModel:
    return complete_model(usecase, model.booster, FeaturePlan.of(usecase), features, y, model.metadata.seed)


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
