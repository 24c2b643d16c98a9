"""Events whose silence says nothing: they were blocked, so nobody will ever learn what they were.

Those that a draw let through stand for them in a training, as they do in a comparison.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from monitoring.core.calendar import TimeWindow
from monitoring.stats.label_weights import WEIGHT, label_weights

if TYPE_CHECKING:
    from monitoring.store import Store

NOTHING: frozenset[str] = frozenset()


def blocked_events(store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime | None) -> frozenset[str]:
    """Ids of the events of a window that were blocked; empty where the use case blocks nothing.

    Where absence of a label means negative it does not for these: without a label they are unknown.

    Args:
        store: the log.
        usecase: says whether flagged events are blocked.
        window: span of event time.
        as_of: business time; reports of actions taken later are not looked at. None looks at all.
    """
    if not usecase.intervention.blocks_flagged:
        return NOTHING
    return store.actions.blocked(usecase.name, as_of, window)


def weighted_labels(
    store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime | None, labels: pd.DataFrame
) -> pd.DataFrame:
    """The labels with ``weight``: how many events each stands for
    (:func:`monitoring.stats.label_weights.label_weights`).

    An explored event stands for 1/propensity flagged ones, at most ``[intervention] max_weight``: a bound on how much
    one rare draw may say, at the price of a share below 1/max_weight counting for less than it was. A labelled event
    that was blocked or released by somebody else than the draw stands for nothing (0) where a draw stands for it.

    Args:
        store: the log.
        usecase: says whether flagged events are blocked, and the cap.
        window: span of event time that holds every labelled event.
        as_of: business time; reports of actions taken later are not looked at. None looks at all.
        labels: one final label an event.
    """
    asked = store.actions.asked(usecase.name, window)
    asked = asked[asked["event_id"].isin(labels["event_id"])]
    # What was done to a labelled event changes no weight: it counts where nothing was asked, and where a draw was
    # made the draw does.
    weight, _ = label_weights(
        asked["action"].tolist(), asked["propensity"], [None] * len(asked), np.ones(len(asked), dtype=bool)
    )
    capped = pd.Series(np.minimum(weight, usecase.intervention.max_weight), index=asked["event_id"].to_numpy())
    return labels.assign(**{WEIGHT: labels["event_id"].map(capped).fillna(1.0).to_numpy(dtype=np.float64)})
