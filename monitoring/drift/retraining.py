"""Whether to train again: reasons for it, and what holds it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring.core.durations import format_duration
from monitoring.core.measured import Measurement, StoredResult
from monitoring.policies import RetrainPolicy

MONTH = timedelta(days=30)


@dataclass(frozen=True)
class RetrainInputs:
    """What is known of the champion at one moment.

    Attributes:
        trained_until: end of the champion's training data (business time); ``None`` without a champion.
        new_rows: rows since then that have matured.
        drift_severe: whether severe drift holds in enough disjoint windows (``DriftAlarm.band``).
        score_moved: whether the score's distribution is part of what drifted.
        drifted: names of the features that drifted.
        recall_loss: recall of the reference period minus recall now, with its interval.
        retrainings: business times of earlier retrainings, any order.
        in_flight: whether a training runs, or a new model waits for its comparison.
    """

    trained_until: datetime | None
    new_rows: int = 0
    drift_severe: bool = False
    score_moved: bool = False
    drifted: tuple[str, ...] = ()
    recall_loss: Measurement | None = None
    retrainings: tuple[datetime, ...] = ()
    in_flight: bool = False


@dataclass(frozen=True)
class DriftDay:
    """What one drift check said.

    Attributes:
        as_of: business time of the check.
        band: of its alarm; ``None`` when there were too few rows to say.
        score_moved: whether the score was part of the alarm.
        features: names that drifted.
        size: the largest shift of its newest window, PSI above its null expectation.
    """

    as_of: datetime
    band: str | None
    score_moved: bool = False
    features: tuple[str, ...] = ()
    size: float = 0.0


@dataclass(frozen=True)
class StandingAlarm:
    """An alarm that was raised and has not cleared.

    Attributes:
        since: business time of the check that raised it.
        severe: whether it was severe at any check since.
        score_moved: whether a severe check had a moved score.
        features: names of the newest check that named any.
    """

    since: datetime
    severe: bool
    score_moved: bool
    features: tuple[str, ...]


def standing_alarm(days: Sequence[DriftDay], clear: float) -> StandingAlarm | None:
    """Raise at the alarm's own level, clear below a lower one (a Schmitt trigger).

    Without the gap an effect that moves about the trigger would raise and clear every few days. A check
    with too few rows neither raises nor clears.

    Args:
        days: drift checks against one reference, oldest first.
        clear: size below which a calm check ends the alarm.
    """
    alarm: StandingAlarm | None = None
    for day in days:
        if day.band in ("warning", "severe"):
            alarm = _extend_alarm(alarm, day)
        elif day.band is not None and day.size < clear:
            alarm = None
    return alarm


def _extend_alarm(alarm: StandingAlarm | None, day: DriftDay) -> StandingAlarm:
    severe = day.band == "severe"
    if alarm is None:
        return StandingAlarm(day.as_of, severe, severe and day.score_moved, day.features)
    score_moved = alarm.score_moved or (severe and day.score_moved)
    return StandingAlarm(alarm.since, alarm.severe or severe, score_moved, day.features or alarm.features)


@dataclass(frozen=True)
class RetrainDecision(StoredResult):
    """The answer, with every reason and every obstacle; "no" is stored as well.

    Attributes:
        retrain: reasons exist and nothing blocks.
        reasons: plain sentences for it.
        blocked_by: plain sentences against it, given only where there are reasons.
        notes: what was seen and is no reason by itself.
        as_of: business time.
    """

    retrain: bool
    reasons: tuple[str, ...]
    blocked_by: tuple[str, ...]
    notes: tuple[str, ...]
    as_of: datetime


def should_retrain(
    inputs: RetrainInputs, policy: RetrainPolicy, as_of: datetime, matures_after: timedelta = timedelta(0)
) -> RetrainDecision:
    """Decide on a retraining at ``as_of``.

    The cooldown is the longer of the policy's and ``matures_after``: training again before the labels
    of the first attempt are known would learn the same rows twice. Retrainings later than ``as_of``
    are ignored, so that a past day can be decided again.
    """
    reasons, notes = _reasons(inputs, policy, as_of), _notes(inputs, policy)
    obstacles = _obstacles(inputs, policy, as_of, matures_after) if reasons else ()
    return RetrainDecision(bool(reasons) and not obstacles, reasons, obstacles, notes, as_of)


def _reasons(inputs: RetrainInputs, policy: RetrainPolicy, as_of: datetime) -> tuple[str, ...]:
    reasons = []
    if inputs.trained_until is None:
        reasons.append("no champion is champion")
    elif as_of - inputs.trained_until >= policy.max_age:
        age = (as_of - inputs.trained_until).days
        reasons.append(f"the champion's training data are {age} days old (limit {format_duration(policy.max_age)})")
    if inputs.new_rows >= policy.max_new_rows:
        reasons.append(f"{inputs.new_rows} matured rows are new since its training data (limit {policy.max_new_rows})")
    if policy.on_drift and inputs.drift_severe and inputs.score_moved:
        reasons.append(f"severe drift with a moved score distribution ({', '.join(inputs.drifted) or 'score'})")
    if policy.on_performance and _is_recall_lost(inputs.recall_loss, policy.max_recall_loss):
        reasons.append(f"matured recall fell {_describe_loss(inputs.recall_loss)}, beyond {policy.max_recall_loss:.3f}")
    return tuple(reasons)


def _is_recall_lost(loss: Measurement | None, limit: float) -> bool:
    """Only an interval that lies beyond the tolerance counts; an unknown one never does."""
    return loss is not None and loss.low is not None and loss.low > limit


def _describe_loss(loss: Measurement | None) -> str:
    if loss is None or loss.value is None or loss.low is None or loss.high is None:
        return "by an unknown amount"
    return f"by {loss.value:.3f} (interval {loss.low:.3f} to {loss.high:.3f})"


def _notes(inputs: RetrainInputs, policy: RetrainPolicy) -> tuple[str, ...]:
    notes = []
    if inputs.drift_severe and not inputs.score_moved:
        notes.append("severe drift without a moved score distribution: investigate, do not retrain on it alone")
    loss, limit = inputs.recall_loss, policy.max_recall_loss
    if loss is not None and (loss.value or 0.0) > limit and not _is_recall_lost(loss, limit):
        notes.append("recall looks lower, but its interval still holds the tolerance")
    return tuple(notes)


def _obstacles(
    inputs: RetrainInputs, policy: RetrainPolicy, as_of: datetime, matures_after: timedelta
) -> tuple[str, ...]:
    past_retrainings = [t for t in inputs.retrainings if t <= as_of]
    obstacles = []
    if inputs.in_flight:
        obstacles.append("a training runs or a new model waits for its comparison")
    cooldown = max(policy.cooldown, matures_after)
    if past_retrainings and as_of - max(past_retrainings) < cooldown:
        obstacles.append(
            f"the last retraining was on {max(past_retrainings):%Y-%m-%d}, the cooldown is {format_duration(cooldown)}"
        )
    recent_count = sum(1 for t in past_retrainings if as_of - t < MONTH)
    if recent_count >= policy.max_per_month:
        obstacles.append(f"{recent_count} retrainings in the last 30 days (limit {policy.max_per_month})")
    return tuple(obstacles)
