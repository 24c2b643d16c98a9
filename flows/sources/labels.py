"""From label revisions to one final label an event, as known at a time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from flows.sources.base import ABSENT, LABEL_COLUMNS, SourceRead
from monitoring.policies import LabelPolicy


def known_at(labels: pd.DataFrame, as_of: datetime | None) -> pd.DataFrame:
    """The labels that were observed by ``as_of``; all of them for none."""
    if as_of is None:
        return labels
    return labels[labels["observed_at"] <= as_of].reset_index(drop=True)


def final_labels(
    events: pd.DataFrame,
    known: pd.DataFrame,
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
        known: at most one label an event, all known at ``as_of``.
        usecase: names the columns and says what absence means.
        as_of: business time; none means that all labels have arrived.
        excluded: ids whose labels contradict each other; they are unknown, not absent.
    """
    if len(known) == len(events) and (known["event_id"].to_numpy() == events[usecase.event_id].to_numpy()).all():
        return known.loc[:, list(LABEL_COLUMNS)]  # nothing to complete: saves seconds on a million rows
    ids = pd.Index(events[usecase.event_id])
    position = pd.Index(known["event_id"]).get_indexer(ids)
    matured_at = events[usecase.event_time] + usecase.label.matures_after
    absent = (position < 0) & (usecase.label.absent_after_maturity == "negative")
    if as_of is not None:
        absent &= (matured_at <= as_of).to_numpy()
    if excluded:
        absent &= ~ids.isin(list(excluded))
    filled = pd.DataFrame(
        {
            "event_id": ids.to_numpy()[absent],
            "y": np.zeros(int(absent.sum()), np.int8),
            "observed_at": matured_at[absent].array,
            "source": np.full(int(absent.sum()), ABSENT, dtype=object),
        }
    )
    found = known.iloc[position[position >= 0]].loc[:, list(LABEL_COLUMNS)]
    both = pd.concat([found, filled]) if len(found) and len(filled) else filled if len(filled) else found
    order = np.argsort(ids.get_indexer(pd.Index(both["event_id"])), kind="stable")
    return both.iloc[order].reset_index(drop=True)


def as_table(read: SourceRead, usecase: UseCase) -> pd.DataFrame:
    """Events with their labels as one table in our own names, which every file source can read back.

    The label stands in its declared column, empty where it is unknown; ``label.observed_at`` is
    written where it is declared.
    """
    label = read.labels.set_index("event_id")
    ids = read.events[usecase.event_id]
    columns = {usecase.label.column: in_words(label["y"].reindex(ids), usecase.label).array}
    if usecase.label.observed_at is not None:
        columns[usecase.label.observed_at] = label["observed_at"].reindex(ids).array
    return read.events.assign(**columns)


def in_words(y: pd.Series[Any], policy: LabelPolicy) -> pd.Series[Any]:
    """Labels as tables of the use case hold them: its own words where it names one, else 0 and 1; missing ones stay."""
    if policy.positive is not None:
        return y.map({1: policy.positive, 0: f"not {policy.positive}"})
    return y.astype("Int8")  # keeps 0 and 1 whole beside missing ones
