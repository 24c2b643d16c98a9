"""Notices: to a webhook that works, fails or is not there."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from flows.steps.notify import Notice, notify
from tests.hooks import Hook, webhook

NOTICE = Notice("retraining", "dev", "fraud", "dev-fraud", "retrain", "severe drift (amount)", "2026-05-01T00:00:00Z")


@pytest.fixture
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    with webhook(request.param) as server:
        yield server


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
