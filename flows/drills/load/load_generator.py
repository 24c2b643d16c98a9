"""The load generator: a process of its own that speaks HTTP over keep-alive sockets and nothing else.

``python -m flows.drills.load.load_generator`` reads one :class:`LoadRound` as JSON from standard input and writes one
:class:`RoundFigures` to standard output. Closed loop: each connection asks again when it was answered.
Open loop: requests are due at a constant rate, whatever the server does, and a request's time counts
from when it was due, so waiting for a free connection is part of it.

Each event has a new id: a repeated one is answered from memory, which would flatter us.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from array import array
from collections import Counter, deque
from pathlib import Path
from typing import IO

import msgspec
import uvloop

from flows.drills.load.bodies import BodySpec, Pieces, events_of, make_bodies
from flows.drills.load.connection import Connection

GRACE = 10.0
"""Seconds that the last answers may take."""
_RECONNECT = 0.02
_SCORE = b'"score":'
_BACKLOG_SECONDS = 3.0
"""An open loop that is this far behind has lost; the rest of the round would only repeat it."""


class LoadRound(msgspec.Struct, frozen=True):
    """One round of load.

    Attributes:
        port, path, body: where it goes and what is sent.
        connections: open at once.
        seconds: measured time; 0 goes on until SIGTERM.
        warm_up: seconds before it that are not measured.
        rate: requests a second of an open loop; none is a closed loop.
        ids: what every event id of this round begins with.
        echo_ids: whether an answer must hold the (first) id that was sent.
        holds: text that every answer must hold.
        record: file that receives every answer, a line each: machine time, id, status, JSON.
        give_up: whether an open loop ends when the server cannot follow.
    """

    port: int
    path: str
    body: BodySpec
    connections: int = 32
    seconds: float = 4.0
    warm_up: float = 1.0
    rate: float | None = None
    ids: str = "b-"
    echo_ids: bool = True
    record: str = ""
    holds: str = ""
    give_up: bool = True


class RoundFigures(msgspec.Struct):
    """What a round gave: times in ms, ``rps`` in requests a second, ``events`` all that were sent.

    ``errors`` are requests with another status than 200, without their id in the answer, or without an
    answer at all; ``statuses`` says which. ``overrun``: an open loop that the server could not follow.
    """

    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    answered: int
    errors: int
    events: int
    requests: int
    statuses: dict[str, int]
    overrun: bool = False
    cpu_share: float = 0.0


class Generator:
    """One round under way."""

    def __init__(self, load: LoadRound, bodies: list[Pieces], record: IO[bytes] | None) -> None:
        self.load = load
        self.record = record
        self.waits: deque[float] = deque()
        self.idle: deque[Connection] = deque()
        self.connections: list[Connection] = []
        self.statuses: Counter[str] = Counter()
        self.sent = self.errors = 0
        self.times = array("d")
        self.overrun = False
        self.ends = asyncio.Event()
        self._bodies = bodies
        self._ids = load.ids.encode()
        self._holds = load.holds.encode()
        self._per_request = events_of(load.body.kind)
        self._next_id = 0
        self._started = time.perf_counter()
        self.measure_from = self._started + load.warm_up
        self.measure_to = self.measure_from + load.seconds if load.seconds else float("inf")
        length = sum(map(len, bodies[0])) + (len(bodies[0]) - 1) * (len(self._ids) + 9)
        self._same_length = all(sum(map(len, b)) == sum(map(len, bodies[0])) for b in bodies)
        self._head = self._header(length)

    def _header(self, length: int) -> bytes:
        return (
            f"POST {self.load.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {length}\r\n\r\n"
        ).encode()

    def next_request(self) -> tuple[bytes, bytes]:
        """The bytes of a new request and its first event id."""
        pieces = self._bodies[self.sent % len(self._bodies)]
        self.sent += 1
        first = b"%b%09d" % (self._ids, self._next_id)
        holes = len(pieces) - 1
        if holes == 1:
            body = b"%b%b%b" % (pieces[0], first, pieces[1])
        elif holes == 0:
            body = pieces[0]
        else:
            parts = [pieces[0]]
            for index in range(holes):
                parts += (b"%b%09d" % (self._ids, self._next_id + index), pieces[index + 1])
            body = b"".join(parts)
        self._next_id += max(1, holes)
        head = self._head if self._same_length else self._header(len(body))
        return head + body, first

    def answered(self, connection: Connection, status: bytes, body: bytes) -> None:
        """An answer is complete: note it, and go on."""
        now = time.perf_counter()
        good = status == b"200"
        if good and self.load.echo_ids:
            # A list may be answered 200 although some of its events were refused in their places.
            good = connection.id in body and (self._per_request == 1 or body.count(_SCORE) == self._per_request)
        if not good or self._holds not in body:
            self.fail(status.decode("latin-1") if status != b"200" else "wrong answer")
        elif self.measure_from <= now < self.measure_to:
            self.times.append(now - connection.since)
        if self.record is not None:
            self.record.write(b"%.6f %b %b %b\n" % (time.time(), connection.id, status, body))
        self.go_on(connection, now)

    def go_on(self, connection: Connection, now: float) -> None:
        """Give a free connection its next request, if there is one."""
        if self.ends.is_set() or now >= self.measure_to:
            connection.since = 0.0
        elif self.load.rate is None:
            connection.ask(now)
        elif self.waits:
            connection.ask(self.waits.popleft())
        else:
            connection.since = 0.0
            self.idle.append(connection)

    def fail(self, reason: str) -> None:
        """Count a request that did not get its answer."""
        self.errors += 1
        self.statuses[reason] += 1

    def lost(self, connection: Connection) -> None:
        """A connection broke: whatever it waited for has no answer."""
        if connection.since:
            self.fail("no answer")
        connection.since = 0.0
        if connection in self.idle:
            self.idle.remove(connection)
        if not self.ends.is_set():
            asyncio.get_running_loop().create_task(self.connect(connection))

    async def connect(self, connection: Connection) -> None:
        """Connect, trying again for as long as the round goes on."""
        loop = asyncio.get_running_loop()
        while not self.ends.is_set():
            try:
                await loop.create_connection(lambda: connection, "127.0.0.1", self.load.port)
            except OSError:
                await asyncio.sleep(_RECONNECT)
                continue
            self.go_on(connection, time.perf_counter())
            return

    async def arrivals(self) -> None:
        """Open loop: whatever is due is sent, or waits for a free connection."""
        rate, count, start_time = self.load.rate, 0, time.perf_counter()
        assert rate is not None
        while not self.ends.is_set() and (now := time.perf_counter()) < self.measure_to:
            due_count = int((now - start_time) * rate)
            while count < due_count:
                send_time = start_time + count / rate
                count += 1
                if self.idle:
                    self.idle.popleft().ask(send_time)  # in turn: a server closes connections that stay idle
                else:
                    self.waits.append(send_time)
            if self.load.give_up and self.waits and now - self.waits[0] > _BACKLOG_SECONDS:
                self.overrun = True
                self.ends.set()
            await asyncio.sleep(0.001)

    async def run(self) -> RoundFigures:
        """The whole round."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ends.set)
        self.connections = [Connection(self) for _ in range(self.load.connections)]
        cpu = time.process_time()
        await asyncio.gather(*(self.connect(c) for c in self.connections))
        if self.load.rate is not None:
            pacing = loop.create_task(self.arrivals())
        timeout = self.measure_to - time.perf_counter() if self.load.seconds else None
        try:
            await asyncio.wait_for(self.ends.wait(), timeout)
        except TimeoutError:
            self.ends.set()
        cpu_share = (time.process_time() - cpu) / (time.perf_counter() - self._started)
        deadline = time.perf_counter() + GRACE
        while any(c.since for c in self.connections) and time.perf_counter() < deadline and not self.overrun:
            await asyncio.sleep(0.01)
        if self.load.rate is not None:
            pacing.cancel()
        return self.measured(cpu_share)

    def measured(self, cpu_share: float) -> RoundFigures:
        """The figures; what was due and never left counts as an error of an overrun, else the round ended first."""
        unanswered = sum(1 for c in self.connections if c.since) + (len(self.waits) if self.overrun else 0)
        if unanswered:
            self.errors += unanswered
            self.statuses["no answer"] += unanswered
        times = sorted(self.times)
        seconds = min(self.measure_to, time.perf_counter()) - self.measure_from
        return RoundFigures(
            rps=len(times) / max(seconds, 1e-9),
            p50_ms=_quantile(times, 0.5),
            p99_ms=_quantile(times, 0.99),
            max_ms=_quantile(times, 1.0),
            answered=len(times),
            errors=self.errors,
            events=self.sent * self._per_request,
            requests=self.sent,
            statuses=dict(self.statuses),
            overrun=self.overrun,
            cpu_share=cpu_share,
        )


def _quantile(ordered: list[float], share: float) -> float:
    """Nearest-rank quantile of ordered seconds, in ms; NaN would be no JSON, so 0 without any."""
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)


def main() -> None:
    """Read the round from standard input, run it, print what it gave."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadRound)
    bodies = make_bodies(load.body)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection of its own must not look like a slow server
    with contextlib.ExitStack() as files:
        record = files.enter_context(Path(load.record).open("ab", buffering=1 << 16)) if load.record else None

        async def run() -> RoundFigures:
            return await Generator(load, bodies, record).run()

        figures = uvloop.run(run())
    sys.stdout.buffer.write(msgspec.json.encode(figures))


if __name__ == "__main__":
    main()
