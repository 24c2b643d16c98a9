"""Who answers: one model version, or an external score, with the windows that feed it.

An :class:`ActiveModels` is replaced as a whole by assigning one reference, so every answer names exactly
one version, and a batch never sees half of a change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bentos.errors import EventError, IncumbentError, ModelCorrupt
from bentos.features.plan import FeaturePlan
from bentos.model.booster import Matrix, Predict
from bentos.model.scoring_model import ModelScores, ScoringModel
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import CHALLENGER, EXTERNAL, Router
from bentos.schema.event import Event
from bentos.usecase.definition import ExternalIncumbent
from bentos.windows.memory import WindowState


class ActiveModel(Protocol):
    """Whoever is champion: scores events, given the features of the union plan."""

    @property
    def ref(self) -> ModelRef:
        """What each answer names."""
        ...

    @property
    def alias(self) -> str:
        """The role that it answers under."""
        ...

    @property
    def threshold(self) -> float:
        """Calibrated scores at or above it are flagged; by amount, the least saving that is worth an alert."""
        ...

    @property
    def digest(self) -> str | None:
        """Contract digest, or none for an external score."""
        ...

    @property
    def plan(self) -> FeaturePlan:
        """Features it needs, or that are logged beside an external score."""
        ...

    def unscorable(self) -> IncumbentError:
        """What to tell about an event that got no score between 0 and 1."""
        ...

    def scores(self, events: Sequence[Event], features: Matrix, positions: NDArray[np.intp]) -> ModelScores:
        """One score for each event; ``features`` has the union's columns, ``positions`` picks its own."""
        ...


@dataclass(frozen=True, eq=False)
class ModelHolder:
    """A verified model version."""

    ref: ModelRef
    model: ScoringModel
    digest: str | None
    alias: str = "champion"

    @cached_property
    def threshold(self) -> float:
        """See :class:`ActiveModel`."""
        return float(self.model.threshold.value)

    @property
    def plan(self) -> FeaturePlan:
        """See :class:`ActiveModel`."""
        return self.model.plan

    @cached_property
    def predict(self) -> Predict:
        """The booster's quickest way from features to raw scores."""
        return self.model.booster.quick_predict(self.model.golden.features)

    def warm_up(self) -> None:
        """Prove the quick way and score golden rows, so that the first request pays for nothing."""
        for _ in range(3):
            self.predict(self.model.golden.features)
            self.predict(self.model.golden.features[:1])
        self.model.warm_up()

    def as_challenger(self) -> ModelHolder:
        """The same loaded version, answering under its role as challenger."""
        copy = replace(self, alias=CHALLENGER)
        copy.__dict__["predict"] = self.predict
        return copy

    def unscorable(self) -> IncumbentError:
        """See :class:`ActiveModel`."""
        return ModelCorrupt("the model gave no score between 0 and 1")

    def scores(self, events: Sequence[Event], features: Matrix, positions: NDArray[np.intp]) -> ModelScores:
        """See :class:`ActiveModel`."""
        # Taking columns gives Fortran order, which the predictor would have to copy again.
        own_features = np.ascontiguousarray(features[:, positions])
        raw = self.predict(own_features)
        return ModelScores(raw, self.model.calibrator.apply(raw), self.model.cuts(own_features))


@dataclass(frozen=True, eq=False)
class ExternalHolder:
    """A score column of the event, while no model of ours is champion."""

    incumbent: ExternalIncumbent
    plan: FeaturePlan
    alias: str = EXTERNAL
    digest: str | None = None

    @property
    def ref(self) -> ModelRef:
        """See :class:`ActiveModel`."""
        return ModelRef(self.incumbent.column, "0")

    def unscored_positions(self, events: Sequence[Event]) -> list[int]:
        """Places of events whose column holds no score from 0 to 1."""
        column = self.incumbent.column
        scores = [event.value(column) for event in events]
        return [at for at, score in enumerate(scores) if score is None or not 0.0 <= score <= 1.0]

    @property
    def threshold(self) -> float:
        """See :class:`ActiveModel`."""
        return self.incumbent.threshold

    def unscorable(self) -> IncumbentError:
        """See :class:`ActiveModel`."""
        return EventError(f"column {self.incumbent.column!r}: allowed is a score from 0 to 1")

    def scores(self, events: Sequence[Event], features: Matrix, positions: NDArray[np.intp]) -> ModelScores:
        """See :class:`ActiveModel`; raw and calibrated score are the column."""
        column_scores = np.array([event.value(self.incumbent.column) for event in events], dtype=np.float64)
        return ModelScores(column_scores.astype(np.float32), column_scores)


@dataclass(frozen=True, eq=False)
class ChallengerArm:
    """The other arm, while a routing policy is in effect.

    Attributes:
        router: says which arm an event is in.
        challenger: who answers the challenger's arms.
        positions: its columns in the union.
        seconds: how long it took for the latest batches, for the guard of a ramp.
    """

    router: Router
    challenger: ModelHolder
    positions: NDArray[np.intp]
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=2000))

    def same(self, other: ChallengerArm | None) -> bool:
        """Whether another one routes alike: by the same policy, to the same loaded version."""
        if other is None or other.challenger is not self.challenger:
            return False
        return other.router.policy == self.router.policy

    def p99_ms(self) -> float | None:
        """99th percentile of those times; none before the first."""
        durations = list(self.seconds)
        return float(np.quantile(durations, 0.99)) * 1e3 if durations else None


@dataclass(frozen=True, eq=False)
class ActiveModels:
    """What answers from one moment on.

    Attributes:
        holder: who answers.
        plan: union of the features of every model in a role: what is computed and logged.
        windows: the state that the features are read from.
        positions: the holder's columns in the union.
        since: machine time at which this holder became champion here.
        fork: the other arm; none while the holder answers all.
    """

    holder: ActiveModel
    plan: FeaturePlan
    windows: WindowState
    positions: NDArray[np.intp]
    since: datetime
    fork: ChallengerArm | None = None

    def unscorable(self, events: Sequence[Event]) -> Sequence[int]:
        """Places of events that will have no score, as far as the events themselves tell.

        They are refused before the windows hear of them: what is not logged must not be counted.
        """
        if not isinstance(self.holder, ExternalHolder) or not (positions := self.holder.unscored_positions(events)):
            return ()
        if self.fork is None:
            return positions
        router = self.fork.router
        arm_indices = router.places([events[at] for at in positions])
        return [at for at, arm_index in zip(positions, arm_indices, strict=True) if not router.is_challenger[arm_index]]

    @classmethod
    def of(
        cls,
        holder: ActiveModel,
        plan: FeaturePlan,
        windows: WindowState,
        since: datetime,
        fork: ChallengerArm | None = None,
    ) -> ActiveModels:
        """Seat a holder on a union plan that holds its features, and those of the fork's challenger."""
        positions = np.asarray(holder.plan.positions_in(plan), dtype=np.intp)
        if fork is not None:
            challenger_positions = np.asarray(fork.challenger.plan.positions_in(plan), dtype=np.intp)
            fork = replace(fork, positions=challenger_positions)
        return cls(holder, plan, windows, positions, since, fork)
