"""Labels over HTTP: checked as strictly as events, then written to the same spool.

The scribe stores them; what they do to the windows comes back through the labels table, so every
road of a label ends in one place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from bentos import http
from bentos.http import problem
from bentos.scoring import Spool, machine_time_us
from bentos.strict_json import StrictDecoder
from bentos.usecase import Column, UseCase
from monitoring import metrics
from monitoring.store.records import LabelRecord

_SKEW_US: Final = 5 * 60 * 1_000_000
_DAY_US: Final = 86_400 * 1_000_000


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
        self._said: OrderedDict[tuple[str, str], int] = OrderedDict()

    def add(self, event_id: str, source: str, y: int) -> bool:
        """Note a statement; says whether it contradicts an earlier one of the same source."""
        before = self._said.setdefault((event_id, source), y)
        if len(self._said) > self.limit:
            self._said.popitem(last=False)
        return before != y


class LabelDesk:
    """Takes labels over HTTP.

    Args:
        usecase: ranks the sources and names the log.
        spool: where accepted labels go.
        limit: labels of one list.
        newest_event_us: newest event time that was scored.
        said: what is known to have been said.
        clock: machine time in microseconds.
    """

    def __init__(
        self,
        usecase: UseCase,
        spool: Spool,
        limit: int,
        newest_event_us: Callable[[], int],
        said: Contradictions,
        clock: Callable[[], int] = machine_time_us,
    ) -> None:
        self._usecase = usecase.name
        self._spool = spool
        self._limit = limit
        self._newest = newest_event_us
        self._said = said
        self._clock = clock
        self._decoder = StrictDecoder(label_columns(usecase))

    def take(self, body: bytes) -> bytes:
        """Accept one label or a list; the answer is ``{"accepted": n, "conflicts": [positions]}``.

        Raises:
            EventError: a malformed label (400), nothing was kept.
            HttpProblem: 422 for a label from the future, nothing was kept; 409 for a single label that
                contradicts its own source: it was kept, and the event is excluded from evidence.
            SpoolFull: nothing was kept.
        """
        rows, many = one_or_many(self._decoder, body, self._limit)
        refuse_future([row[2] for row in rows], self._latest(), "label" if many else "", "observed_at")
        now = self._clock()
        self._spool.append([LabelRecord(self._usecase, row[0], row[1], row[2], row[3], now) for row in rows])
        conflicts = [at for at, row in enumerate(rows) if self._said.add(row[0], row[3], row[1])]
        for row in rows:
            metrics.LABELS.labels(row[3]).inc()
        if conflicts and not many:
            raise problem(
                http.CONFLICT,
                "this source said the opposite before; both labels are kept, and the event is excluded from evidence",
            )
        return msgspec.json.encode({"accepted": len(rows), "conflicts": conflicts})

    def _latest(self) -> int:
        """Latest time at which a label can have been observed.

        Business time may run ahead of the machine's clock when a simulated period is replayed; then
        the newest event says what day it is.
        """
        return latest_time(self._clock(), self._newest())


def one_or_many(decoder: StrictDecoder, body: bytes, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows of a body that holds one object or a list of at most ``limit``, and whether it is a list."""
    many = body.lstrip(b" \t\r\n")[:1] == b"["
    return (decoder.many(body, limit) if many else [decoder.one(body)]), many


def refuse_future(times: Sequence[int], latest: int, listed: str, column: str) -> None:
    """Refuse what cannot have been seen yet; ``listed`` names a row of a list, and is empty for one object.

    Raises:
        HttpProblem: 422, with the place in the list.
    """
    for at, time_us in enumerate(times):
        if time_us > latest:
            where = f"{listed} {at} of the list: " if listed else ""
            raise problem(http.UNPROCESSABLE, f"{where}{column} lies in the future")


def latest_time(now_us: int, newest_us: int) -> int:
    """Latest time at which something can have been observed, at machine time ``now_us``, given the newest event."""
    return newest_us + _DAY_US if newest_us > now_us else now_us + _SKEW_US
