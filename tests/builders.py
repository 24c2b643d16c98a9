"""Small builders of real things. Each takes what a test cares about and chooses the rest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from bentos.calibration import Calibrator, Threshold
from bentos.features import FeaturePlan
from bentos.model import ModelMetadata, ScoringModel, golden_rows
from bentos.schema import EventSchema
from bentos.usecase import UseCase, load_usecase
from monitoring.policies import DriftPolicy
from monitoring.profile import ReferenceProfile


@cache
def fraud() -> UseCase:
    """The fraud case as shipped."""
    return load_usecase("fraud")


def tiny_model(
    usecase: UseCase | None = None,
    *,
    seed: int = 1,
    trees: int = 5,
    threshold: float = 0.5,
    calibrator: Calibrator | None = None,
    features: Sequence[str] | None = None,
    version: str = "1.0.0",
) -> ScoringModel:
    """A real, trained and consistent model in about 20 ms; another ``seed`` gives other scores.

    It is trained on noise (the first feature decides the label), over the use case's plan.
    ``features`` keeps some of the use case's features only.
    """
    import xgboost

    usecase = usecase or fraud()
    if features is not None:
        kept = tuple(f for f in usecase.features if f.name in features)
        usecase = usecase.model_copy(update={"features": kept})
    plan = FeaturePlan.of(usecase)
    rng = np.random.default_rng(seed)
    rows = rng.gamma(2.0, 20.0, (400, len(plan.names))).astype(np.float32)
    y = (rows[:, 0] + rng.normal(0, 20, len(rows)) > 60).astype(np.int8)
    data = xgboost.DMatrix(rows, label=y, feature_names=list(plan.names), nthread=1)
    settings = {"objective": "binary:logistic", "max_depth": 2, "base_score": 0.5, "nthread": 1, "seed": seed}
    booster = xgboost.train(settings, data, num_boost_round=trees)
    calibrator = calibrator or Calibrator("platt", slope=1.2, intercept=-0.3)
    golden = golden_rows(booster, calibrator, rows)
    scores = calibrator.apply(np.asarray(booster.inplace_predict(rows, validate_features=False)))
    return ScoringModel(
        booster=booster,
        plan=plan,
        calibrator=calibrator,
        threshold=Threshold(threshold, threshold, threshold),
        profile=ReferenceProfile.fit(pd.DataFrame(rows, columns=list(plan.names)), scores, DriftPolicy(), labels=y),
        schema_fingerprint=EventSchema.of(usecase).fingerprint,
        golden=golden,
        metadata=ModelMetadata(usecase=usecase.name, semantic_version=version, rows=len(rows), seed=seed),
    )
