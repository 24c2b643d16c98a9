"""Cleaning and scoring of one chunk after another: what a run does with each, in one process or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bentos.errors import TableError
from bentos.features.offline import microseconds_of
from bentos.schema.event_schema import EventSchema
from bentos.schema.lookups import Lookups
from bentos.schema.table_cleaning import empty_labels
from bentos.settings import read_settings
from bentos.usecase.definition import UseCase
from bentos.windows.aggregates import needs_labels
from flows.errors import SchemaProblem
from flows.sources.parquet import frame_of, to_plain_types
from flows.steps.bulk.clean_rows import clear_rows
from flows.steps.bulk.input import Rows
from flows.steps.bulk.parts import QUARANTINE
from flows.workspace.clock import machine_now
from monitoring.store.database.frames import to_us

if TYPE_CHECKING:
    import pyarrow as pa

    from bentos.model.scoring_model import ScoringModel
    from bentos.registry.ports import ModelRef

UNORDERED = (
    "the rows to score are not in the order of their event times, which this model's windows need; "
    "sort the input by time"
)
_EMPTY_QUARANTINE = pd.DataFrame(columns=list(QUARANTINE))


class Worker:
    """Cleans and scores chunks in the order of the input.

    Attributes:
        witness: a good row of the first chunk, and its id; none until the first chunk was cleaned.
    """

    def __init__(self, usecase: UseCase, model: ScoringModel, ref: ModelRef, as_of: datetime, reasons: bool) -> None:
        self.usecase, self.model, self.ref, self.as_of, self.reasons = usecase, model, ref, as_of, reasons
        # A list may be scored as of a past day; what happened since is none of the future.
        self._latest = to_us(max(as_of, machine_now()) + read_settings().max_future)
        self._lenient = without_missing_limits(usecase)
        # One reading for all chunks: a table that changes during the run changes nothing in it.
        self._lookups = Lookups(usecase)
        self.witness: tuple[pd.DataFrame, str] | None = None
        self._carried: tuple[pd.DataFrame, pd.DataFrame] | None = None
        self._needs_labels = any(needs_labels(spec) for spec in model.plan.specs)
        self._reach = max((spec.over + spec.delay for spec in model.plan.specs), default=0)

    def scored(self, chunk: Rows, first_row: int) -> tuple[pa.Table, pd.DataFrame]:
        """Scored and refused rows of a chunk, for a model without windows.

        After the first chunk, whose frame says whether the table fits, most have no row that needs a closer look.
        """
        if self.witness is not None and not isinstance(chunk, pd.DataFrame):
            with _arrow_errors():
                clean_table = clear_rows(to_plain_types(chunk, self.usecase), self.usecase)
            if (
                clean_table is not None
                and not (microseconds_of(clean_table.events[self.usecase.event_time]) > self._latest).any()
            ):
                return self._score_rows(
                    clean_table.ids, self._features(clean_table.events, empty_labels())
                ), _EMPTY_QUARANTINE
        events, labels, quarantine = self.clean(chunk, first_row)
        return self.table(events, self._features(events, labels)), quarantine

    def clean(self, chunk: Rows, first_row: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Events, labels and quarantine of a chunk whose first row is number ``first_row`` of the input."""
        if not isinstance(chunk, pd.DataFrame):
            with _arrow_errors():
                chunk = frame_of(chunk, self.usecase)
        if self.witness is None:
            events, labels, quarantine = self._read(chunk, self.usecase)
            good_index = next(i for i in range(len(chunk)) if i not in set(quarantine["row"].tolist()))
            witness_events, _, _ = self._read(chunk.iloc[good_index : good_index + 1], self._lenient)
            self.witness = chunk.iloc[good_index : good_index + 1], str(witness_events[self.usecase.event_id].iloc[0])
        else:
            try:
                events, labels, quarantine = self._read(chunk, self._lenient)
            except SchemaProblem:
                events, labels, quarantine = self._beside_witness(chunk, *self.witness)
        return events, labels, quarantine.assign(row=quarantine["row"] + first_row)

    def _beside_witness(
        self, chunk: pd.DataFrame, witness_row: pd.DataFrame, witness_id: str
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The same with a known good row in front: a chunk whose rows are all bad is no reason to refuse the table."""
        events, labels, quarantine = self._read(pd.concat([witness_row, chunk], ignore_index=True), self._lenient)
        is_own = (events[self.usecase.event_id] != witness_id).to_numpy()
        events, labels = events[is_own].reset_index(drop=True), labels[labels["event_id"] != witness_id]
        return events, labels, quarantine.assign(row=quarantine["row"] - 1)

    def take(self, events: pd.DataFrame, labels: pd.DataFrame, *, only_carry: bool) -> pa.Table | None:
        """The scored rows of cleaned events, or none where they are only context of later ones."""
        plan = self.model.plan
        context, context_labels = events, labels
        if plan.specs:
            context, context_labels = self._with_carried(events, labels)
            self._carry(context, context_labels)
        if only_carry:
            return None
        return self.table(events, self._features(context, context_labels)[len(context) - len(events) :])

    def _features(self, events: pd.DataFrame, labels: pd.DataFrame) -> Any:
        return self.model.plan.build(events, labels, self.as_of).to_numpy()

    def _read(self, table: pd.DataFrame, usecase: UseCase) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        schema = EventSchema.of(usecase, lookups=self._lookups)
        try:
            if self._needs_labels:
                return schema.read_labelled(table, self._latest)
            table_read = schema.read_table(table, self._latest)
        except TableError as exc:
            raise SchemaProblem(f"the rows to score: {exc}") from exc
        return table_read.events, empty_labels(), table_read.quarantine

    def _with_carried(self, events: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self._carried is None or events.empty:
            return events, labels
        carried_events, carried_labels = self._carried
        time_column, id_column = self.usecase.event_time, self.usecase.event_id
        if len(carried_events) and events[time_column].iloc[0] < carried_events[time_column].iloc[-1]:
            raise SchemaProblem(UNORDERED)
        carried_events = carried_events[~carried_events[id_column].isin(events[id_column])]
        return pd.concat([carried_events, events], ignore_index=True), pd.concat(
            [carried_labels, labels], ignore_index=True
        )

    def _carry(self, context: pd.DataFrame, labels: pd.DataFrame) -> None:
        if context.empty:
            return
        times = context[self.usecase.event_time]
        carried_events = context[(times >= times.iloc[-1] - pd.Timedelta(self._reach, unit="us")).to_numpy()]
        self._carried = carried_events, labels[labels["event_id"].isin(carried_events[self.usecase.event_id])]

    def table(self, events: pd.DataFrame, features: Any) -> pa.Table:
        """The scored rows of cleaned events and their features: event_id, score, decision, model, perhaps reasons."""
        import pyarrow as pa

        return self._score_rows(pa.array(events[self.usecase.event_id], pa.string()), features)

    def _score_rows(self, ids: pa.Array, features: Any) -> pa.Table:
        import pyarrow as pa

        features = np.ascontiguousarray(features)
        scores = self.model.score(features)
        columns = {
            "event_id": ids,
            "score": pa.array(scores.calibrated),
            "decision": pa.array(self.model.decide(scores.calibrated, scores.cuts)),
            "model": pa.repeat(self.ref.label, len(ids)),
        }
        if self.reasons:
            columns["reasons"] = pa.array(self._reasons(features), pa.string())
        return pa.table(columns)

    def _reasons(self, features: Any) -> list[str]:
        from bentos.scoring.explanations import explain

        contributions = self.model.booster.quick_contributions(self.model.golden.features[:4])
        if not len(features):
            return []
        rows = zip(features, contributions(features), strict=True)
        return [
            json.dumps(explain(self.model.plan.names, row, row_contributions)["reasons"])
            for row, row_contributions in rows
        ]


def without_missing_limits(usecase: UseCase) -> UseCase:
    """The use case without limits on missing shares: in a chunk, rows are judged and not tables."""
    columns = tuple(column.model_copy(update={"max_missing_share": 1.0}) for column in usecase.columns)
    return usecase.model_copy(update={"columns": columns})


@contextmanager
def _arrow_errors() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as exc:
        raise SchemaProblem(f"the rows to score: not readable as one table ({exc})") from exc
