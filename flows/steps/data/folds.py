"""Features and labels side by side: what folds are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import UseCase
from flows.errors import EvaluationError
from monitoring.core.calendar import TimeWindow
from monitoring.performance.cost import Prices, prices_of
from monitoring.performance.profit import Offer, offer_of
from monitoring.policies import ProfitPolicy
from monitoring.stats.label_weights import WEIGHT

Features = NDArray[np.float32]
Labels = NDArray[np.int8]
GROUP = "group."
"""Prefix of the columns that hold the values of sensitive columns and slices."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Labelled rows of one time window, in the order of event time, then id.

    Attributes:
        name: for messages.
        window: event times of the rows.
        features: float32, one row an event, columns in plan order, C order.
        rows: ``event_id``, ``event_time``, ``day`` (business day), ``y`` (0 or 1); where flagged events are
            blocked ``weight`` (above 0: how many events a row stands for); where the use case declares them,
            ``cost`` (of missing the event), ``saved`` (what a customer who stays is worth), ``entity`` (of card
            precision), ``external`` (the score of an external incumbent) and ``group.<column>`` for each sensitive
            column or slice.
    """

    name: str
    window: TimeWindow
    features: Features
    rows: pd.DataFrame

    @property
    def y(self) -> Labels:
        """Labels 0 and 1."""
        return self.rows["y"].to_numpy(dtype=np.int8)

    @property
    def positives(self) -> int:
        """Rows with label 1."""
        return int(self.y.sum())

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """How many events each row stands for; none where each stands for itself."""
        return self.rows[WEIGHT].to_numpy(dtype=np.float64) if WEIGHT in self.rows else None

    def prices(self, usecase: UseCase) -> Prices:
        """What the two mistakes cost on each row."""
        if "cost" in self.rows:
            return Prices(self.rows["cost"].to_numpy(), usecase.cost.false_positive)
        return prices_of(usecase.cost)

    def offer(self, policy: ProfitPolicy) -> Offer:
        """What an offer costs and keeps on each row."""
        return offer_of(policy, self.rows["saved"].to_numpy() if "saved" in self.rows else None)

    @property
    def groups(self) -> pd.DataFrame:
        """Values of the sensitive columns and slices, named as the use case names them."""
        names = [name for name in map(str, self.rows) if name.startswith(GROUP)]
        return self.rows[names].rename(columns=lambda name: name.removeprefix(GROUP))

    def __len__(self) -> int:
        return len(self.rows)

    def between(self, name: str, window: TimeWindow) -> Fold:
        """The rows of a window inside this one."""
        times = self.rows["event_time"]
        inside = ((times >= window.start) & (times < window.end)).to_numpy()
        return Fold(name, window, self.features[inside], self.rows[inside].reset_index(drop=True))

    def halves(self) -> tuple[Fold, Fold]:
        """The first and the second half by time: cut at the business day that is nearest to the middle.

        Raises:
            EvaluationError: when all rows lie on one day.
        """
        days = np.sort(self.rows["day"].unique())
        if len(days) < 2:
            raise EvaluationError(f"the {self.name} fold has rows on one day only; it needs two days or more")
        in_first_half = (self.rows["day"] < days[(len(days) + 1) // 2]).to_numpy()
        middle = self.rows["event_time"][~in_first_half].min().to_pydatetime()
        return (
            self.between(f"{self.name}, first half", TimeWindow(self.window.start, middle)),
            self.between(f"{self.name}, second half", TimeWindow(middle, self.window.end)),
        )


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """What was known at a business time: events before it, labels observed by it.

    Attributes:
        events: an events frame; earlier rows fill the windows of later ones.
        labels: one final label an event; events without one are not used as rows.
        revisions: all ranked label revisions, for features that look at labels.
        as_of: the business time.
    """

    events: pd.DataFrame
    labels: pd.DataFrame
    revisions: pd.DataFrame
    as_of: datetime

    @classmethod
    def at(
        cls, usecase: UseCase, events: pd.DataFrame, labels: pd.DataFrame, revisions: pd.DataFrame, as_of: datetime
    ) -> TrainingHistory:
        """Leave out what came later, and revisions that only say that no label came."""
        source_revisions = revisions[revisions["source"].isin(usecase.label.sources)]
        return cls(
            events[events[usecase.event_time] < as_of],
            labels[labels["observed_at"] <= as_of],
            source_revisions[source_revisions["observed_at"] <= as_of],
            as_of,
        )


def build_fold(usecase: UseCase, plan: FeaturePlan, history: TrainingHistory, window: TimeWindow) -> Fold:
    """Every labelled row of ``window`` with its features as they were at its time."""
    past_events = history.events[history.events[usecase.event_time] < window.end]
    features = plan.build(past_events, history.revisions, history.as_of)
    rows = fold_rows(usecase, past_events, history.labels)
    in_fold = (usable_rows(rows) & (rows["event_time"] >= window.start)).to_numpy()
    rows = rows[in_fold].reset_index(drop=True).astype({"y": np.int8})
    matrix = np.ascontiguousarray(features.to_numpy(dtype=np.float32)[in_fold])
    return Fold("history", window, matrix, rows)


def usable_rows(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which of :func:`fold_rows` are labelled and stand for at least themselves."""
    has_label = rows["y"].notna()
    return has_label & (rows[WEIGHT] > 0.0) if WEIGHT in rows else has_label


def fold_rows(usecase: UseCase, events: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """What a fold knows of each event besides its features; ``y`` is missing where no label is known."""
    ids, times = events[usecase.event_id].array, events[usecase.event_time].reset_index(drop=True)
    labels_by_event = labels.set_index("event_id")
    rows = pd.DataFrame(
        {
            "event_id": ids,
            "event_time": times,
            "day": usecase.calendar.days_of(times),
            "y": labels_by_event["y"].reindex(ids).to_numpy(dtype=np.float64),
        }
    )
    if WEIGHT in labels_by_event:
        rows[WEIGHT] = labels_by_event[WEIGHT].reindex(ids).to_numpy(dtype=np.float64)
    if isinstance(usecase.cost.false_negative, str):
        rows["cost"] = events[usecase.cost.false_negative].to_numpy(dtype=np.float64)
    profit = usecase.gates.profit
    if profit is not None and isinstance(profit.saved_value, str):
        rows["saved"] = events[profit.saved_value].to_numpy(dtype=np.float64)
    if usecase.evaluation.entity is not None:
        rows["entity"] = events[usecase.evaluation.entity].to_numpy()
    if usecase.incumbent is not None:
        rows["external"] = events[usecase.incumbent.column].to_numpy(dtype=np.float64)
    for column in dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices)):
        rows[f"{GROUP}{column}"] = events[column].to_numpy()
    return rows
