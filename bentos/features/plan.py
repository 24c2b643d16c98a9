"""The only feature code: one definition, executed over a whole frame or for one event.

``build`` and ``row`` give bit-equal float32 values: times and amounts are whole numbers in both, each
window is the same set of events, and the last step is the same float64 division, rounded once.

The ranking of label sources is part of a plan, because a label rate depends on it.

In a union of plans features that share a name but not a definition all get a suffix from their digest, so a bare name
never has two meanings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import FeatureError
from bentos.features.definitions import (
    ColumnDefinition,
    Definition,
    ExpressionDefinition,
    WindowDefinition,
    from_json,
    renamed,
    resolve,
    window_specs,
)
from bentos.features.frame_windows import exact_specs, frame_feature, spans_of, window_columns
from bentos.features.offline import label_ranks, microseconds_of
from bentos.features.online import Binding, inputs_of_frame
from bentos.schema.event import Event, EventColumns
from bentos.usecase.definition import UseCase
from bentos.windows.state import AnswerState, WindowInput, WindowSpec, WindowState
from monitoring.core.hashing import canonical_json, sha256_hex

_VERSION = 1


class FeaturePlan:
    """Ordered feature definitions, complete in themselves: no use case is needed to execute them.

    Attributes:
        definitions: what each feature is.
        names: feature names, in the order of every vector and frame.
        fingerprint: SHA-256 of :meth:`to_json`.
        specs: the window specs that the plan needs; build a state with ``MemoryWindows(union.specs)``.
        event_id: column that names an event.
        event_time: column with its time.
        sources: label sources, strongest first.
    """

    def __init__(
        self, definitions: Sequence[Definition], event_id: str, event_time: str, sources: Sequence[str]
    ) -> None:
        self.definitions = tuple(definitions)
        self.names = tuple(d.name for d in self.definitions)
        self.event_id = event_id
        self.event_time = event_time
        self.sources = tuple(sources)
        self.specs = tuple(dict.fromkeys(window_specs(self.definitions)))
        self.fingerprint = sha256_hex(canonical_json(self.to_json()))
        self._binding: Binding | None = None

    @classmethod
    def of(cls, usecase: UseCase) -> FeaturePlan:
        """The plan that a use case declares."""
        definitions = [resolve(f, usecase) for f in usecase.features]
        return cls(definitions, usecase.event_id, usecase.event_time, usecase.label.sources)

    @classmethod
    def union(cls, plans: Iterable[FeaturePlan]) -> FeaturePlan:
        """Every feature of several plans once, in order of first sight.

        Features that share a name but not their definition all get a suffix from its digest, so a bare
        name never has two meanings. Label sources are ranked as in the first plan.

        Raises:
            FeatureError: for no plan at all, or plans over other id or time columns.
        """
        all_plans = list(plans)
        if not all_plans:
            raise FeatureError("the union of no feature plans is undefined; give at least one plan")
        first = all_plans[0]
        if any((p.event_id, p.event_time) != (first.event_id, first.event_time) for p in all_plans):
            raise FeatureError("feature plans with other event_id or event_time columns cannot be served together")
        definition_by_identity = {_identity(d): d for p in all_plans for d in p.definitions}
        meanings = Counter(name for name, _ in definition_by_identity)
        definitions = [
            renamed(definition, name if meanings[name] == 1 else f"{name}__{digest[:8]}")
            for (name, digest), definition in definition_by_identity.items()
        ]
        return cls(definitions, first.event_id, first.event_time, first.sources)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FeaturePlan:
        """The reverse of :meth:`to_json`.

        Raises:
            FeatureError: for anything that :meth:`to_json` did not write.
        """
        if data.get("version") != _VERSION:
            raise FeatureError(f"feature plan of version {data.get('version')!r}; this code reads version {_VERSION}")
        try:
            plan = cls([from_json(d) for d in data["features"]], data["event_id"], data["event_time"], data["sources"])
        except (KeyError, TypeError) as exc:
            raise FeatureError(f"feature plan cannot be read: {type(exc).__name__}: {exc}") from exc
        return plan

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "version": _VERSION,
            "event_id": self.event_id,
            "event_time": self.event_time,
            "sources": list(self.sources),
            "features": [d.to_json() for d in self.definitions],
        }

    def with_categories(self, events: pd.DataFrame) -> FeaturePlan:
        """A plan whose open category lists are the sorted values of a training frame."""
        definitions = [_learn_categories(d, events) for d in self.definitions]
        return FeaturePlan(definitions, self.event_id, self.event_time, self.sources)

    def ranked(self, sources: Sequence[str]) -> FeaturePlan:
        """The same features over another ranking of label sources."""
        return FeaturePlan(self.definitions, self.event_id, self.event_time, sources)

    def build(self, events: pd.DataFrame, labels: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        """Features of every event, point in time.

        Args:
            events: an events frame with distinct ids, in any order; rows are context for each other.
            labels: a labels frame, with every revision; ids that are not in ``events`` are ignored.
            as_of: labels observed later are ignored.

        Returns:
            float32 columns in plan order, with the index and row order of ``events``.

        Raises:
            FeatureError: for repeated ids, unranked label sources or open category lists.
        """
        # Column by column in memory, as pandas keeps it: windows are written in another order than they are made.
        out = np.empty((len(self.names), len(events)), dtype=np.float32)
        times = microseconds_of(events[self.event_time])
        windows: dict[WindowSpec, Any] = dict.fromkeys(exact_specs(self))
        spans = spans_of(self, events, labels, as_of, self.event_id) if self.specs else None
        for entity in dict.fromkeys(spec.entity for spec in self.specs):
            for spec, order, values in window_columns(self, entity, events, spans):
                for at, definition in enumerate(self.definitions):
                    if isinstance(definition, WindowDefinition) and definition.spec == spec:
                        out[at, order] = values
                if spec in windows:
                    windows[spec] = np.empty(len(events), dtype=np.float64)
                    windows[spec][order] = values
        for at, definition in enumerate(self.definitions):
            if not isinstance(definition, WindowDefinition):
                out[at] = frame_feature(definition, events, times, windows)
        return pd.DataFrame(out.T, index=events.index, columns=list(self.names))

    def row(self, event: Event, state: WindowState) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Features of one event; it reads and is then added. float32 of ``len(names)``."""
        vector: np.ndarray[Any, np.dtype[np.float32]] = self.rows((event,), state)[0]
        return vector

    def rows(self, events: Sequence[Event], state: WindowState) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Features of a batch, one row an event; each event in order reads and is then added.

        Raises:
            FeatureError: the state lacks a window of this plan, or an event a column.
        """
        if not events:
            return np.empty((0, len(self.names)), dtype=np.float32)
        return self._bind(events[0].schema, state).rows(events)

    def known(self, events: Sequence[Event], state: WindowState) -> Sequence[AnswerState]:
        """What a state knows of each id before it is read; a shared one claims the ids that are unknown.

        Raises:
            WindowsUnavailable: the state is shared and cannot be reached.
        """
        if not state.shared:
            return [state.answered(event.event_id) for event in events]
        return state.claim(self.inputs(events, state))

    def inputs(self, events: Sequence[Event], state: WindowState) -> list[WindowInput]:
        """What a state needs of each event."""
        return [self._bind(event.schema, state).window_input(event) for event in events]

    def add(self, events: Iterable[Event], state: WindowState) -> int:
        """Add events to a state without reading (``POST /events``); says how many were new."""
        return state.add(self._bind(e.schema, state).window_input(e) for e in events)

    def load(self, state: WindowState, events: pd.DataFrame, labels: pd.DataFrame) -> int:
        """Fill a state from history: an events frame and its labels, with every revision.

        Returns:
            How many events were new to the state.

        Raises:
            FeatureError: for a label source that is not ranked.
        """
        ranks = label_ranks(labels, self.sources).tolist()
        observed = microseconds_of(labels["observed_at"]).tolist()
        # Labels first: they wait for their events, and an event too old to matter takes its own away.
        for event_id, y, moment, rank in zip(labels["event_id"], labels["y"].tolist(), observed, ranks, strict=True):
            state.label(event_id, y, moment, rank)
        ordered = events.sort_values(self.event_time, kind="stable")
        return state.add(inputs_of_frame(ordered, self.event_id, self.event_time, state))

    def positions_in(self, union: FeaturePlan) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Where each of this plan's features stands in a union's vector: ``vector[positions]`` is ours.

        Raises:
            FeatureError: the union lacks a feature of this plan.
        """
        union_positions = {_identity(d): at for at, d in enumerate(union.definitions)}
        positions = [union_positions.get(_identity(d)) for d in self.definitions]
        missing_names = [name for name, at in zip(self.names, positions, strict=True) if at is None]
        if missing_names:
            raise FeatureError(f"feature {missing_names[0]!r} is not part of the served union of plans")
        return np.array(positions, dtype=np.intp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeaturePlan) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"FeaturePlan({len(self.names)} features, {self.fingerprint[:12]})"

    def _bind(self, schema: EventColumns, state: WindowState) -> Binding:
        binding = self._binding
        if binding is None or binding.schema is not schema or binding.state is not state:
            binding = self._binding = Binding(self.definitions, schema, state)
        return binding


def _learn_categories(definition: Definition, events: pd.DataFrame) -> Definition:
    """The definition with its open category lists taken from a frame."""
    if isinstance(definition, ColumnDefinition) and definition.is_open:
        return replace(definition, categories=tuple(sorted(events[definition.column].dropna().unique())))
    if isinstance(definition, ExpressionDefinition):
        return replace(
            definition, operands=tuple(_learn_categories(operand, events) for operand in definition.operands)
        )
    return definition


def _identity(definition: Definition) -> tuple[str, str]:
    """Name and digest of a definition, without the suffix that a union may have given it."""
    return definition.name.removesuffix(f"__{definition.digest[:8]}"), definition.digest
