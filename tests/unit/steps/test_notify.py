"""Notices: to a webhook that works, fails or is not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from flows.steps.notify import Notice, notify

NOTICE = Notice("retraining", "dev", "fraud", "dev-fraud", "retrain", "severe drift (amount)", "2026-05-01T00:00:00Z")


class Hook(HTTPServer):
    """A webhook that gives scripted answers, then 204."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.answers, self.bodies = answers, list[Any]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token-4711"


class Receiver(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    with Hook(list(request.param)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("hook", [()], indirect=True)
def test_a_webhook_gets_the_notice_as_json(hook: Hook) -> None:
    assert notify(NOTICE, hook.url)
    assert hook.bodies[0]["text"] == "severe drift (amount)"
    assert set(hook.bodies[0]) == {"kind", "environment", "usecase", "model", "outcome", "text", "as_of"}


@pytest.mark.parametrize("hook", [(503, 429)], indirect=True)
def test_a_webhook_that_stumbles_is_asked_again(hook: Hook) -> None:
    assert notify(NOTICE, hook.url, pause_s=0.0)
    assert len(hook.bodies) == 3


@pytest.mark.parametrize("hook", [(404,)], indirect=True)
def test_a_refusal_is_final_and_told_without_the_url(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    assert not notify(NOTICE, hook.url, pause_s=0.0)
    assert len(hook.bodies) == 1
    assert "answered 404" in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/token-4711", "file:///etc/token-4711", "http://[token-4711"])
def test_nobody_there_breaks_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not notify(NOTICE, url, pause_s=0.0)
    assert "INCUMBENT_NOTIFY_URL" in caplog.text
    assert "4711" not in caplog.text


def test_without_a_webhook_the_log_tells(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flows.steps.notify"):
        assert not notify(NOTICE, "")
    assert "retraining of dev-fraud: retrain: severe drift (amount)" in caplog.text
