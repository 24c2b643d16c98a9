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
from bentos.model.scoring_model import Scores
from bentos.schema.event import Event
from bentos.scoring.active_models import Fork, Holder, Office
from monitoring.metrics import serving as metrics


@dataclass(frozen=True)
class Share:
    """The part of a batch that one holder answers.

    Attributes:
        holder: who answers.
        rows: places of its events in the batch, ascending.
        scores: one for each of them; calibrated ones may be no number, which is an error of the event.
    """

    holder: Holder
    rows: Sequence[int]
    scores: Scores


def shares(office: Office, fork: Fork, events: Sequence[Event], features: Matrix) -> tuple[list[Share], list[str]]:
    """Who answers what, and the arm of every event, in the order of the batch."""
    router = fork.router
    places = router.places(events)
    ours = [row for row, place in enumerate(places) if not router.is_challenger[place]]
    theirs = [row for row, place in enumerate(places) if router.is_challenger[place]]
    found = []
    if theirs:
        share, failed = _challenger(fork, events, features, theirs)
        if share is not None:
            found.append(share)
        # In the order of the batch, whoever they were meant for.
        ours = sorted(ours + failed) if failed else ours
    if ours:
        scores = office.holder.scores([events[row] for row in ours], features[ours], office.positions)
        found.append(Share(office.holder, ours, scores))
    return found, [router.names[place] for place in places]


def _challenger(
    fork: Fork, events: Sequence[Event], features: Matrix, rows: list[int]
) -> tuple[Share | None, list[int]]:
    """What the challenger says about its events, and the places at which it failed."""
    started = time.perf_counter()
    holder = fork.challenger
    try:
        scores = holder.scores([events[row] for row in rows], features[rows], fork.positions)
        if len(scores.calibrated) != len(rows):
            raise ValueError("another number of scores than events")
        good = (scores.calibrated >= 0.0) & (scores.calibrated <= 1.0)  # NaN is neither
    except Exception:  # a model may raise anything; the champion answers
        metrics.ARM_FALLBACKS.labels(holder.ref.version, "raised").inc(len(rows))
        return None, rows
    finally:
        fork.seconds.append(time.perf_counter() - started)
    if good.all():
        return Share(holder, rows, scores), []
    kept = np.flatnonzero(good)
    failed = [rows[i] for i in np.flatnonzero(~good)]
    metrics.ARM_FALLBACKS.labels(holder.ref.version, "not_a_probability").inc(len(failed))
    if not len(kept):
        return None, failed
    return Share(holder, [rows[i] for i in kept], scores.only(kept)), failed
