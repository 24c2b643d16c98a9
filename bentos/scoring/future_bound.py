"""The one bound on the future: how far ahead of the declared clock a time may lie.

An event dated 2099 would move the business clock of the windows for everybody, a label of 2099 would never be known,
an action of 2099 would count last for ever. So a time beyond the bound is refused on every road before anything looks
at it: no log, no windows, no answered ids. It is counted, and it lies in quarantine.

The declared clock (``INCUMBENT_CLOCK``) is the machine's, or, where a stream of another time is replayed, the stream's
own: the newest time that several of the latest events agree on (:class:`~bentos.scoring.recent_times.RecentTimes`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, get_args

import msgspec

from bentos import http_errors
from bentos.errors import SpoolFull
from bentos.http_errors import HttpProblem, problem
from bentos.scoring.recent_times import RecentTimes
from bentos.usecase.limits import EPOCH, LATEST_US, MICROSECOND
from monitoring.core.durations import format_duration, microseconds
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import IN_FUTURE, RefusedRecord

if TYPE_CHECKING:
    from bentos.scoring.ports import Spool
    from bentos.settings import Settings

Kind = Literal["event", "label", "action"]
_CLOCKS: Final = {"machine": "the machine's clock", "stream": "the clock of the stream"}


class FutureBound:
    """The latest time that is believed.

    Args:
        settings: declare the clock and how far ahead of it a time may lie.
        clock: machine time in microseconds.
        recent: times of the latest events; asked where the stream's own clock is declared.

    Attributes:
        machine: whether the machine's clock is declared.
    """

    def __init__(self, settings: Settings, clock: Callable[[], int], recent: RecentTimes | None = None) -> None:
        self.machine = settings.clock == "machine"
        self._declared = settings.clock
        self._allowed = settings.max_future
        self._allowed_us = microseconds(settings.max_future)
        self._clock = clock
        self._recent = RecentTimes() if recent is None else recent

    def now_us(self) -> int:
        """What the declared clock says; 0 of a stream that has no event yet."""
        return self._clock() if self.machine else self._recent.newest_us

    def latest_us(self) -> int:
        """The latest time that is not refused; any time before the first event of a stream."""
        now = self._clock() if self.machine else self._recent.newest_us
        return now + self._allowed_us if now else LATEST_US

    def latest_of(self, times_us: Iterable[int]) -> int:
        """The same for a table whose newest events have these times: they move the clock where it is the stream's."""
        self._recent.add(times_us)
        return self.latest_us()

    def sentence(self, column: str, time_us: int) -> str:
        """Say which time lies in the future, what the clock says and what is allowed."""
        return (
            f"{column} {iso_text(time_us)} lies in the future: {_CLOCKS[self._declared]} says "
            f"{iso_text(self.now_us())}, and at most {format_duration(self._allowed)} ahead is allowed"
        )


class FutureGuard:
    """Refuses rows of the future: counts them and puts them into quarantine.

    Args:
        usecase: name written to the quarantine.
        bound: the latest time.
        spool: the way into the quarantine.
        clock: machine time in microseconds.
    """

    def __init__(self, usecase: str, bound: FutureBound, spool: Spool, clock: Callable[[], int]) -> None:
        self.latest_us = bound.latest_us
        self._bound = bound
        self._usecase = usecase
        self._spool = spool
        self._clock = clock
        for kind in get_args(Kind):  # Prometheus sees no increase of a counter that begins at 1
            metrics.REFUSED_ROWS.labels(kind, IN_FUTURE)

    def refuse(self, kind: Kind, column: str, rows: Sequence[tuple[int, bytes]]) -> list[HttpProblem]:
        """Put rows (time, what was sent) into quarantine and count them.

        Returns:
            The answer to each row: 422 with one sentence. It stands also where a full spool keeps no copy.
        """
        now = self._clock()
        records = [RefusedRecord(self._usecase, kind, IN_FUTURE, time_us, now, body) for time_us, body in rows]
        with contextlib.suppress(SpoolFull):
            self._spool.append(records)
        metrics.REFUSED_ROWS.labels(kind, IN_FUTURE).inc(len(rows))
        return [problem(http_errors.UNPROCESSABLE, self._bound.sentence(column, time_us)) for time_us, _ in rows]


class Refusals(dict[int, HttpProblem]):
    """Rows that were refused: place in the list to problem."""

    def to_json(self) -> list[dict[str, object]]:
        """Place, code and sentence of each, in the order of the list."""
        return [{"at": at, "code": refusal.code, "message": str(refusal)} for at, refusal in sorted(self.items())]

    def shifted(self, offset: int) -> Self:
        """The same rows in a list that has ``offset`` rows more in front."""
        return type(self)({at + offset: refusal for at, refusal in self.items()})


class Receipt(NamedTuple):
    """What became of rows that are not scored: how many are kept, places of contradictions, rows of the future."""

    accepted: int
    conflicts: list[int]
    refused: Refusals
    many: bool

    def body(self) -> bytes:
        """The JSON of a reply; ``refused`` stands there only where a row was refused.

        Raises:
            HttpProblem: what was sent is no list, and was refused.
        """
        if self.refused and not self.many:
            raise self.refused[0]
        reply: dict[str, object] = {"accepted": self.accepted, "conflicts": self.conflicts}
        return msgspec.json.encode(reply | ({"refused": self.refused.to_json()} if self.refused else {}))


def iso_text(time_us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    return (EPOCH + time_us * MICROSECOND).isoformat().replace("+00:00", "Z")
