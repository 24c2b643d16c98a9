"""Estimates where labels are missing by design: weights of an exploration, bounds where there is none.

Where flagged events are blocked they never earn a label, and any challenger "wins" on what is left. An
event that was let through by a draw of chance *p* stands for 1/*p* flagged events (Horvitz and Thompson
1952), so totals are right again. Where no draw was made nothing of the kind is known: then every check is
made twice, with the missing labels as bad and as good for the challenger as they can be (Manski 1990), and
decides only where both agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


NOT_IDENTIFIED = "NOT_IDENTIFIED"
WEIGHT = "weight"
"""Column that says how many events a row stands for; it is missing where every row stands for itself."""


def label_weights(
    action: Iterable[str | None], propensity: ArrayLike, really: Iterable[str | None], labelled: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """How many events each row stands for, and how many are missing with it: (weight, unseen).

    Blocked, and a draw could have let it through: others stand for it (0, 0). Blocked without a draw, or by
    somebody else than the model: nobody stands for it (0, 1), unless some source labelled it. Released by
    somebody else than the draw: its own label counts where there is no draw, else those of the draw do,
    because whom people release is no matter of chance.

    Args:
        action: what the answer asked for; none where no intervention was declared.
        propensity: chance of having been let through; NaN is 1.
        really: what was reported to have been done; none where nothing was.
        labelled: whether a label is known.
    """
    import numpy as np
    import pandas as pd

    requested_action, actual_action = np.array(list(action), dtype=object), np.array(list(really), dtype=object)
    p = np.nan_to_num(np.asarray(propensity, dtype=float), nan=1.0)
    has_label = np.asarray(labelled, dtype=bool)
    flagged = requested_action == "block"
    is_blocked = np.where(pd.isna(actual_action), flagged, actual_action == "block")
    represented_events = np.where(requested_action == "explore", 1.0 / np.where(p > 0.0, p, 1.0), 1.0)
    represented = flagged & (p > 0.0)
    weight = np.where(represented | (is_blocked & ~has_label), 0.0, represented_events)
    unseen = np.where(~represented & is_blocked & ~has_label, represented_events, 0.0)
    return weight, unseen


def effective_counts(hit: ArrayLike, weight: ArrayLike) -> tuple[float, float]:
    """Hits and trials of a plain sample that would tell the weighted share of hits as exactly: (k, n), not whole.

    k/n is the weighted share. n is the share's binomial variance over its linearised one (Korn and Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts"), and at most Kish's
    (sum w)^2 / sum w^2 (1965), which alone would not see that the flagged ones carry the large weights. Equal weights
    give the counts themselves.

    Args:
        hit: true or false for each row.
        weight: how many events each row stands for, 0 or more.
    """
    import numpy as np

    hits, weights = np.asarray(hit, dtype=float), np.asarray(weight, dtype=float)
    total = float(weights.sum())
    if total <= 0.0:
        return 0.0, 0.0
    share = float(weights @ hits) / total
    n = total * total / float(weights @ weights)
    spread = float(np.square(weights * (hits - share)).sum()) / (total * total)
    if spread > 0.0:
        n = min(n, share * (1.0 - share) / spread)
    n = round(n, 9)  # a hundred equal weights are a hundred rows, whatever the last bit says
    return share * n, n
