"""The daily series of a comparison: one matured business day of both models, and the day as it was frozen.

A day is frozen the first time it is judged. Labels that come later are counted beside it
(:class:`LateLabels`) and never change it, because the anytime-valid test holds for a history that
nobody rewrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from monitoring.core.measured import StoredResult

if TYPE_CHECKING:
    import pandas as pd

Number = int | float
"""A count; a sum of weights where rows stand for others."""


@dataclass(frozen=True)
class Unseen(StoredResult):
    """Blocked events of a day whose labels nobody will learn.

    Attributes:
        a, b, both: how many only the champion, only the challenger, both flagged.
        missed_a, missed_b: what the first two would have cost as missed positives.
    """

    a: Number
    b: Number
    both: Number
    missed_a: float
    missed_b: float

    @property
    def total(self) -> Number:
        """All of them."""
        return self.a + self.b + self.both


@dataclass(frozen=True)
class PairedDay(StoredResult):
    """One matured business day. ``a`` is the champion, ``b`` the challenger; costs in the policy's currency.

    Where flagged events are blocked, rows are weighted (:mod:`monitoring.stats.label_weights`): ``seen`` then counts
    the positives whose label is really known, and ``unseen`` what has no label and nobody to stand for it.
    """

    day: date
    rows: Number
    positives: Number
    tp_a: Number
    tp_b: Number
    fp_a: Number
    fp_b: Number
    cost_a: float
    cost_b: float
    seen: int | None = None
    unseen: Unseen | None = None

    @property
    def saving(self) -> float:
        """Money that the challenger would have saved that day."""
        return self.cost_a - self.cost_b


@dataclass(frozen=True)
class FrozenDay:
    """A day as it was judged first.

    Attributes:
        day: its totals.
        as_of: business time at which it was frozen; labels observed later are not in it.
        digest: SHA-256 of its canonical JSON.
    """

    day: PairedDay
    as_of: datetime
    digest: str


@dataclass(frozen=True)
class LateLabels:
    """What became known of frozen days after they were frozen. No decision reads it.

    Attributes:
        labels: events of frozen days whose label was observed after the day was frozen.
        positives: those of them that are positive now.
        rows: rows that frozen days would hold more (or fewer) today.
    """

    labels: int = 0
    positives: int = 0
    rows: int = 0


def count_late_labels(paired: pd.DataFrame, frozen: Sequence[FrozenDay]) -> LateLabels:
    """Compare today's rows with the frozen days.

    Args:
        paired: rows as known now: ``day``, ``y`` and ``observed_at`` (NaT where no label came).
        frozen: the frozen days.
    """
    import pandas as pd

    if not frozen:
        return LateLabels()
    frozen_at = {pd.Timestamp(frozen_day.day.day): pd.Timestamp(frozen_day.as_of) for frozen_day in frozen}
    limit = pd.to_datetime(paired["day"].map(frozen_at), utc=True)
    is_frozen = limit.notna()
    is_late = is_frozen & (paired["observed_at"] > limit)
    represented_rows = paired["weight"][is_frozen].sum() if "weight" in paired else is_frozen.sum()
    added_rows = round(float(represented_rows - sum(frozen_day.day.rows for frozen_day in frozen)))
    return LateLabels(int(is_late.sum()), int((is_late & (paired["y"] == 1)).sum()), added_rows)
