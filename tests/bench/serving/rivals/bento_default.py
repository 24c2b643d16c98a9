"""The bench's model as a BentoML service with the framework's defaults and a batchable list API.

``INCUMBENT_BENCH_MODEL`` names the booster's file.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
import numpy as np
from pydantic import BaseModel, create_model


def _feature_names() -> list[str]:
    import xgboost

    return list(xgboost.Booster(model_file=os.environ["INCUMBENT_BENCH_MODEL"]).feature_names or ())


NAMES = _feature_names()


class Named(BaseModel):
    """What every transaction has."""

    transaction_id: str
    tx_time: str


fields: dict[str, Any] = dict.fromkeys(NAMES, (float, ...))
Transaction = create_model("Transaction", __base__=Named, **fields)


class Answer(BaseModel):
    """What is answered."""

    event_id: str
    score: float
    decision: bool


@bentoml.service
class Scorer:
    """Scores lists of transactions in adaptive batches."""

    def __init__(self) -> None:
        import xgboost

        self.booster = xgboost.Booster(model_file=os.environ["INCUMBENT_BENCH_MODEL"])
        self.booster.set_param({"nthread": 1})

    @bentoml.api(batchable=True)
    def score(self, rows: list[Transaction]) -> list[Answer]:
        """Score a batch."""
        table = np.array([[getattr(row, name) for name in NAMES] for row in rows], dtype=np.float32)
        values = self.booster.inplace_predict(table).tolist()
        return [
            Answer(event_id=row.transaction_id, score=value, decision=value >= 0.5)
            for row, value in zip(rows, values, strict=True)
        ]
