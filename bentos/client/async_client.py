"""The client for programs with an event loop; see :mod:`bentos.client`.

The deadline interrupts whatever a call waits for: the timeouts of HTTP libraries bound one read or write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from bentos.client.common import (
    PASSING,
    REPEATABLE,
    Accepted,
    Answer,
    Backoff,
    DeadlinePassed,
    Fallback,
    LateQueue,
    Overloaded,
    Refused,
    RowError,
    ServiceReply,
    Unreachable,
    answer_of,
    draw,
    encode,
    merge_accepted,
    parts,
    rows_of,
)

if TYPE_CHECKING:
    import httpx

Json = Mapping[str, Any]
_LOG = logging.getLogger("incumbent.client")
_LIST: Final = 1000
_REPORTS: Final = 200
_REPORT_SECONDS: Final = 2.0


class AsyncClient:
    """Asks one service. Use it as an asynchronous context manager, or call :meth:`aclose`.

    Args:
        url: the service, for example ``http://127.0.0.1:3000``.
        key: an API key, where the service asks for one.
        deadline: seconds for a whole call.
        attempt: longest time of one attempt; none gives each what is left of the deadline.
        fallback: what to decide when the deadline passes; none raises instead.
        id_column: the column with the event id, to name the event in a fallback's answer.
        backoff: pauses between attempts.
        late_limit: most reports that wait to be sent.
        transport: an httpx transport, for tests and special networks.

    Raises:
        ImportError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        deadline: float = 1.0,
        attempt: float | None = None,
        fallback: Fallback | None = None,
        id_column: str | None = None,
        backoff: Backoff | None = None,
        late_limit: int = 10_000,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        httpx = _httpx()
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        # The deadline is ours: httpx bounds single reads and writes, not a call.
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=None, transport=transport)
        self._broken = httpx.TransportError
        self._deadline = deadline
        self._attempt = attempt
        self._fallback = fallback
        self._id_column = id_column
        self._backoff = backoff or Backoff()
        self._late = LateQueue(late_limit)
        self._reporter: asyncio.Task[None] | None = None

    async def score(self, event: Json, *, explain: bool = False, deadline: float | None = None) -> Answer:
        """Score one event.

        Args:
            event: the declared columns; times as text or aware datetimes.
            explain: whether to ask for the strongest reasons.
            deadline: seconds for this call instead of the client's.

        Raises:
            Refused: the service will never take this event (400, 401, 403, 409 and the like).
            DeadlinePassed: no answer came in time and no fallback is declared.
            ValueError: the event cannot be written as JSON.
        """
        try:
            path = "/score?explain=true" if explain else "/score"
            return answer_of(await self._ask("POST", path, encode(event), self._until(deadline)))
        except DeadlinePassed as exc:
            return self._fall_back(event, exc)

    async def score_many(self, events: Sequence[Json], *, deadline: float | None = None) -> list[Answer | RowError]:
        """Score a list of events in the given order, 1,000 a request; the deadline holds for all of them.

        Events whose error may pass are asked for again until the deadline. Then the fallback decides; without one
        their error stays in their place.

        Raises:
            Refused, DeadlinePassed, ValueError: as :meth:`score`, where a whole request fails.
        """
        until = self._until(deadline)
        answers: list[Answer | RowError] = []
        for part in parts(events, _LIST):
            try:
                rows = await self._rows(part, until)
            except DeadlinePassed as exc:
                answers += [self._fall_back(event, exc) for event in part]
            else:
                answers += await self._insist(part, rows, until)
        return answers

    async def events(self, events: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """Send events that are not to be scored; raises as :meth:`score` without a fallback."""
        return await self._send("/events", events, deadline)

    async def labels(self, labels: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """Say what became of events; raises as :meth:`score` without a fallback."""
        return await self._send("/labels", labels, deadline)

    async def actions(self, actions: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """Say what was really done about events, and by whom; raises as :meth:`score` without a fallback."""
        return await self._send("/actions", actions, deadline)

    async def model(self, *, deadline: float | None = None) -> Json:
        """What is active and since when; raises as :meth:`score` without a fallback."""
        card: Json = await self._ask("GET", "/model", b"", self._until(deadline))
        return card

    @property
    def late(self) -> int:
        """Fallback decisions that are not reported yet."""
        return len(self._late)

    @property
    def dropped(self) -> int:
        """Fallback decisions that will never be reported: the queue was full, or the service refused them."""
        return self._late.dropped

    async def flush(self, deadline: float = 5.0) -> int:
        """Report fallback decisions now; returns how many are still waiting when the time is up."""
        until = time.monotonic() + deadline
        self._stop_reporting()  # two at once would send each report twice
        with contextlib.suppress(DeadlinePassed):
            while len(self._late):
                await self._report(self._late.first(_REPORTS), until)
        if len(self._late):
            self._report_soon()
        return len(self._late)

    async def aclose(self, deadline: float = 2.0) -> None:
        """Report what is waiting, as far as the time goes, and close the connections."""
        if unreported := await self.flush(deadline):
            _LOG.warning("%d fallback decisions were not reported", unreported)
        self._stop_reporting()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _rows(self, events: Sequence[Json], until: float) -> list[Answer | RowError]:
        return rows_of(await self._ask("POST", "/score/batch", encode(events), until), len(events))

    async def _insist(
        self, events: Sequence[Json], answers: list[Answer | RowError], until: float
    ) -> list[Answer | RowError]:
        """Ask again for those events of a list whose error may pass."""
        number = 0
        while retry_positions := [
            at for at, row in enumerate(answers) if isinstance(row, RowError) and row.code in PASSING
        ]:
            pause = self._backoff.pause(number, draw())
            try:
                if time.monotonic() + pause >= until:
                    raise Overloaded(f"{len(retry_positions)} events of a list were refused to the end")
                await asyncio.sleep(pause)
                rows = await self._rows([events[at] for at in retry_positions], until)
            except DeadlinePassed as exc:
                if self._fallback is None:
                    return answers
                rows = [self._fall_back(events[at], exc) for at in retry_positions]
            for at, row in zip(retry_positions, rows, strict=True):
                answers[at] = row
            number += 1
        return answers

    def _until(self, deadline: float | None) -> float:
        return time.monotonic() + (self._deadline if deadline is None else deadline)

    async def _send(self, path: str, rows: Sequence[Json], deadline: float | None) -> Accepted:
        until = self._until(deadline)
        replies = [await self._ask("POST", path, encode(part), until) for part in parts(rows, _LIST)]
        return merge_accepted(replies, _LIST)

    async def _ask(self, method: str, path: str, body: bytes, until: float) -> Any:
        """The JSON of a good reply, whatever attempts it takes; see :meth:`score` for what it raises."""
        last_error: type[DeadlinePassed] = DeadlinePassed
        number = 0
        try:
            # Whatever an attempt waits for (a name, a connection, a byte), it is interrupted when the time is up.
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()):
                while True:
                    last_error, pause = DeadlinePassed, 0.0
                    try:
                        reply = await self._once(method, path, body)
                        if reply.status not in REPEATABLE:
                            return reply.usable()
                        last_error, pause = Overloaded, reply.retry_after
                    except self._broken:
                        last_error = Unreachable
                    except _AttemptOver:
                        pass
                    pause = max(pause, self._backoff.pause(number, draw()))
                    number += 1
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise last_error(f"no answer in time after {number + 1} attempts: {last_error.reason}") from None

    async def _once(self, method: str, path: str, body: bytes) -> ServiceReply:
        try:
            async with asyncio.timeout(self._attempt):
                answer = await self._http.request(method, path, content=body)
        except TimeoutError as exc:
            raise _AttemptOver from exc
        return ServiceReply.of(answer.status_code, answer.content, answer.headers)

    def _fall_back(self, event: Json, error: DeadlinePassed) -> Answer:
        if self._fallback is None:
            raise error
        _LOG.warning("decided by fallback: %s", error.reason)
        self._late.add(event, self._fallback.decision, error.reason)
        self._report_soon()
        event_id = None if self._id_column is None else event.get(self._id_column)
        return Answer(event_id, self._fallback.decision, fallback=True, reason=error.reason)

    def _report_soon(self) -> None:
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.get_running_loop().create_task(self._keep_reporting())

    def _stop_reporting(self) -> None:
        if self._reporter is not None:
            self._reporter.cancel()
            self._reporter = None

    async def _keep_reporting(self) -> None:
        while len(self._late):
            try:
                await self._report(self._late.first(_REPORTS), time.monotonic() + _REPORT_SECONDS)
            except DeadlinePassed:
                await asyncio.sleep(self._backoff.longest)

    async def _report(self, reports: Sequence[Json], until: float) -> None:
        """Send the oldest reports; one that the service will never take is counted and forgotten."""
        try:
            await self._ask("POST", "/late", encode(reports), until)
        except Refused as exc:
            # Nobody checked these events when they were sent: one bad one must not take the others with it.
            if len(reports) > 1:
                for report in reports:
                    await self._report([report], until)
                return
            _LOG.error("a fallback decision cannot be reported: %s %s", exc.status, exc.code)
            self._late.done(reports, as_dropped=True)
        else:
            self._late.done(reports)


class _AttemptOver(Exception):
    """One attempt took too long; another may be made."""


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as exc:
        raise ImportError("bentos.client needs httpx: pip install httpx") from exc
    return httpx
