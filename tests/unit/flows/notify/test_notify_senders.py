"""Sending one notice: to a webhook or through Apprise, to receivers that work, fail or are not there."""

from __future__ import annotations

import email
import logging
from collections.abc import Iterator
from dataclasses import fields, replace
from email import policy

import pytest

from flows.notify.notice import Notice, with_id
from flows.notify.senders import send
from flows.notify.targets import Target
from tests.support.hooks import Hook, webhook
from tests.support.processes.mail import mail_server

NOTICE = with_id(
    Notice(
        "rollback", "dev", "fraud", "dev-fraud", "automatic", "Version 2 was rolled back.", "2026-05-01T00:00:00Z",
        title="Rolled back to version 1", since="2026-05-01T09:30:00+00:00", todo="Look at incumbent status.",
        link="http://127.0.0.1:4200/runs",
    ),
    "decision 7",
)  # fmt: skip
OF_OLD = {"kind", "environment", "usecase", "model", "outcome", "text", "as_of"}


@pytest.fixture
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    with webhook(getattr(request, "param", ())) as server:
        yield server


def to(*urls: str) -> Target:
    return Target("oncall", urls)


def test_a_webhook_gets_the_notice_as_json(hook: Hook) -> None:
    assert send(NOTICE, to(hook.url)) == ""
    (body,) = hook.bodies
    assert {name: body[name] for name in OF_OLD} == {name: getattr(NOTICE, name) for name in OF_OLD}
    assert set(body) == {field.name for field in fields(Notice)}
    assert body["id"] == NOTICE.id


@pytest.mark.parametrize(("hook", "code"), [((404,), 404), ((503,), 503), ((302,), 302)], indirect=["hook"])
def test_a_refusal_is_told_without_the_address(hook: Hook, code: int) -> None:
    assert send(NOTICE, to(hook.url)) == f"it answered {code}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/token-4711", "file:///etc/token-4711", "http://[token-4711", "token-4711",
        "json://user:token-4711@127.0.0.1:1/token-4711", "nonsense://token-4711",
        "mailto://user:token-4711@127.0.0.1:1?from=a@example.org&to=token-4711@example.org&mode=insecure",
    ],
)  # fmt: skip
def test_nobody_there_is_told_without_the_address(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        problem = send(NOTICE, to(url))
    assert problem
    assert "4711" not in problem + caplog.text


@pytest.mark.parametrize("hook", [(), (500,)], indirect=True)
def test_apprise_sends_json_and_no_log_holds_the_token(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        problem = send(NOTICE, to(hook.url.replace("http://", "json://")))
    (body,) = hook.bodies
    assert problem in ("", "json: it answered 500")
    assert body["title"] == "[fraud · dev] Rolled back to version 1"
    for part in ("Version 2 was rolled back.", "Where: fraud · dev", "Since: 1 May 2026 09:30 UTC",
                 "What to do: Look at incumbent status.", "http://127.0.0.1:4200/runs", NOTICE.id[:16]):  # fmt: skip
        assert part in body["message"]
    assert "4711" not in problem + caplog.text


def test_a_mail_says_what_happened_where_since_when_and_what_to_do() -> None:
    with mail_server() as server:
        url = f"mailto://127.0.0.1:{server.port}?from=home@example.org&to=desk@example.org&mode=insecure&format=text"
        assert send(NOTICE, to(url)) == ""
        (text,) = server.mails
    mail = email.message_from_string(text, policy=policy.default)
    body = mail.get_body(("plain",))
    assert body is not None
    assert mail["subject"] == "[fraud · dev] Rolled back to version 1"
    assert "Version 2 was rolled back." in body.get_content()
    assert "What to do: Look at incumbent status." in body.get_content()


def test_one_of_two_addresses_that_fails_is_a_failure(hook: Hook) -> None:
    assert send(NOTICE, to("http://127.0.0.1:1/x", hook.url)).startswith("nobody answers")
    assert len(hook.bodies) == 1


def test_a_target_without_an_address_names_its_variable() -> None:
    assert send(NOTICE, Target("oncall", ())) == "INCUMBENT_NOTIFY_ONCALL is not set"
    assert "4711" not in repr(to("http://127.0.0.1/token-4711"))


def test_the_same_matter_has_the_same_id_and_another_one_has_not() -> None:
    assert with_id(replace(NOTICE, text="in other words"), "decision 7").id == NOTICE.id
    assert with_id(NOTICE, "decision 8").id != NOTICE.id
