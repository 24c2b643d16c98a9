"""Keys in front of the paths: when they are needed, and what each path asks for."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.api.key_gate import Gate, is_loopback, keys_needed, listening_address, make_gate, token_of
from bentos.api.routes import ROUTES
from bentos.errors import (
    AccessError,
    HostRefused,
    KeyFileError,
    KeyInvalid,
    KeyMissing,
    OriginRefused,
    ScopeMissing,
)
from bentos.http_errors import refusal
from bentos.keys import KeyRing, Scope, add_key
from bentos.settings import read_settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

NEEDS: dict[str, Scope] = {
    "/score": "score",
    "/score/batch": "score",
    "/score/list": "score",
    "/events": "score",
    "/actions": "score",
    "/late": "score",
    "/labels": "label",
}
OPEN = {"/livez", "/readyz", "/healthz", "/metrics"}


def headers(token: str | None) -> list[tuple[bytes, bytes]]:
    return [] if token is None else [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]


def gate(folder: Path, *scopes: Scope, closed_metrics: bool = False) -> tuple[Gate, str]:
    _, token = add_key(folder / "keys.json", "a test", scopes, NOW)
    return Gate(KeyRing.load(folder / "keys.json"), "admin" if closed_metrics else None), token


def test_every_path_of_the_table_stands_here_with_its_scope() -> None:
    """So that a slip in the table opens nothing unseen."""
    scopes = {route.path: route.scope for route in ROUTES}
    assert scopes == {**NEEDS, **dict.fromkeys(OPEN, "open"), "/model": "any"}


def test_without_a_ring_everybody_passes() -> None:
    for path in ("/score", "/model", "/anything"):
        Gate(None).admit(path, [])


@pytest.mark.parametrize("path", sorted(NEEDS))
def test_a_path_asks_for_its_own_scope(tmp_path: Path, path: str) -> None:
    right, fitting = gate(tmp_path / "right", NEEDS[path])
    right.admit(path, headers(fitting))
    wrong, other = gate(tmp_path / "wrong", "approve", "admin")
    with pytest.raises(ScopeMissing):
        wrong.admit(path, headers(other))
    with pytest.raises(KeyMissing):
        right.admit(path, headers(None))
    with pytest.raises(KeyInvalid):
        right.admit(path, headers(other))


def test_probes_and_metrics_need_no_key_and_everything_unlisted_needs_some_key(tmp_path: Path) -> None:
    closed, token = gate(tmp_path, "label")
    for path in OPEN:
        closed.admit(path, [])
    for path in ("/", "/model", "/docs.json", "/a-path-of-tomorrow", "/score/"):
        closed.admit(path, headers(token))
        with pytest.raises(KeyMissing):
            closed.admit(path, [])


def test_metrics_can_be_closed(tmp_path: Path) -> None:
    closed, token = gate(tmp_path / "a", "score", closed_metrics=True)
    with pytest.raises(ScopeMissing):
        closed.admit("/metrics", headers(token))
    closed.admit("/livez", [])
    opened, admin = gate(tmp_path / "b", "admin", closed_metrics=True)
    opened.admit("/metrics", headers(admin))


@pytest.mark.parametrize(
    ("sent", "token"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"x-api-key", b" abc ")], "abc"),
        ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"abc")], "abc"),
        ([(b"x-api-key", b"other"), (b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"Basic dTpw")], None),
        ([(b"authorization", b"Bearer ")], ""),
        ([], None),
        ([(b"x-api-key", b"\xff\xfe")], "\xff\xfe"),
    ],
)
def test_a_key_is_found_in_either_header(sent: list[tuple[bytes, bytes]], token: str | None) -> None:
    assert token_of(sent) == token


def test_a_refused_key_becomes_401_or_403_and_is_not_repeated(tmp_path: Path) -> None:
    closed, token = gate(tmp_path, "label")
    for sent, status, code in [(None, 401, "key_missing"), (token + "x", 401, "key_invalid"), (token, 403, "scope")]:
        with pytest.raises((KeyMissing, KeyInvalid, ScopeMissing)) as refused:
            closed.admit("/score", headers(sent))
        said = refusal(refused.value)
        assert said.status == status
        assert code.encode() in said.body
        assert token[4:].encode() not in said.body
        assert (said.headers == ((b"www-authenticate", b"Bearer"),)) == (status == 401)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
        ("::", False), ("10.0.0.5", False), ("example.org", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_keys_are_needed_wherever_others_may_reach_the_service(address: str | None, inside: bool) -> None:
    assert is_loopback(address) is inside
    assert keys_needed(read_settings(), address) is not inside
    assert keys_needed(read_settings(keys_required="always"), address)


def test_a_service_for_others_does_not_start_without_a_key_file(tmp_path: Path) -> None:
    settings = read_settings(home=tmp_path)
    assert not make_gate(settings, "127.0.0.1").closed
    for address, named in [("0.0.0.0", "0.0.0.0"), (None, "cannot be told")]:  # nothing listens
        with pytest.raises(KeyFileError) as refused:
            make_gate(settings, address)
        for word in (named, "incumbent keys add", "python -m bentos.keys add", "INCUMBENT_KEYS", str(tmp_path)):
            assert word in str(refused.value)
    (tmp_path / "keys.json").write_text('{"format": 1, "keys": []}')
    with pytest.raises(KeyFileError, match="holds none"):
        make_gate(settings, "10.0.0.5")
    add_key(tmp_path / "keys.json", "a test", ["score"], NOW)
    assert make_gate(settings, "10.0.0.5").closed
    assert not make_gate(settings, "::1").closed


SITE = [(b"content-type", b"application/json")]


def site(host: str | None, origin: str | None = None) -> list[tuple[bytes, bytes]]:
    named = [] if host is None else [(b"host", host.encode("latin-1"))]
    return [*named, *SITE, *([] if origin is None else [(b"origin", origin.encode("latin-1"))])]


def test_without_keys_the_service_answers_under_names_of_this_machine_and_to_its_own_page(tmp_path: Path) -> None:
    local = make_gate(read_settings(home=tmp_path, allowed_hosts="score.example"), "127.0.0.1")
    for path in ("/score", "/events", "/labels", "/actions", "/model", "/metrics", "/livez", "/"):
        for _ in range(2):  # the second time the name is known
            local.admit(path, site("127.0.0.1:3000"))
            local.admit(path, site("localhost:3000", "http://localhost:3000"))
            local.admit(path, site("score.example"))
            for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.5", "", None):
                with pytest.raises(HostRefused):
                    local.admit(path, site(host))
            with pytest.raises(HostRefused):
                local.admit(path, site("localhost") + site("evil.example"))
            for origin in ("https://evil.example", "null", "http://127.0.0.1:8888", ""):
                with pytest.raises(OriginRefused):
                    local.admit(path, site("127.0.0.1:3000", origin))


def test_refusals_by_name_are_told_apart_and_repeat_nothing(tmp_path: Path) -> None:
    local = make_gate(read_settings(home=tmp_path), "::1")
    answers = []
    for headers_of in (site("evil.example"), site("localhost", "https://evil.example")):
        with pytest.raises(AccessError) as refused:
            local.admit("/score", headers_of)
        answers.append(refusal(refused.value))
    assert [answer.status for answer in answers] == [421, 403]
    assert all(b"evil" not in answer.body for answer in answers)


def test_with_keys_any_name_may_lead_here(tmp_path: Path) -> None:
    closed, token = gate(tmp_path, "score")
    closed.admit("/score", [*headers(token), *site("score.bank.example", "https://desk.bank.example")])


def test_many_good_names_do_not_fill_the_memory(tmp_path: Path) -> None:
    local = make_gate(read_settings(home=tmp_path), "127.0.0.1")
    for port in range(1000):
        local.admit("/score", site(f"localhost:{port}"))
    assert len(local._known) <= 64


def test_the_socket_says_where_it_listens() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.2", 0))
        words = ["worker", "--fd", str(listening.fileno()), "--other", "x"]
        assert listening_address(words) == "127.0.0.2"
        assert listening.getsockname()[0] == "127.0.0.2"  # the worker's own socket is still open
    for words in ([], ["--fd"], ["--fd", "none"], ["--fd", "99999"]):
        assert listening_address(words) is None
