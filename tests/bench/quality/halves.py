"""A file in two halves: the first is history, the second is lived through day by day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.sources.base import EventSource, SourceRead
from flows.steps.data.folds import TrainingHistory
from flows.steps.data.split import split_at
from monitoring.stats.ranking import auc_roc

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel

_DAY: Final = timedelta(days=1)
Floats = NDArray[np.float64]
Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stream:
    """A file in two halves.

    Attributes:
        usecase: everything that is policy.
        read: every event and label of the file.
        starts: first instant of each business day of the second half, and the end of the last one.
    """

    usecase: UseCase
    read: SourceRead
    starts: tuple[datetime, ...]

    @classmethod
    def of(cls, usecase: UseCase, source: EventSource) -> Stream:
        """Read a source and cut it at the business day in its middle.

        Raises:
            SourceError: the source cannot be read.
            FlowRefused: it has no time, or fewer than two days.
        """
        if usecase.untimed:
            raise FlowRefused(f"{usecase.name} has no time; a stream needs one")
        window, calendar = source.extent(), usecase.calendar
        read = source.read(window)
        first, last = calendar.day_of(window.start), calendar.day_of(window.end - timedelta(microseconds=1))
        days = [first + n * _DAY for n in range((last - first).days + 1)]
        if len(days) < 2:
            raise FlowRefused(f"{source.origin}: it holds {len(days)} day; a stream needs two halves of some weeks")
        live = days[len(days) // 2 :]
        return cls(usecase, read, tuple(calendar.start_of(day) for day in (*live, live[-1] + _DAY)))

    @property
    def half(self) -> datetime:
        """Start of the second half."""
        return self.starts[0]

    @property
    def days(self) -> int:
        """Business days of the second half."""
        return len(self.starts) - 1

    def known(self, as_of: datetime, usecase: UseCase) -> TrainingHistory:
        """What a training at ``as_of`` with these folds can see."""
        read, time = self.read, self.usecase.event_time
        start = split_at(usecase, as_of).train.start - usecase.longest_window
        events = read.events[(read.events[time] >= start) & (read.events[time] < as_of)]
        return TrainingHistory.at(usecase, events, read.labels, read.revisions, as_of)

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """For each start, the position of its first event."""
        times = self.read.events[self.usecase.event_time]
        return np.asarray(times.searchsorted(pd.DatetimeIndex(self.starts)), dtype=np.intp)

    @cached_property
    def truth(self) -> Floats:
        """Labels of all events, NaN where there is none."""
        known = self.read.labels.set_index("event_id")["y"]
        return np.asarray(known.reindex(self.read.events[self.usecase.event_id]), dtype=np.float64)

    @cached_property
    def _built(self) -> dict[str, Features]:
        return {}

    def features(self, model: ScoringModel) -> Features:
        """Features of all events for one model, each as of its own time: what the service would have logged."""
        if model.plan.fingerprint not in self._built:
            built = model.plan.build(self.read.events, self.read.revisions, self.starts[-1])
            self._built[model.plan.fingerprint] = np.ascontiguousarray(built.to_numpy(dtype=np.float32))
        return self._built[model.plan.fingerprint]

    def auc(self, scores: Floats) -> float:
        """AUC over the second half; ``scores`` are of all events.

        Raises:
            FlowRefused: it holds one class only.
        """
        live = slice(int(self.places[0]), int(self.places[-1]))
        y, said = self.truth[live], scores[live]
        found = auc_roc(y[~np.isnan(y)], said[~np.isnan(y)])
        if found is None:
            raise FlowRefused("the second half holds one class only")
        return found
