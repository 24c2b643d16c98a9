"""What both clients are made of, without any network: answers, errors, pauses, the queue of late reports."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any, Final, Literal, Self, get_args

Reason = Literal["deadline", "unreachable", "refused"]
"""``deadline``: the time was up; ``unreachable``: no connection; ``refused``: the service would not take it."""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
REPEATABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed; the others say that it never will."""

PASSING: Final = frozenset({"internal", "log_full", "not_ready", "pending", "timeout", "windows_unavailable"})
"""Codes of an event of a list after which the same event may succeed."""


class ServiceError(Exception):
    """The service gave no answer that can be used. The text holds nothing of the event."""


class Refused(ServiceError):
    """The service refused the request for good.

    Attributes:
        status: the HTTP status.
        code: the service's word for it, such as ``invalid``, ``conflict`` or ``scope_missing``.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code


class DeadlinePassed(ServiceError):
    """No answer came in time.

    Attributes:
        reason: why the last attempt gave none.
    """

    reason: Reason = "deadline"


class Unreachable(DeadlinePassed):
    """No attempt reached the service."""

    reason: Reason = "unreachable"


class Overloaded(DeadlinePassed):
    """The service answered, but would not take the request (429, 503 and the like)."""

    reason: Reason = "refused"


@dataclass(frozen=True)
class Fallback:
    """What to decide when no answer comes in time.

    Attributes:
        decision: what the caller is told.
        note: why this is the right thing to do, for whoever reads the code; it is not sent.
    """

    decision: bool
    note: str


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts, in seconds: ``first``, then times ``factor`` up to ``longest``.

    Each pause is drawn between a half and the whole, so that clients that failed together do not come back together.
    """

    first: float = 0.02
    factor: float = 2.0
    longest: float = 1.0

    def pause(self, attempt: int, draw: float) -> float:
        """The pause after an attempt, counted from 0; ``draw`` is uniform in 0..1."""
        return min(self.longest, self.first * self.factor ** min(attempt, 64)) * (0.5 + 0.5 * draw)


@dataclass(frozen=True)
class Answer:
    """One decision.

    Attributes:
        event_id: of the event; none in a fallback where the client was not told which column it is.
        decision: whether the event is flagged.
        score: calibrated score 0..1; none in a fallback.
        threshold: scores at or above it are flagged; none in a fallback.
        model: name, version and alias of who answered; empty in a fallback.
        fallback: whether the client decided by itself.
        reason: why it did.
        reasons: strongest reasons, where they were asked for.
        action: ``block``, ``let_through`` or ``explore``, where the use case declares an intervention.
    """

    event_id: str | None
    decision: bool
    score: float | None = None
    threshold: float | None = None
    model: Mapping[str, str] | None = None
    fallback: bool = False
    reason: Reason | None = None
    reasons: Sequence[Mapping[str, Any]] = ()
    action: str | None = None


@dataclass(frozen=True)
class RowError:
    """An event of a list that failed alone."""

    event_id: str
    code: str
    message: str


@dataclass(frozen=True)
class Accepted:
    """How many were accepted, the places of those that contradict what was sent before, and of those refused alone."""

    accepted: int
    conflicts: tuple[int, ...]
    refused: tuple[int, ...] = ()


@dataclass(frozen=True)
class ServiceReply:
    """A response: its status, its JSON, and the pause that the service asked for, in seconds."""

    status: int
    content: Any
    retry_after: float

    @classmethod
    def of(cls, status: int, body: bytes, headers: Mapping[str, str]) -> Self:
        """Read a response; a body that is no JSON becomes none."""
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        retry_after = headers.get("retry-after", "")
        return cls(status, content, float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0)

    def error(self) -> Refused:
        """The error that it describes."""
        error_body = self.content.get("error") if isinstance(self.content, dict) else None
        error_body = error_body if isinstance(error_body, dict) else {}
        return Refused(
            self.status, str(error_body.get("code", "unknown")), str(error_body.get("message", "no JSON error"))
        )

    def usable(self) -> Any:
        """The JSON of a good response; raises :class:`Refused` for another or for what is no answer."""
        if self.status != 200 or not isinstance(self.content, dict | list):
            raise self.error()
        return self.content


def encode(value: Any) -> bytes:
    """Strict JSON; times with their offset. Raises ``ValueError`` for NaN, infinity and naive times."""
    return json.dumps(value, allow_nan=False, default=_time, separators=(",", ":"), ensure_ascii=False).encode()


def _time(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time needs an offset")
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise ValueError(f"a {type(value).__name__} cannot be sent as JSON")


def answer_of(row: Any) -> Answer:
    """The answer to one event; raises :class:`Refused` for what is none."""
    try:
        return Answer(
            row["event_id"], row["decision"], row["score"], row["threshold"], row["model"],
            reasons=tuple(row.get("reasons") or ()), action=row.get("action"),
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError) as exc:
        raise _unknown_reply() from exc


def rows_of(rows: Any, count: int) -> list[Answer | RowError]:
    """The answers to a list of ``count`` events; raises :class:`Refused` for what is none."""
    if not isinstance(rows, list) or len(rows) != count:
        raise _unknown_reply()
    return [_row_of(row) for row in rows]


def _row_of(row: Any) -> Answer | RowError:
    if not isinstance(row, dict) or "error" not in row:
        return answer_of(row)
    try:
        return RowError(row["event_id"], row["error"]["code"], row["error"]["message"])
    except (KeyError, TypeError) as exc:
        raise _unknown_reply() from exc


def parts(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """A list cut into lists that the service takes."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def merge_accepted(replies: Sequence[Any], size: int) -> Accepted:
    """What the service said to the parts of a list, as if it had been one; raises :class:`Refused` for no answer."""
    try:
        conflict_positions = [
            at * size + position for at, reply in enumerate(replies) for position in reply["conflicts"]
        ]
        refused_positions = [
            at * size + row["at"] for at, reply in enumerate(replies) for row in reply.get("refused", ())
        ]
        return Accepted(
            sum(reply["accepted"] for reply in replies), tuple(conflict_positions), tuple(refused_positions)
        )
    except (KeyError, TypeError) as exc:
        raise _unknown_reply() from exc


class LateQueue:
    """Reports that wait to be sent; at its limit the oldest one is dropped and counted.

    Attributes:
        dropped: reports that were never sent.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: deque[Mapping[str, Any]] = deque()

    def add(self, event: Mapping[str, Any], decision: bool, reason: Reason) -> None:
        """Queue one report."""
        self._waiting.append({"event": event, "decision": decision, "reason": reason})
        if len(self._waiting) > self._limit:
            self._waiting.popleft()
            self.dropped += 1

    def first(self, count: int) -> list[Mapping[str, Any]]:
        """The oldest reports; they stay until :meth:`done`."""
        return list(islice(self._waiting, count))

    def done(self, reports: Sequence[Mapping[str, Any]], *, as_dropped: bool = False) -> None:
        """Forget reports that were accepted, or that the service will never take."""
        for report in reports:
            # At the limit the oldest ones may have gone while they were on their way.
            if self._waiting and self._waiting[0] is report:
                self._waiting.popleft()
                self.dropped += as_dropped

    def __len__(self) -> int:
        return len(self._waiting)


def _unknown_reply() -> Refused:
    return Refused(200, "unknown", "this is no answer of an Incumbent service")


def draw() -> float:
    """Chance for a pause; nothing secret hangs on it."""
    return random.random()  # noqa: S311  # spreads retries
