"""The words of an answer: ``{event_id, score, decision, threshold, model: {name, version, alias}}``.

The same function writes a live answer and, after a restart, the one that the log remembers, so a
replayed event id gets the very bytes of the first time.
"""

from __future__ import annotations

from typing import Final

import msgspec

_TEXT: Final = msgspec.json.Encoder()


def ending(threshold: float, name: str, version: str, alias: str) -> bytes:
    """The part of an answer that is the same for every event of one version."""
    model = msgspec.json.encode({"name": name, "version": version, "alias": alias})
    return b',"threshold":%b,"model":%b}' % (repr(threshold).encode(), model)


def answer(event_id: str, score: float, decision: bool, end: bytes) -> bytes:
    """One answer as JSON; ``end`` is from :func:`ending`, ``score`` is finite."""
    # repr() is the shortest text that reads back as the same float64.
    said = b"true" if decision else b"false"
    return b'{"event_id":%b,"score":%b,"decision":%b%b' % (_TEXT.encode(event_id), repr(score).encode(), said, end)
