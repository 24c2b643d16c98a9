"""Answer events in simulated time: what the service and its shadow would have logged, without a server.

Features come from the offline build, which gives the same bits as the service's windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.steps.data.import_history import cast_declared_types
from monitoring.store.database.frames import encode_bodies, to_us
from monitoring.store.database.records import PlanRecord, ScoreRecord, ShadowRecord

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version and its model."""

    ref: ModelRef
    model: ScoringModel


@dataclass(frozen=True, eq=False)
class EventBatch:
    """Events that arrive together.

    Attributes:
        events: an events frame.
        features: float32, one row an event, in the order of the answering model's plan.
        received: machine time of their arrival.
    """

    events: pd.DataFrame
    features: Features
    received: datetime


def log_answers(store: Store, usecase: UseCase, champion: LoadedVersion, batch: EventBatch) -> None:
    """Score events as the champion and log the answers."""
    ref, model = champion.ref, champion.model
    plan = PlanRecord(model.plan.fingerprint, model.plan.names)
    store.log.declare_plan(plan)
    scores, received_us = _score_batch(model, batch), to_us(batch.received)
    times = [to_us(moment) for moment in batch.events[usecase.event_time]]
    rows = zip(
        batch.events[usecase.event_id],
        times,
        encode_bodies(cast_declared_types(batch.events, usecase)),
        batch.features,
        *scores,
        strict=True,
    )
    store.log.append(
        [
            ScoreRecord(
                usecase.name, event_id, time, received_us, "live", body, plan.plan_id, row.astype("<f4").tobytes(),
                ref.name, ref.version, "champion", model.contract_digest, raw, score, threshold, flag,
            )
            for event_id, time, body, row, raw, score, threshold, flag in rows
        ]
    )  # fmt: skip


def log_shadow(store: Store, usecase: UseCase, challenger: LoadedVersion, batch: EventBatch) -> None:
    """Score the same events as the challenger in shadow, from the features that were logged."""
    ref, model = challenger.ref, challenger.model
    received_us = to_us(batch.received)
    rows = zip(batch.events[usecase.event_id], *_score_batch(model, batch), strict=True)
    store.shadow.append(
        [
            ShadowRecord(
                usecase.name, event_id, ref.name, ref.version, _ROLE, raw, score, threshold, flag, None, received_us
            )
            for event_id, raw, score, threshold, flag in rows
        ]
    )  # fmt: skip


_ROLE: Final = "challenger"


def _score_batch(model: ScoringModel, batch: EventBatch) -> tuple[list[float], list[float], list[float], list[bool]]:
    """Raw scores, calibrated scores, the threshold of each event and decisions."""
    scores = model.score(batch.features)
    thresholds = np.full(len(scores.calibrated), model.threshold.value) if scores.cuts is None else scores.cuts
    flags = model.decide(scores.calibrated, scores.cuts)
    return scores.raw.astype(np.float64).tolist(), scores.calibrated.tolist(), thresholds.tolist(), flags.tolist()
