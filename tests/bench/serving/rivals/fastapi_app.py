"""The bench's model behind a hand-written FastAPI application: pydantic in, ``inplace_predict``, pydantic out.

``INCUMBENT_BENCH_MODEL`` names the booster's file. The handler is a coroutine, which is quicker here
than a plain function in a thread pool.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xgboost
from fastapi import FastAPI
from pydantic import BaseModel, create_model

booster = xgboost.Booster(model_file=os.environ["INCUMBENT_BENCH_MODEL"])
booster.set_param({"nthread": 1})
names = list(booster.feature_names or ())


class Named(BaseModel):
    """What every transaction has."""

    transaction_id: str
    tx_time: str


fields: dict[str, Any] = dict.fromkeys(names, (float, ...))
Transaction = create_model("Transaction", __base__=Named, **fields)


class Answer(BaseModel):
    """What is answered."""

    event_id: str
    score: float
    decision: bool


app = FastAPI()


@app.post("/score")
async def score(transaction: Transaction) -> Answer:
    """Score one transaction."""
    row = np.array([[getattr(transaction, name) for name in names]], dtype=np.float32)
    value = float(booster.inplace_predict(row)[0])
    event_id: str = transaction.transaction_id
    return Answer(event_id=event_id, score=value, decision=value >= 0.5)
