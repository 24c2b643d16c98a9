"""Window state for several replicas: Redis puts what they do in one order, each keeps the windows itself.

Redis holds three things for a use case: a short log of what was added (events and labels), the answers
within the horizon, and the epoch. One script call for a micro-batch takes in what the others
added since the last call, claims the batch's ids and appends its events, all at one moment of Redis.
Values are then read from :class:`MemoryWindows`, which has seen exactly what stands before the batch in
that order; so they are the same bits as in one process, and Redis does no arithmetic.

An epoch names one life of the Redis server. When the server is new or has been restarted, whatever it
holds may be older than what was answered: every replica then builds its windows from the log again, one
of them, under a lock, gives the answers back, and until then nothing is answered.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from bentos.errors import AnswerPending, WindowsUnavailable
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis_connection import OTHER_EPOCH, SCRIPTS, SETTLE, TURN, Link
from bentos.windows.state import AnswerState, WindowInput, WindowSpec, WindowStats

LEASE_MS: Final = 10_000
"""How long an id is its claimer's, should that one never answer: longer than a request may take."""
RETAINED_MS: Final = 3_600_000
"""How long the order is kept: a replica that starts finds there what is not in the database yet."""
_LOCK_MS: Final = 15_000
_CHUNK: Final = 500

_Label = tuple[str, int, int, int]
_Remembered = tuple[str, str, bytes, int]


class RedisWindows:
    """Window state that is kept in step with other replicas. Give it one owner thread.

    Args:
        local: the windows, empty.
        url: where Redis is.
        name: what shares a state: environment and use case.
        horizon_us: how long answers are kept (machine time, microseconds).
        read: reads an event's body where another replica noted other columns of it.
    """

    shared = True

    def __init__(
        self, local: MemoryWindows, url: str, name: str, horizon_us: int, read: Callable[[bytes], WindowInput]
    ) -> None:
        self.lost = False
        self.specs: tuple[WindowSpec, ...] = local.specs
        self.entities = local.entities
        self.amounts = local.amounts
        self._local = local
        self._url = url
        self._link = Link(url)
        self._horizon = horizon_us
        self._read = read
        prefix = prefix_of(name)
        self._keys = keys_of(name)
        self._lock, self._answers = f"{prefix}lock", f"{prefix}answer:"
        self._layout = hashlib.sha256(repr((self.entities, self.amounts)).encode()).hexdigest()[:16].encode()
        self._owner = secrets.token_hex(8)
        self._joined = self._away = False
        self._epoch, self._stream_id, self._count = b"", b"0-0", -1
        self._claimed: set[str] = set()
        self._labels: list[_Label] = []
        self._unsettled: list[_Remembered] = []
        self._sent: list[_Remembered] = []

    @property
    def available(self) -> bool:
        """See :class:`~bentos.windows.state.WindowState`."""
        return self._joined and not self._away and not self.lost

    def read_add(self, batch: Sequence[WindowInput]) -> list[list[float]]:
        """See :class:`~bentos.windows.state.WindowState`; claimed events cost no further trip."""
        self._announce(batch)
        return self._local.read_add(batch)

    def add(self, batch: Iterable[WindowInput]) -> int:
        """See :class:`~bentos.windows.state.WindowState`."""
        if not self._joined:
            return self._local.add(batch)
        added_count = 0
        for part in _parts(batch, _CHUNK):
            self._announce(part)
            added_count += self._local.add(part)
        return added_count

    def label(self, event_id: str, y: int, observed_at_us: int, rank: int) -> bool:
        """See :class:`~bentos.windows.state.WindowState`; the others hear of it with the next turn."""
        is_new = self._local.label(event_id, y, observed_at_us, rank)
        if is_new and self._joined:
            self._labels.append((event_id, y, observed_at_us, rank))
        return is_new

    def claim(self, batch: Sequence[WindowInput]) -> list[AnswerState]:
        """See :class:`~bentos.windows.state.WindowState`; one trip, whatever the size of the batch."""
        answers = [_known(reply) for reply in self._turn(batch, claim=True)]
        # An id that was sent and not scored comes with an empty answer: it is ours too, and in the order already.
        is_ours = (answer is None or (isinstance(answer, tuple) and not answer[1]) for answer in answers)
        self._claimed = {event.event_id for event, is_mine in zip(batch, is_ours, strict=True) if is_mine}
        return answers

    def answered(self, event_id: str) -> tuple[str, bytes] | None:
        """See :class:`~bentos.windows.state.WindowState`."""
        if not self._joined:
            return self._local.answered(event_id)
        self._check()
        answer = _known(self._with_server(lambda: self._link.call("GET", self._answers + event_id)) or b"")
        return answer if isinstance(answer, tuple) else None

    def remember(self, event_id: str, body_hash: str, answer: bytes, at_us: int) -> None:
        """See :class:`~bentos.windows.state.WindowState`; others hear of it with :meth:`settle`."""
        if self._joined:
            self._unsettled.append((event_id, body_hash, answer, at_us))
        else:
            self._local.remember(event_id, body_hash, answer, at_us)

    def settle(self) -> None:
        """See :class:`~bentos.windows.state.WindowState`; what cannot be sent now is sent with the next turn."""
        if self.available and self._unsettled:
            self._sent += self._unsettled
            self._unsettled = []
            try:
                self._with_server(lambda: self._link.send(*self._settling(self._sent)))
            except WindowsUnavailable:
                return

    def forget_answers(self, before_us: int) -> int:
        """Nothing to do: each answer has its own end in Redis."""
        return self._local.forget_answers(before_us)

    def follow(self) -> None:
        """See :class:`~bentos.windows.state.WindowState`; also forgets what stands long enough in the order."""
        if self._joined and not self.lost:
            self._turn(())
            oldest = int(time.time() * 1000) - RETAINED_MS
            self._with_server(lambda: self._link.send("XTRIM", self._keys[1], "MINID", "~", oldest))

    def mend(self) -> None:
        """Look whether a server that was away is back; on any thread, because it has a connection of its own."""
        if self._away:
            link = Link(self._url)
            link.open()
            link.close()
            self._away = False

    def join(self, unshipped: Sequence[WindowInput]) -> None:
        """See :class:`~bentos.windows.state.WindowState`.

        Raises:
            WindowsUnavailable: Redis is away, or another replica is giving the answers back.
        """
        self._link.open()
        epoch = self._current_epoch() or self._begin_alone()
        self._local.take_answers()
        self._epoch, self._stream_id, self._count, self._joined = epoch, b"0-0", -1, True
        try:
            self._turn(())
            self.add(unshipped)
        except WindowsUnavailable:
            self._joined = self._away = False
            raise

    def stats(self) -> WindowStats:
        """See :class:`~bentos.windows.state.WindowState`: what this replica holds; answers are in Redis."""
        return self._local.stats()

    def close(self) -> None:
        """See :class:`~bentos.windows.state.WindowState`."""
        self._link.close()

    def _current_epoch(self) -> bytes | None:
        """The epoch that replicas share now; none before the first, or where the server was restarted."""
        epoch: bytes | None = self._link.call("GET", self._keys[0])
        return epoch if epoch is not None and epoch.startswith(self._link.run_id) else None

    def _begin_alone(self) -> bytes:
        """Begin an epoch under a lock: one replica gives the answers back, the others come again."""
        if self._link.call("SET", self._lock, secrets.token_hex(8), "NX", "PX", _LOCK_MS) is None:
            raise WindowsUnavailable("another replica is rebuilding the shared state")
        # Another one may have ended between our look and our lock: what it began stands.
        epoch = self._current_epoch() or self._begin()
        self._link.call("DEL", self._lock)
        return epoch

    def _begin(self) -> bytes:
        link = self._link
        link.call("DEL", *self._keys)
        for part in _parts(self._local.take_answers(), _CHUNK):
            link.call(*self._settling(part))
            link.call("PEXPIRE", self._lock, _LOCK_MS)
        epoch: bytes = link.run_id + b"/" + secrets.token_hex(8).encode()
        link.call("SET", self._keys[0], epoch)
        return epoch

    def _announce(self, batch: Sequence[WindowInput]) -> None:
        """Let the others know of events; those that we claimed they know."""
        if not self._claimed.issuperset(event.event_id for event in batch):
            self._turn(batch)

    def _turn(self, batch: Sequence[WindowInput], claim: bool = False) -> list[bytes]:
        """Take our turn in the order; returns what is held about each id where they are claimed."""
        self._check()
        labels = self._labels
        fields: list[Any] = [field for event in batch for field in (b"e", _ENCODER.encode(event))]
        fields += [field for label in labels for field in (b"l", _ENCODER.encode(label))]
        ids = [event.event_id for event in batch] if claim else []
        self._claimed = set()
        missed_entries, replies, count, place = self._with_server(
            lambda: self._link.call(
                "EVALSHA", SCRIPTS[TURN], 3, *self._keys, self._epoch, self._stream_id, self._answers,
                self._owner, LEASE_MS, self._layout, len(fields), *fields, *ids,
            )
        )  # fmt: skip
        self._sent, self._labels = [], []
        for entry in missed_entries:
            self._apply(*entry)
        own_count = 1 if place else 0
        if self._count not in (-1, count - own_count):
            self._mark_lost("the order no longer holds what was missed")
        self._count, self._stream_id = count, place or self._stream_id
        self.settle()
        return list(replies)

    def _apply(self, place: bytes, fields: Sequence[bytes]) -> None:
        """Add what another replica added, or we ourselves with a reply that never came."""
        count = int(fields[1])
        if self._count not in (-1, count - 1):
            self._mark_lost("the order no longer holds what was missed")
        self._count, self._stream_id = count, place
        for kind, content in zip(fields[4::2], fields[5::2], strict=True):
            if kind == b"l":
                self._local.label(*_LABELS.decode(content))
                continue
            event = _EVENTS.decode(content)
            self._local.add((event if fields[3] == self._layout else self._read(event.body),))

    def _settling(self, answers: Iterable[_Remembered]) -> list[Any]:
        now = time.time_ns() // 1000
        command: list[Any] = ["EVALSHA", SCRIPTS[SETTLE], 2, self._answers, self._owner]
        for event_id, body_hash, answer, at_us in answers:
            command += (event_id, body_hash.encode() + b" " + answer, max(1, (at_us + self._horizon - now) // 1000))
        return command

    def _check(self) -> None:
        if not self._joined or self.lost:
            raise WindowsUnavailable("the window state is being rebuilt")
        if self._away:
            raise WindowsUnavailable("Redis is away")

    def _with_server(self, step: Callable[[], Any]) -> Any:
        """Do something with the server; note when it is away, or is another one."""
        try:
            self._link.open()
            if not self._epoch.startswith(self._link.run_id):
                self._mark_lost("Redis was restarted")
            return step()
        except WindowsUnavailable as exc:
            self._unsettled, self._sent = [*self._sent, *self._unsettled], []
            if str(exc) == OTHER_EPOCH:
                self.lost = True
            self._away = not self.lost
            raise

    def _mark_lost(self, reason: str) -> None:
        self.lost = True
        raise WindowsUnavailable(f"{reason}; the window state is being rebuilt")


def prefix_of(name: str) -> str:
    """What every key of a shared state begins with; answers follow as ``answer:<event id>``."""
    return f"incumbent:{{{name}}}:"


def keys_of(name: str) -> tuple[str, ...]:
    """Keys of the epoch, the order and its count."""
    return tuple(prefix_of(name) + part for part in ("epoch", "order", "count"))


_ENCODER: Final = msgspec.msgpack.Encoder()
_EVENTS: Final = msgspec.msgpack.Decoder(WindowInput)
_LABELS: Final = msgspec.msgpack.Decoder(_Label)


def _known(reply: bytes) -> AnswerState:
    if not reply:
        return None
    if reply.startswith(b"?"):
        return AnswerPending("another replica is answering this event id")
    body_hash, _, answer = reply.partition(b" ")
    return body_hash.decode(), answer


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
