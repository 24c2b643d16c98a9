"""The only feature code: one definition, executed over a whole frame or for one event.

(Being written: signatures stand.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from bentos.event import Event
from bentos.usecase import UseCase
from bentos.windows import WindowSpec, WindowState


class FeaturePlan:
    """Ordered feature definitions, complete in themselves: no use case is needed to execute them.

    Attributes:
        names: feature names, in the order of every vector and frame.
        fingerprint: SHA-256 of :meth:`to_json`.
        specs: the window specs that the plan needs; build a state with ``MemoryWindows(union.specs)``.
    """

    names: tuple[str, ...]
    fingerprint: str
    specs: tuple[WindowSpec, ...]

    @classmethod
    def of(cls, usecase: UseCase) -> FeaturePlan:
        """The plan that a use case declares."""
        raise NotImplementedError

    @classmethod
    def union(cls, plans: Iterable[FeaturePlan]) -> FeaturePlan:
        """Every feature of several plans once, in order; equal names with other definitions get a suffix."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FeaturePlan:
        """The reverse of :meth:`to_json`. Raises ``FeatureError`` for anything else."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        raise NotImplementedError

    def with_categories(self, events: pd.DataFrame) -> FeaturePlan:
        """A plan whose open category lists are those of a training frame (sorted); call it before ``build``."""
        raise NotImplementedError

    def build(self, events: pd.DataFrame, labels: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        """Features of every event, point in time; float32, index and row order of ``events``."""
        raise NotImplementedError

    def rows(self, events: Sequence[Event], state: WindowState) -> np.ndarray:
        """Features of a batch, each event in order reads and then adds; float32, C order, one row an event."""
        raise NotImplementedError

    def row(self, event: Event, state: WindowState) -> np.ndarray:
        """Features of one event (reads and adds); float32 of ``len(names)``, bit-equal to :meth:`build`."""
        raise NotImplementedError

    def positions_in(self, union: FeaturePlan) -> np.ndarray:
        """Where each of this plan's features stands in a union's vector."""
        raise NotImplementedError
