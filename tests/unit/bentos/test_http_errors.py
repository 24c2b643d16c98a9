"""Replies and bodies without a framework."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest

from bentos import http_errors
from bentos.errors import DuplicateEvent, EventError, ModelNotReady, SpoolFull
from bentos.http_errors import HttpProblem, Message, Receive


def arriving(*parts: bytes, length: bool = False) -> Receive:
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)
    ]
    taken = iter(messages)

    async def receive() -> Message:
        return next(taken)

    return receive


def status_of(headers: Iterable[tuple[bytes, bytes]], limit: int = 100) -> int:
    try:
        http_errors.check_headers(headers, limit)
    except HttpProblem as exc:
        return exc.status
    return 200


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json; charset="UTF-8"',
    ],
)
def test_json_in_utf8_is_taken(media_type: bytes) -> None:
    assert status_of([(b"content-type", media_type)]) == 200


@pytest.mark.parametrize(
    "media_type",
    [
        b"",
        b"text/plain",
        b"text/json",
        b"application/json; charset=latin-1",
        b"multipart/form-data",
        b"application/jsonx",
    ],
)
def test_any_other_content_type_is_refused(media_type: bytes) -> None:
    assert status_of([(b"content-type", media_type)]) == 415


def test_a_request_without_content_type_is_refused() -> None:
    assert status_of([]) == 415


def test_a_declared_length_above_the_limit_is_refused_before_the_body_is_read() -> None:
    assert status_of([(b"content-type", b"application/json"), (b"content-length", b"101")]) == 413
    assert status_of([(b"content-type", b"application/json"), (b"content-length", b"100")]) == 200
    assert status_of([(b"content-type", b"application/json"), (b"content-length", b"-1")]) == 400


def test_a_chunked_body_is_put_together() -> None:
    assert asyncio.run(http_errors.read_body(arriving(b"[1,", b"2", b"]"), 10)) == b"[1,2]"


def test_a_chunked_body_is_given_up_as_soon_as_it_passes_the_limit() -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    with pytest.raises(HttpProblem) as found:
        asyncio.run(http_errors.read_body(receive, 100))
    assert found.value.status == 413
    assert read == 2


def test_a_client_who_goes_away_ends_the_reading() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(HttpProblem):
        asyncio.run(http_errors.read_body(receive, 100))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EventError("column 'amount': allowed is a number"), 400, "invalid"),
        (DuplicateEvent("answered before"), 409, "conflict"),
        (ModelNotReady("nobody"), 503, "not_ready"),
        (SpoolFull("full"), 503, "log_full"),
        (RuntimeError("amount is 57.16"), 500, "internal"),
    ],
)
def test_an_error_becomes_a_status_and_a_word(error: Exception, status: int, code: str) -> None:
    found = http_errors.refusal(error)
    assert (found.status, json.loads(found.body)["error"]["code"]) == (status, code)


def test_the_text_of_a_foreign_error_is_not_told_to_clients() -> None:
    assert b"57.16" not in http_errors.refusal(RuntimeError("amount is 57.16")).body
