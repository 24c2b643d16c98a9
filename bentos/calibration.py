"""From a booster's raw score to a probability, and the cut at which a probability becomes an alert.

Calibrators and thresholds are fitted in ``flows.steps.calibrate`` and applied here, so that the
image needs numpy only. Both are plain numbers and travel as JSON.
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
    """The probability at or above which an event is an alert.

    Attributes:
        value: the cut in use.
        low, high: 95 % bootstrap interval of the cut.
        cost_optimal: the cut that cost alone would choose, before the capacity.
        alerts_per_day: the capacity the cut respects, or none.
        false_negative, false_positive: the costs it was chosen for (a number or a column's name).
    """

    value: float
    low: float
    high: float
    cost_optimal: float | None = None
    alerts_per_day: int | None = None
    false_negative: float | str | None = None
    false_positive: float | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"a threshold lies inside its interval: {self.low} <= {self.value} <= {self.high}")

    def flags(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each probability is an alert."""
        return np.asarray(probabilities) >= self.value

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_json`."""
        return cls(**data)


def logit(probabilities: Floats) -> Floats:
    """Log odds; scores are kept 1e-7 away from 0 and 1."""
    kept = np.clip(probabilities, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0.0, 1.0, small) / (1.0 + small))


def _check_knots(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    if len(x) != len(y) or not x:
        raise ValueError(f"isotonic knots come in pairs, at least one: {len(x)} x, {len(y)} y")
    if any(b <= a for a, b in pairwise(x)) or any(b < a for a, b in pairwise(y)):
        raise ValueError("isotonic knots must ascend")
    if y[0] < 0.0 or y[-1] > 1.0:
        raise ValueError("isotonic knots must be probabilities")
