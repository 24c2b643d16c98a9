"""From a booster's raw score to a probability, and the cut at which a probability becomes an alert.

Calibrators and thresholds are fitted in ``flows.steps.fitting.calibrate`` and applied here, so that the
image needs numpy only. Both are plain numbers and travel as JSON.

The isotonic form joins the centres of the pooled blocks (Oron and Flournoy 2017) and rises strictly, so no ranking
figure changes by calibrating. With few days of data ``none`` is better than Platt: its two numbers move from one
retraining to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CalibratorKind = Literal["none", "platt", "isotonic"]
_EDGE = 1e-7  # scores are kept this far from 0 and 1, where the logit has no value


@dataclass(frozen=True)
class Calibrator:
    """A monotone map from raw score to probability.

    Attributes:
        kind: ``none`` passes the score; ``platt`` is sigmoid(slope * logit(score) + intercept)
            (Platt 1999); ``isotonic`` interpolates linearly between the centres of the pooled blocks
            (Oron and Flournoy 2017), constant outside them.
        slope, intercept: of ``platt``.
        knots_x, knots_y: of ``isotonic``, both ascending.
    """

    kind: CalibratorKind = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots_x: tuple[float, ...] = ()
    knots_y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "platt" and not self.slope > 0.0:
            raise ValueError(f"a Platt slope must be above 0, else the order of scores turns round: {self.slope}")
        if self.kind == "isotonic":
            _check_knots(self.knots_x, self.knots_y)

    def apply(self, raw: NDArray[Any]) -> Floats:
        """Probabilities as float64, same shape as ``raw`` (scores in 0..1)."""
        scores = np.asarray(raw, dtype=np.float64)
        if self.kind == "platt":
            return sigmoid(self.slope * logit(scores) + self.intercept)
        if self.kind == "isotonic":
            return np.interp(scores, self.knots_x, self.knots_y)
        return scores

    def to_json(self) -> dict[str, Any]:
        """A JSON object of the fields that the kind uses."""
        if self.kind == "platt":
            return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}
        if self.kind == "isotonic":
            return {"kind": self.kind, "knots_x": list(self.knots_x), "knots_y": list(self.knots_y)}
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_json`; raises ``ValueError`` for an unknown kind or bad knots."""
        if data.get("kind") not in ("none", "platt", "isotonic"):
            raise ValueError(f"unknown calibrator kind {data.get('kind')!r}; allowed: none, platt, isotonic")
        return cls(
            kind=data["kind"],
            slope=float(data.get("slope", 1.0)),
            intercept=float(data.get("intercept", 0.0)),
            knots_x=tuple(float(x) for x in data.get("knots_x", ())),
            knots_y=tuple(float(y) for y in data.get("knots_y", ())),
        )


@dataclass(frozen=True)
class Threshold:
    """The probability at or above which an event is an alert: one for all, or one that falls with the amount.

    By amount the threshold of an event is (c_FP + value) / (c_FP + amount), at most 1: flag where the money that an
    alert is expected to save, p amount - (1 - p) c_FP, is at least ``value``.

    Attributes:
        value: the cut in use: a probability, or by amount the least saving that is worth an alert.
        low, high: 95 % bootstrap interval of the cut.
        cost_optimal: the cut that cost alone would choose, before the capacity.
        alerts_per_day: the capacity the cut respects, or none.
        false_negative, false_positive: the costs it was chosen for (a number or a column's name).
        amount: the feature that holds the amount, or none for one threshold.
    """

    value: float
    low: float
    high: float
    cost_optimal: float | None = None
    alerts_per_day: int | None = None
    false_negative: float | str | None = None
    false_positive: float | None = None
    amount: str | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"a threshold lies inside its interval: {self.low} <= {self.value} <= {self.high}")

    def cuts(self, amounts: NDArray[Any]) -> Floats:
        """The threshold of each event, by its amount; below zero or missing counts as nothing to lose."""
        alarm = float(self.false_positive or 0.0)
        possible_loss = alarm + np.maximum(np.nan_to_num(np.asarray(amounts, dtype=np.float64)), 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            thresholds = (alarm + self.value) / possible_loss
        return np.where(possible_loss > 0.0, np.minimum(thresholds, 1.0), 1.0)

    def flags(self, probabilities: NDArray[Any], cuts: Floats | None = None) -> NDArray[np.bool_]:
        """Whether each probability is an alert; by amount the ``cuts`` of the same events are needed.

        Raises:
            ValueError: the threshold goes by the amount and no cuts are given.
        """
        if self.amount is not None and cuts is None:
            raise ValueError(f"this threshold goes by {self.amount!r}; pass the cuts of the events")
        return np.asarray(probabilities) >= (self.value if cuts is None else cuts)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields; without ``amount`` where there is one threshold, as older programs know it."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.amount is None:
            del data["amount"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_json`."""
        return cls(**data)


def logit(probabilities: Floats) -> Floats:
    """Log odds; scores are kept 1e-7 away from 0 and 1."""
    clipped = np.clip(probabilities, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    decay = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0.0, 1.0, decay) / (1.0 + decay))


def _check_knots(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    if len(x) != len(y) or not x:
        raise ValueError(f"isotonic knots come in pairs, at least one: {len(x)} x, {len(y)} y")
    if any(b <= a for a, b in pairwise(x)) or any(b < a for a, b in pairwise(y)):
        raise ValueError("isotonic knots must ascend")
    if y[0] < 0.0 or y[-1] > 1.0:
        raise ValueError("isotonic knots must be probabilities")
