"""Replay events through the real HTTP endpoint, in event-time order, with event time from the data."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase

BATCH = 100
"""Events of one ``/score/batch`` request."""
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


@dataclass
class ReplayTally:
    """What became of the requests.

    Attributes:
        sent: events sent.
        answered: events that got an answer.
        failed: events of requests that failed for any reason.
        versions: answers by model version.
        reasons: failures by reason (a status or the name of an exception).
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: ReplayTally) -> None:
        """Count what another tally counted as well."""
        self.sent += other.sent
        self.answered += other.answered
        self.failed += other.failed
        self.versions += other.versions
        self.reasons += other.reasons


class ReplayClient:
    """A client of one service. Requests go one after the other, so that events arrive in order.

    Args:
        url: base address of the service.
        usecase: names the columns of an event.
        transport: for tests.
    """

    def __init__(self, url: str, usecase: UseCase, transport: httpx.BaseTransport | None = None) -> None:
        self.usecase = usecase
        self.total = ReplayTally()
        # An HTTP proxy of the user's must not see local traffic.
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=False, transport=transport)

    def send(
        self, events: pd.DataFrame, batch: int = BATCH, after_batch: Callable[[int], None] | None = None
    ) -> ReplayTally:
        """Score events in batches; ``after_batch`` hears the number of events of each batch."""
        bodies, tally = event_bodies(events, self.usecase), ReplayTally()
        for start in range(0, len(bodies), batch):
            part = bodies[start : start + batch]
            tally.add(self._post("/score/batch", b"[" + b",".join(part) + b"]", len(part)))
            if after_batch is not None:
                after_batch(len(part))
        return tally

    def send_one(self, body: bytes) -> ReplayTally:
        """Score one event."""
        return self._post("/score", body, 1)

    def send_labels(self, labels: pd.DataFrame, batch: int = 500) -> int:
        """Report labels (``event_id``, ``y``, ``observed_at``, ``source``); returns how many were refused."""
        bodies, refused = label_bodies(labels), 0
        for start in range(0, len(bodies), batch):
            part = bodies[start : start + batch]
            try:
                response = self._client.post("/labels", content=b"[" + b",".join(part) + b"]", headers=_JSON)
            except httpx.HTTPError:
                refused += len(part)
                continue
            refused += len(response.json().get("refused", ())) if response.is_success else len(part)
        return refused

    def model(self) -> dict[str, Any]:
        """What the service says is active."""
        response: dict[str, Any] = self._client.get("/model").raise_for_status().json()
        return response

    def _post(self, path: str, body: bytes, count: int) -> ReplayTally:
        tally = ReplayTally(sent=count)
        try:
            response = self._client.post(path, content=body, headers=_JSON)
            if not response.is_success:
                raise _RefusedRequest(str(response.status_code))
            answers = _answers(response.content, many=path.endswith("batch"))
        except (httpx.HTTPError, msgspec.MsgspecError, _RefusedRequest) as exc:
            tally.failed = count
            tally.reasons[str(exc) if isinstance(exc, _RefusedRequest) else type(exc).__name__] += 1
        else:
            tally.answered = len(answers)
            tally.failed = count - len(answers)
            tally.versions.update(answer.model.version for answer in answers)
        self.total.add(tally)
        return tally

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SteadyTraffic:
    """Events sent one by one at a steady pace from a thread, while something else happens.

    Args:
        replay: the client; nobody else may use it meanwhile.
        events: what to send, in order.
        pace: events a second.
    """

    def __init__(self, replay: ReplayClient, events: pd.DataFrame, pace: float = 100.0) -> None:
        self.tally = ReplayTally()
        self._replay = replay
        self._bodies = event_bodies(events, replay.usecase)
        self._gap = 1.0 / pace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.sent = 0

    def _run(self) -> None:
        send_at = time.monotonic()
        while not self._stop.is_set() and self.sent < len(self._bodies):
            self.tally.add(self._replay.send_one(self._bodies[self.sent]))
            self.sent += 1
            send_at = max(send_at + self._gap, time.monotonic() - self._gap)
            self._stop.wait(max(0.0, send_at - time.monotonic()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def event_bodies(events: pd.DataFrame, usecase: UseCase) -> list[bytes]:
    """Each event as the JSON object that ``POST /score`` takes; what it looks up itself is left out."""
    names = [column.name for column in usecase.columns if column.name in events.columns and column.lookup is None]
    columns = [_plain(events[name]) for name in names]
    return [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def label_bodies(labels: pd.DataFrame) -> list[bytes]:
    """Each label as the JSON object that ``POST /labels`` takes."""
    names = ("event_id", "label", "observed_at", "source")
    table = labels.rename(columns={"y": "label"})
    columns = [_plain(table[name]) for name in names]
    return [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _plain(column: pd.Series) -> Sequence[object]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        utc = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
        return [f"{text}Z" for text in np.datetime_as_string(utc, unit="us")]
    if column.hasnans:
        return [None if pd.isna(value) else value for value in column.tolist()]
    return column.tolist()


class _Model(msgspec.Struct):
    name: str
    version: str
    alias: str


class _Answer(msgspec.Struct):
    event_id: str
    score: float
    decision: bool
    threshold: float
    model: _Model


def _answers(body: bytes, *, many: bool) -> list[_Answer]:
    return msgspec.json.decode(body, type=list[_Answer]) if many else [msgspec.json.decode(body, type=_Answer)]


class _RefusedRequest(Exception):
    """An answer that is no success; its text is the status."""


_JSON = {"content-type": "application/json"}
