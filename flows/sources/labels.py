"""From label revisions to one final label an event, as known at a time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from flows.sources.base import ABSENT, LABEL_COLUMNS, SourceRead
from monitoring.core.calendar import TimeWindow
from monitoring.policies import LabelPolicy
from monitoring.stats.label_weights import WEIGHT, label_weights

if TYPE_CHECKING:
    from monitoring.store import Store


def known_at(labels: pd.DataFrame, as_of: datetime | None) -> pd.DataFrame:
    """The labels that were observed by ``as_of``; all of them for none."""
    if as_of is None:
        return labels
    return labels[labels["observed_at"] <= as_of].reset_index(drop=True)


def final_labels(
    events: pd.DataFrame,
    labels: pd.DataFrame,
    usecase: UseCase,
    as_of: datetime | None,
    excluded: Collection[str] = (),
) -> pd.DataFrame:
    """Known labels in the order of the events, completed by what a missing label means.

    Where the use case says ``absent_after_maturity = "negative"``, an event that is matured at
    ``as_of`` (every event, for none) and has no label gets y = 0, observed when it matured, from the
    source ``absent``.

    Args:
        events: an events frame.
        labels: at most one label an event, all known at ``as_of``.
        usecase: names the columns and says what absence means.
        as_of: business time; none means that all labels have arrived.
        excluded: ids whose labels contradict each other; they are unknown, not absent.
    """
    if len(labels) == len(events) and (labels["event_id"].to_numpy() == events[usecase.event_id].to_numpy()).all():
        return labels.loc[:, list(LABEL_COLUMNS)]  # nothing to complete: saves seconds on a million rows
    ids = pd.Index(events[usecase.event_id])
    position = pd.Index(labels["event_id"]).get_indexer(ids)
    matured_at = events[usecase.event_time] + usecase.label.matures_after
    absent = (position < 0) & (usecase.label.absent_after_maturity == "negative")
    if as_of is not None:
        absent &= (matured_at <= as_of).to_numpy()
    if excluded:
        absent &= ~ids.isin(list(excluded))
    absent_labels = pd.DataFrame(
        {
            "event_id": ids.to_numpy()[absent],
            "y": np.zeros(int(absent.sum()), np.int8),
            "observed_at": matured_at[absent].array,
            "source": np.full(int(absent.sum()), ABSENT, dtype=object),
        }
    )
    present = labels.iloc[position[position >= 0]].loc[:, list(LABEL_COLUMNS)]
    rows = (
        pd.concat([present, absent_labels])
        if len(present) and len(absent_labels)
        else absent_labels
        if len(absent_labels)
        else present
    )
    order = np.argsort(ids.get_indexer(pd.Index(rows["event_id"])), kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def as_table(dataset: SourceRead, usecase: UseCase) -> pd.DataFrame:
    """Events with their labels as one table in our own names, which every file source can read back.

    The label stands in its declared column, empty where it is unknown; ``label.observed_at`` is
    written where it is declared.
    """
    label = dataset.labels.set_index("event_id")
    ids = dataset.events[usecase.event_id]
    columns = {usecase.label.column: in_words(label["y"].reindex(ids), usecase.label).array}
    if usecase.label.observed_at is not None:
        columns[usecase.label.observed_at] = label["observed_at"].reindex(ids).array
    return dataset.events.assign(**columns)


def in_words(y: pd.Series[Any], policy: LabelPolicy) -> pd.Series[Any]:
    """Labels as tables of the use case hold them: its own words where it names one, else 0 and 1; missing ones stay."""
    if policy.positive is not None:
        return y.map({1: policy.positive, 0: f"not {policy.positive}"})
    return y.astype("Int8")  # keeps 0 and 1 whole beside missing ones


NO_IDS: frozenset[str] = frozenset()


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
        return NO_IDS
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
    actions = store.actions.asked(usecase.name, window)
    actions = actions[actions["event_id"].isin(labels["event_id"])]
    # What was done to a labelled event changes no weight: it counts where nothing was asked, and where a draw was
    # made the draw does.
    weight, _ = label_weights(
        actions["action"].tolist(), actions["propensity"], [None] * len(actions), np.ones(len(actions), dtype=bool)
    )
    weights = pd.Series(np.minimum(weight, usecase.intervention.max_weight), index=actions["event_id"].to_numpy())
    return labels.assign(**{WEIGHT: labels["event_id"].map(weights).fillna(1.0).to_numpy(dtype=np.float64)})
