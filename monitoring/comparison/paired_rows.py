"""The rows of a comparison as arrays, and the sums that everything else is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from monitoring.performance.cost import Prices, merit_of

_KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all": lambda kind: kind >= 0,
    "y": lambda kind: kind & 1 == 1,
    "miss": lambda kind: kind & 1 == 0,
    "flag_a": lambda kind: kind & 2 == 2,
    "flag_b": lambda kind: kind & 4 == 4,
    "hit_a": lambda kind: kind & 3 == 3,
    "hit_b": lambda kind: kind & 5 == 5,
    "alarm_a": lambda kind: kind & 3 == 2,
    "alarm_b": lambda kind: kind & 5 == 4,
    "hit_matched_a": lambda kind: kind & 9 == 9,
    "hit_matched_b": lambda kind: kind & 17 == 17,
}
"""Figures that are counts of rows of some kinds: 1 positive, 2 flagged by a, 4 by b, 8 and 16 at equal alerts."""
_ALL_KINDS = np.arange(32)


@dataclass(frozen=True)
class PairedRows:
    """The rows of a comparison as arrays, and the sums that everything is made of.

    ``kind`` numbers what each row is (positive, flagged by whom), so that one count of each kind and day
    gives every daily figure.
    """

    y: np.ndarray
    kind: np.ndarray
    score_a: np.ndarray
    score_b: np.ndarray
    cost_a: np.ndarray
    cost_b: np.ndarray
    day: np.ndarray
    days: np.ndarray
    entity: np.ndarray | None
    entities: np.ndarray | None
    weight: np.ndarray | None = None
    unseen: np.ndarray | None = None
    missed: np.ndarray | None = None
    merit_a: np.ndarray | None = None
    merit_b: np.ndarray | None = None

    @classmethod
    def of(cls, paired: pd.DataFrame, prices: Prices, entity: str | None) -> PairedRows:
        """Read the columns once."""
        y = paired["y"].to_numpy() == 1
        flags = [paired[f"flag_{side}"].to_numpy(dtype=bool) for side in "ab"]
        scores = [paired[f"score_{side}"].to_numpy(dtype=float) for side in "ab"]
        day, days = pd.factorize(paired["day"], sort=True)
        code, names = pd.factorize(paired[entity]) if entity is not None else (None, None)
        kind = y + flags[0] * np.uint8(2) + flags[1] * np.uint8(4)
        costs = [prices.of_rows(y, flag) for flag in flags]
        return cls(
            y, kind, scores[0], scores[1], costs[0], costs[1],
            day, np.asarray(days), code, None if names is None else np.asarray(names, dtype=object),
            *_selection(paired, prices), *(merit_of(paired, side, prices) for side in "ab"),
        )  # fmt: skip

    def matched(self, flags: tuple[np.ndarray, np.ndarray]) -> PairedRows:
        """The same rows with what each model flags at equal alerts."""
        return replace(self, kind=self.kind & 7 | flags[0] * np.uint8(8) | flags[1] * np.uint8(16))

    @cached_property
    def kinds_by_day(self) -> np.ndarray:
        """Rows of each kind on each day: days x 32."""
        cells = np.bincount(self.day * 32 + self.kind, weights=self.weight, minlength=len(self.days) * 32)
        return cells.reshape(len(self.days), 32)

    def daily(self, name: str) -> np.ndarray:
        """Daily counts of one figure of ``_KINDS``."""
        return np.asarray(self.kinds_by_day[:, _KINDS[name](_ALL_KINDS)].sum(axis=1))

    def of_entities(self, name: str) -> np.ndarray:
        """The same counts for each entity."""
        return self.by_entity(_KINDS[name](_ALL_KINDS)[self.kind])

    def total(self, *kinds: int) -> int:
        """Rows whose three lowest bits are one of these."""
        return int(sum(self.kinds_by_day[:, kind == (_ALL_KINDS & 7)].sum() for kind in kinds))

    def by_day(self, values: np.ndarray) -> np.ndarray:
        """Daily totals."""
        weighted_values = values if self.weight is None else values * self.weight
        return np.bincount(self.day, weights=weighted_values, minlength=len(self.days))

    def by_entity(self, values: np.ndarray) -> np.ndarray:
        """Totals of each entity; empty without an entity column."""
        if self.entity is None or self.entities is None:
            return np.empty(0)
        return np.bincount(self.entity, weights=values, minlength=len(self.entities))


def _selection(paired: pd.DataFrame, prices: Prices) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """How many events each row stands for, how many are unseen with it, and what missing it costs."""
    if "weight" not in paired:
        return None, None, None
    missed_cost = np.where(np.isnan(prices.per_row(len(paired))), 0.0, prices.per_row(len(paired)))
    return paired["weight"].to_numpy(dtype=float), paired["unseen"].to_numpy(dtype=float), missed_cost
