"""Cleaning of whole tables. (Being written: signatures stand.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bentos.usecase import UseCase


@dataclass(frozen=True)
class TableRead:
    """A cleaned table.

    Attributes:
        events: the events frame, sorted by (event time, event id), fresh index from 0.
        quarantine: ``row``, ``event_id``, ``reason``, ``column``; one row for each refused row.
        rows: position in the table of each row of ``events``.
        out_of_order: rows whose time lies before that of the row above them, in the table's order.
    """

    events: pd.DataFrame
    quarantine: pd.DataFrame
    rows: np.ndarray
    out_of_order: int


def read_table(table: pd.DataFrame, usecase: UseCase) -> TableRead:
    """See :meth:`bentos.schema.EventSchema.read_table`."""
    raise NotImplementedError


def read_labelled(table: pd.DataFrame, usecase: UseCase) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """See :meth:`bentos.schema.EventSchema.read_labelled`."""
    raise NotImplementedError
