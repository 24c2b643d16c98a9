"""Labels over HTTP: checked as strictly as events, then written to the same spool.

The scribe stores them; what they do to the windows comes back through the labels table, so every
road of a label ends in one place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from bentos import http_errors
from bentos.http_errors import problem
from bentos.schema.json_decoder import StrictDecoder
from bentos.scoring.future_bound import FutureGuard, Receipt, Refusals, iso_text
from bentos.scoring.intake import machine_time_us
from bentos.scoring.ports import Spool
from bentos.usecase.definition import Column, UseCase
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import LabelRecord


def label_columns(usecase: UseCase) -> tuple[Column, ...]:
    """The fields of a label, in the words of a use case's columns."""
    example = usecase.column(usecase.event_id).example
    return (
        Column(
            name="event_id",
            type="identifier",
            max_length=usecase.column(usecase.event_id).max_length,
            pan_guard=usecase.column(usecase.event_id).pan_guard,
            description="The event that the label is about.",
            example=example,
        ),
        Column(name="label", type="integer", min=0, max=1, description="1 is positive, 0 negative.", example=1),
        Column(
            name="observed_at",
            type="datetime",
            description="When the label became known, ISO 8601 with an offset.",
            example="2026-03-04T09:30:00Z",
        ),
        Column(
            name="source",
            type="category",
            categories=usecase.label.sources,
            description="Who says so; a stronger source revises a weaker one.",
            example=usecase.label.sources[0],
        ),
    )


class Contradictions:
    """Remembers what each source said of an event, so that a contradiction can be answered with 409.

    It holds the latest ``limit`` statements; the labels table knows all of them and decides.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self.limit = limit
        self._first_labels: OrderedDict[tuple[str, str], int] = OrderedDict()

    def add(self, event_id: str, source: str, y: int) -> bool:
        """Note a statement; says whether it contradicts an earlier one of the same source."""
        first_label = self._first_labels.setdefault((event_id, source), y)
        if len(self._first_labels) > self.limit:
            self._first_labels.popitem(last=False)
        return first_label != y


class Receiver:
    """Takes facts about events over HTTP: labels, actions.

    Args:
        usecase: ranks the sources and names the log.
        spool: where accepted facts go.
        limit: facts of one list.
        guard: refuses facts of the future.
        clock: machine time in microseconds.
    """

    def __init__(
        self,
        usecase: UseCase,
        spool: Spool,
        limit: int,
        guard: FutureGuard,
        clock: Callable[[], int] = machine_time_us,
    ) -> None:
        self._usecase = usecase.name
        self._spool = spool
        self._limit = limit
        self._guard = guard
        self._clock = clock
        self._decoder = StrictDecoder(self.columns(usecase))

    @staticmethod
    def columns(usecase: UseCase) -> tuple[Column, ...]:
        """The fields of one, in the words of a use case's columns."""
        raise NotImplementedError


class LabelReceiver(Receiver):
    """Takes labels over HTTP, and remembers who said what."""

    columns = staticmethod(label_columns)

    def __init__(
        self,
        usecase: UseCase,
        spool: Spool,
        limit: int,
        guard: FutureGuard,
        contradictions: Contradictions,
        clock: Callable[[], int] = machine_time_us,
    ) -> None:
        super().__init__(usecase, spool, limit, guard, clock)
        self._first_labels = contradictions

    def take(self, body: bytes) -> bytes:
        """Accept one label or a list; the answer is ``{"accepted": n, "conflicts": [positions]}``.

        Labels of the future are refused one by one: the answer to a list names them under ``refused``.

        Raises:
            EventError: a malformed label (400), nothing was kept.
            HttpProblem: 422 for a single label of the future; 409 for a single label that
                contradicts its own source: it was kept, and the event is excluded from evidence.
            SpoolFull: nothing was kept.
        """
        rows, many = one_or_many(self._decoder, body, self._limit)
        refusals = refuse_future(self._guard, "label", self._decoder.names, rows)
        accepted_rows = {at: row for at, row in enumerate(rows) if at not in refusals}
        now = self._clock()
        self._spool.append(
            [LabelRecord(self._usecase, row[0], row[1], row[2], row[3], now) for row in accepted_rows.values()]
        )
        conflicts = [at for at, row in accepted_rows.items() if self._first_labels.add(row[0], row[3], row[1])]
        for row in accepted_rows.values():
            metrics.RECEIVED_LABELS.labels(row[3]).inc()
        if conflicts and not many:
            raise problem(
                http_errors.CONFLICT,
                "this source said the opposite before; both labels are kept, and the event is excluded from evidence",
            )
        return Receipt(len(accepted_rows), conflicts, refusals, many).body()


def one_or_many(decoder: StrictDecoder, body: bytes, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows of a body that holds one object or a list of at most ``limit``, and whether it is a list."""
    many = body.lstrip(b" \t\r\n")[:1] == b"["
    return (decoder.many(body, limit) if many else [decoder.one(body)]), many


def refuse_future(
    guard: FutureGuard, kind: Literal["label", "action"], names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> Refusals:
    """Put rows into quarantine that cannot have been seen yet.

    Args:
        guard: knows the bound.
        kind: what the rows are.
        names: of the values of a row; the time is the one that ends in ``_at``.
        rows: decoded rows.

    Returns:
        What each of them is told, by its place.
    """
    at_time = next(position for position, name in enumerate(names) if name.endswith("_at"))
    latest = guard.latest_us()
    positions = [at for at, row in enumerate(rows) if row[at_time] > latest]
    if not positions:
        return Refusals()
    sent_rows = [(rows[at][at_time], _as_sent(names, rows[at], at_time)) for at in positions]
    return Refusals(zip(positions, guard.refuse(kind, names[at_time], sent_rows), strict=True))


def _as_sent(names: Sequence[str], row: tuple[Any, ...], at_time: int) -> bytes:
    return msgspec.json.encode({**dict(zip(names, row, strict=True)), names[at_time]: iso_text(row[at_time])})
