"""Two parts of a model's ``contract.json``: rows with known answers, and where the model comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from bentos.model.booster import Booster, Matrix
from bentos.model.calibration import Calibrator, Floats


@dataclass(frozen=True, eq=False)
class GoldenRows:
    """Rows with known answers: float32 ``features`` (n x columns), ``raw`` and ``calibrated`` scores."""

    features: Matrix
    raw: Matrix
    calibrated: Floats

    def to_json(self) -> dict[str, Any]:
        """A JSON object; a missing value is null."""
        rows = [[None if math.isnan(v) else v for v in row] for row in self.features.tolist()]
        return {"features": rows, "raw": self.raw.tolist(), "calibrated": self.calibrated.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_json`."""
        rows = [[math.nan if v is None else v for v in row] for row in data["features"]]
        return cls(
            features=np.array(rows, dtype=np.float32),
            raw=np.array(data["raw"], dtype=np.float32),
            calibrated=np.array(data["calibrated"], dtype=np.float64),
        )


@dataclass(frozen=True)
class ModelMetadata:
    """Where a model comes from.

    Attributes:
        usecase: name of the use case.
        semantic_version: ``major.minor.patch``: input schema, features or parameters, retraining.
        training_start, training_end: event times of the fitted rows, ISO 8601 UTC, end excluded.
        calibration_start, calibration_end: the same of the calibration fold.
        data_digest: SHA-256 of the snapshot that holds all rows read.
        rows, positives: fitted rows and the positives among them.
        as_of: business time at which the training ran, ISO 8601 UTC.
        seed: seed of everything random.
        parameters: settings of the booster.
        parent: label of the champion at that time (``dev-fraud/3``), or none.
        twin_digest: SHA-256 of the evaluated twin's booster, when this model is the refit.
        extra: anything else, JSON.
    """

    usecase: str
    semantic_version: str = "1.0.0"
    training_start: str = ""
    training_end: str = ""
    calibration_start: str = ""
    calibration_end: str = ""
    data_digest: str = ""
    rows: int = 0
    positives: int = 0
    as_of: str = ""
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    twin_digest: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return data | {"parameters": dict(self.parameters), "extra": dict(self.extra)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_json`."""
        return cls(**data)


def golden_rows(booster: Booster, calibrator: Calibrator, features: Matrix, count: int = 16) -> GoldenRows:
    """Choose rows that spread over the score range and record their answers.

    Args:
        booster: the fitted booster.
        calibrator: the fitted calibrator.
        features: float32 rows to choose from, in plan order.
        count: how many rows; fewer when there are fewer.
    """
    raw = booster.predict(features)
    order = np.argsort(raw, kind="stable")
    indices = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]
    rows = np.ascontiguousarray(features[indices], dtype=np.float32)
    return GoldenRows(rows, raw[indices], calibrator.apply(raw[indices]))
