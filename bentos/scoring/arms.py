"""Scores a batch whose events belong to different arms: each model predicts once, each event has one answer.

The challenger predicts first. An event at which it fails (an error, a NaN, a score outside 0..1) joins
the champion's rows, so a client never feels it; it is logged in its arm, under the champion's role.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bentos.model.booster import Matrix
from bentos.model.scoring_model import ModelScores
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModel, ActiveModels, ChallengerArm
from monitoring.metrics import serving as metrics


@dataclass(frozen=True)
class Share:
    """The part of a batch that one holder answers.

    Attributes:
        holder: who answers.
        rows: places of its events in the batch, ascending.
        scores: one for each of them; calibrated ones may be no number, which is an error of the event.
    """

    holder: ActiveModel
    rows: Sequence[int]
    scores: ModelScores


def shares(
    active_models: ActiveModels, fork: ChallengerArm, events: Sequence[Event], features: Matrix
) -> tuple[list[Share], list[str]]:
    """Who answers what, and the arm of every event, in the order of the batch."""
    router = fork.router
    arm_indices = router.places(events)
    champion_rows = [row for row, arm_index in enumerate(arm_indices) if not router.is_challenger[arm_index]]
    challenger_rows = [row for row, arm_index in enumerate(arm_indices) if router.is_challenger[arm_index]]
    parts = []
    if challenger_rows:
        share, failed_rows = _challenger_share(fork, events, features, challenger_rows)
        if share is not None:
            parts.append(share)
        # In the order of the batch, whoever they were meant for.
        champion_rows = sorted(champion_rows + failed_rows) if failed_rows else champion_rows
    if champion_rows:
        scores = active_models.holder.scores(
            [events[row] for row in champion_rows], features[champion_rows], active_models.positions
        )
        parts.append(Share(active_models.holder, champion_rows, scores))
    return parts, [router.names[arm_index] for arm_index in arm_indices]


def _challenger_share(
    fork: ChallengerArm, events: Sequence[Event], features: Matrix, rows: list[int]
) -> tuple[Share | None, list[int]]:
    """What the challenger says about its events, and the places at which it failed."""
    start = time.perf_counter()
    holder = fork.challenger
    try:
        scores = holder.scores([events[row] for row in rows], features[rows], fork.positions)
        if len(scores.calibrated) != len(rows):
            raise ValueError("another number of scores than events")
        is_valid = (scores.calibrated >= 0.0) & (scores.calibrated <= 1.0)  # NaN is neither
    except Exception:  # a model may raise anything; the champion answers
        metrics.ARM_FALLBACKS.labels(holder.ref.version, "raised").inc(len(rows))
        return None, rows
    finally:
        fork.seconds.append(time.perf_counter() - start)
    if is_valid.all():
        return Share(holder, rows, scores), []
    valid_positions = np.flatnonzero(is_valid)
    failed_rows = [rows[i] for i in np.flatnonzero(~is_valid)]
    metrics.ARM_FALLBACKS.labels(holder.ref.version, "not_a_probability").inc(len(failed_rows))
    if not len(valid_positions):
        return None, failed_rows
    return Share(holder, [rows[i] for i in valid_positions], scores.only(valid_positions)), failed_rows
