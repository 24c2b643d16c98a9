"""The product's own log with the labels known at a time: what retraining learns from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import NoData, SchemaProblem, SourceUnavailable
from flows.sources.labels import NO_IDS, blocked_events, final_labels, weighted_labels
from flows.sources.table import STEP, TableSource
from monitoring.core.calendar import TimeWindow
from monitoring.errors import StoreError, StoreUnavailable
from monitoring.store.predictions.labels import resolve_labels

if TYPE_CHECKING:
    from monitoring.store import Store


class LogSource(TableSource):
    """Logged events of all origins with the statements about them.

    The strongest label source wins; an event about which that source says both 0 and 1 has no label
    (it is not counted as absent either), nor has one that was blocked and that no source labelled.
    Where the use case blocks what it flags, labels carry the weight of their event.
    ``row`` in the quarantine counts the fetched rows from 0.
    """

    kind = "log"
    knows_labels = True

    def __init__(self, usecase: UseCase, store: Store) -> None:
        super().__init__(usecase)
        self._store = store

    @property
    def origin(self) -> str:
        """What is read."""
        return f"log of {self.usecase.name}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """The logged bodies of the window."""
        columns = {c.name: c.type for c in self.usecase.columns}
        with _translate_store_errors(self.origin):
            table = self._store.log.events(self.usecase.name, window or self.extent(), columns)
        yield table

    def extent(self) -> TimeWindow:
        """See :class:`~flows.sources.base.EventSource`."""
        with _translate_store_errors(self.origin):
            span = self._store.log.span(self.usecase.name)
        if span is None:
            raise NoData(f"{self.origin}: it holds no events; import some with: incumbent windows load")
        return TimeWindow(span[1], span[2] + STEP)

    def labels(
        self, events: pd.DataFrame, observed: pd.DataFrame, as_of: datetime | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Final labels by rank, and every statement, about these events as known at ``as_of``."""
        policy = self.usecase.label
        with _translate_store_errors(self.origin):
            history = self._store.labels.history(self.usecase.name, as_of)
        ours = history["event_id"].isin(events[self.usecase.event_id]) & history["source"].isin(policy.sources)
        revisions = history[ours].reset_index(drop=True)
        by_event = resolve_labels(revisions, policy)
        excluded = set(by_event.loc[by_event["conflict"], "event_id"]) | self._blocked(events, as_of)
        final = final_labels(events, by_event[~by_event["conflict"]], self.usecase, as_of, excluded=excluded)
        return self._weighted(events, final, as_of), revisions

    def _blocked(self, events: pd.DataFrame, as_of: datetime | None) -> frozenset[str]:
        if events.empty:
            return NO_IDS
        with _translate_store_errors(self.origin):
            return blocked_events(self._store, self.usecase, self._span(events), as_of)

    def _weighted(self, events: pd.DataFrame, final: pd.DataFrame, as_of: datetime | None) -> pd.DataFrame:
        if events.empty or not self.usecase.intervention.blocks_flagged:
            return final
        with _translate_store_errors(self.origin):
            return weighted_labels(self._store, self.usecase, self._span(events), as_of, final)

    def _span(self, events: pd.DataFrame) -> TimeWindow:
        times = events[self.usecase.event_time]
        return TimeWindow(times.min().to_pydatetime(), times.max().to_pydatetime() + STEP)


@contextmanager
def _translate_store_errors(origin: str) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as exc:
        raise SourceUnavailable(f"{origin}: {exc}") from exc
    except StoreError as exc:
        raise SchemaProblem(f"{origin}: {exc}") from exc
