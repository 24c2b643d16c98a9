"""The words of an answer: ``{event_id, score, decision, threshold, model: {name, version, alias}}``.

The same function writes a live answer and, after a restart, the one that the log remembers, so a
replayed event id gets the very bytes of the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bentos.http_errors import error_body, note_faults, translate
from bentos.schema.event import Event

_TEXT: Final = msgspec.json.Encoder()
NO_ANSWER: Final = b""
"""What the windows remember of an id that was logged and not answered."""


def ending(threshold: float, name: str, version: str, alias: str) -> bytes:
    """The part of an answer that is the same for every event of one version."""
    model = msgspec.json.encode({"name": name, "version": version, "alias": alias})
    return b',"threshold":%b,"model":%b}' % (repr(threshold).encode(), model)


def answer(event_id: str, score: float, decision: bool, end: bytes, action: str | None = None) -> bytes:
    """One answer as JSON; ``end`` is from :func:`ending`, ``score`` is finite, ``action`` where one is declared."""
    # repr() is the shortest text that reads back as the same float64.
    decision_text = b"true" if decision else b"false"
    if action is not None:
        decision_text = b'%b,"action":"%b"' % (decision_text, action.encode())
    return b'{"event_id":%b,"score":%b,"decision":%b%b' % (
        _TEXT.encode(event_id),
        repr(score).encode(),
        decision_text,
        end,
    )


def refused(event_id: str, error: Exception) -> bytes:
    """What stands in the place of an event of a list that got no answer."""
    fault = translate(error)
    return b'{"event_id":%b,%b' % (_TEXT.encode(event_id), error_body(fault.code, str(fault))[1:])


def rows(score: Callable[[Sequence[Event]], Sequence[bytes | Exception]], events: Sequence[Event]) -> list[bytes]:
    """An answer, or an error in its place, for each event of a part of a list; never raises.

    Args:
        score: scores a batch, and may fail as a whole.
        events: checked events.
    """
    try:
        answers = score(events)
    except Exception as exc:  # parts before this one are answered and logged: each event is told, none is lost
        answers = [exc] * len(events)
    note_faults("/score/batch", answers)
    return [s if isinstance(s, bytes) else refused(e.event_id, s) for e, s in zip(events, answers, strict=True)]
