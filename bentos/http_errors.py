"""HTTP without a framework: replies, errors as JSON, and a body that is never read past its limit.

Every error of the product leaves as ``{"error": {"code": "...", "message": "..."}}``. The code is a
word for programs, the message is for people; neither ever holds a value of the request, but for a time that is
refused because it lies in the future.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from bentos.errors import (
    AnswerPending,
    DuplicateEvent,
    EventError,
    HostRefused,
    IncumbentError,
    KeyInvalid,
    KeyMissing,
    ModelNotReady,
    OriginRefused,
    ScopeMissing,
    SpoolFull,
    WindowsUnavailable,
)
from monitoring.metrics import serving as metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

JSON: Final = b"application/json"
_HEADERS_BY_LENGTH: Final = 4096


class HttpProblem(IncumbentError):
    """A request that is refused, with the status that says so.

    Attributes:
        status: the HTTP status.
        code: a stable word for programs.
        headers: extra response headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class HttpReply(NamedTuple):
    """A finished response: status, JSON body, extra headers."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ErrorKind(NamedTuple):
    """One row of the table of errors: what a client may meet, and why."""

    status: int
    code: str
    meaning: str


# One table for replies, the API page and the tests.
INVALID: Final = ErrorKind(400, "invalid", "The body is not the JSON that the schema asks for; the column is named.")
KEY_MISSING: Final = ErrorKind(401, "key_missing", "The service asks for an API key and the request has none.")
KEY_INVALID: Final = ErrorKind(401, "key_invalid", "The API key is not known, or is no longer valid.")
SCOPE_MISSING: Final = ErrorKind(403, "scope_missing", "The API key is valid, but may not ask for this.")
ORIGIN: Final = ErrorKind(403, "foreign_origin", "A web page of another site sent the request; it needs an API key.")
NOT_FOUND: Final = ErrorKind(404, "not_found", "There is no such path.")
METHOD: Final = ErrorKind(405, "method_not_allowed", "The path answers another method.")
SLOW_BODY: Final = ErrorKind(408, "slow_body", "The body did not arrive in time.")
CONFLICT: Final = ErrorKind(409, "conflict", "The event id was answered before, with another body.")
TOO_LARGE: Final = ErrorKind(413, "too_large", "The body or the list is longer than the limit.")
MEDIA_TYPE: Final = ErrorKind(415, "unsupported_media_type", "Only application/json is read.")
HOST: Final = ErrorKind(421, "foreign_host", "The Host is no name of this service: see INCUMBENT_ALLOWED_HOSTS.")
UNPROCESSABLE: Final = ErrorKind(422, "unprocessable", "A time lies in the future, by the declared clock.")
BUSY: Final = ErrorKind(429, "busy", "More requests are under way than the service takes; retry after a pause.")
INTERNAL: Final = ErrorKind(500, "internal", "A fault of the service; it is logged.")
NOT_READY: Final = ErrorKind(503, "not_ready", "No verified model is active yet.")
LOG_FULL: Final = ErrorKind(503, "log_full", "The prediction log is at its cap and answers may not go unlogged.")
NO_WINDOWS: Final = ErrorKind(
    503, "windows_unavailable", "The windows that the replicas share cannot be reached, or are being rebuilt; retry."
)
PENDING: Final = ErrorKind(503, "pending", "Another replica is answering the same event id; retry after a moment.")
TIMEOUT: Final = ErrorKind(504, "timeout", "The service did not answer in time.")
ERRORS: Final = (
    INVALID, KEY_MISSING, KEY_INVALID, SCOPE_MISSING, ORIGIN, NOT_FOUND, METHOD, SLOW_BODY, CONFLICT, TOO_LARGE,
    MEDIA_TYPE, HOST, UNPROCESSABLE, BUSY, INTERNAL, NOT_READY, LOG_FULL, NO_WINDOWS, PENDING, TIMEOUT,
)  # fmt: skip

_KINDS: Final = (
    (DuplicateEvent, CONFLICT),
    (EventError, INVALID),
    (ModelNotReady, NOT_READY),
    (SpoolFull, LOG_FULL),
    (WindowsUnavailable, NO_WINDOWS),
    (AnswerPending, PENDING),
    (HostRefused, HOST),
    (OriginRefused, ORIGIN),
    (KeyMissing, KEY_MISSING),
    (KeyInvalid, KEY_INVALID),
    (ScopeMissing, SCOPE_MISSING),
)
_CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)


def problem(kind: ErrorKind, message: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()) -> HttpProblem:
    """An error of the table, with its own message or the table's."""
    return HttpProblem(kind.status, kind.code, message or kind.meaning, headers)


def translate(error: Exception) -> HttpProblem:
    """What an error of the product means to a client; anything unknown is a fault of the service."""
    if isinstance(error, HttpProblem):
        return error
    for kind_of_error, kind in _KINDS:
        if isinstance(error, kind_of_error):
            return problem(kind, str(error), _CHALLENGE if kind.status == 401 else ())
    return problem(INTERNAL)


def error_body(code: str, message: str) -> bytes:
    """``{"error": {"code": ..., "message": ...}}``."""
    return msgspec.json.encode({"error": {"code": code, "message": message}})


def refusal(error: Exception) -> HttpReply:
    """The reply to a request that raised ``error``."""
    fault = translate(error)
    return HttpReply(fault.status, error_body(fault.code, str(fault)), fault.headers)


def flag(scope: Scope, name: str) -> bool:
    """Whether a parameter of the query is on: ``?explain=true``.

    Raises:
        HttpProblem: 400 for another value than ``true`` or ``false``, or for one that is given twice.
    """
    query = scope.get("query_string") or b""
    if not query:
        return False
    values = [value for key, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if key == name]
    if values not in ([], ["true"], ["false"]):
        raise problem(INVALID, f"{name}: allowed is true or false, once")
    return values == ["true"]


async def reply(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a whole JSON response."""
    base = _json_headers(len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*base, *headers] if headers else base})
    await send({"type": "http.response.body", "body": body})


async def page(send: Send, html: bytes) -> None:
    """Send a whole HTML page."""
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(html)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": html})


def _json_headers(length: int) -> list[tuple[bytes, bytes]]:
    if length < _HEADERS_BY_LENGTH and (cached := _KNOWN_HEADERS.get(length)) is not None:
        return cached
    headers = [(b"content-type", JSON), (b"content-length", str(length).encode())]
    if length < _HEADERS_BY_LENGTH:
        _KNOWN_HEADERS[length] = headers
    return headers


# Bodies of one length share their header list: it is built once instead of once a request.
_KNOWN_HEADERS: dict[int, list[tuple[bytes, bytes]]] = {}


def check_headers(headers: RawHeaders, limit: int) -> None:
    """Refuse another content type and a declared length above ``limit`` bytes, before any body is read.

    Raises:
        HttpProblem: 415, 413 or 400.
    """
    media_type = b""
    for name, value in headers:
        if name == b"content-type":
            media_type = value
        elif name == b"content-length":
            check_length(value, limit)
    if media_type != JSON and not _is_json(media_type):
        raise problem(MEDIA_TYPE)


def check_length(value: bytes, limit: int) -> None:
    """Refuse a ``content-length`` above ``limit``; raises :class:`HttpProblem` 413 or 400."""
    if not value.isdigit():
        raise problem(INVALID, "content-length is no number")
    if int(value) > limit:
        raise problem(TOO_LARGE, f"the body is longer than {limit} bytes")


def _is_json(media_type: bytes) -> bool:
    """Whether it is application/json, with no charset but UTF-8 (RFC 8259 knows no other)."""
    kind, *parameters = (part.strip().lower() for part in media_type.split(b";"))
    charsets = [p.partition(b"=")[2].strip(b'"') for p in parameters if p.startswith(b"charset")]
    return kind == JSON and all(charset in (b"utf-8", b"utf8", b"us-ascii") for charset in charsets)


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes; a longer one, chunked or not, is left unread.

    Raises:
        HttpProblem: 413 as soon as the limit is passed, 400 when the client goes away.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        if message["type"] == "http.disconnect":
            raise problem(INVALID, "the client went away")
        return body
    parts = [body]
    size = len(body)
    while size <= limit and message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problem(INVALID, "the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        raise problem(TOO_LARGE, f"the body is longer than {limit} bytes")
    return b"".join(parts)


log = logging.getLogger("incumbent.http")


def log_fault(path: str, error: Exception) -> None:
    """Log an error that the client is told as a fault of ours.

    Its text may hold a value of the event, so only its type and place are logged.
    """
    if translate(error).status == 500:
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s failed: %s\n%s", path, type(error).__name__, frames)


def note_faults(path: str, answers: Sequence[bytes | Exception]) -> None:
    """Count the events of a list; log and count those that got no answer by a fault of ours.

    The list itself is answered with 200, so nothing else would show them. An error that many events share is
    logged once.
    """
    faults = [fault for fault in answers if not isinstance(fault, bytes) and translate(fault).status >= 500]
    for error in {id(fault): fault for fault in faults}.values():
        log_fault(path, error)
    metrics.RECENT_ANSWERS.add_list(len(answers), len(faults))
    for fault in faults:
        metrics.REFUSED_REQUESTS.labels(path, translate(fault).code).inc()
