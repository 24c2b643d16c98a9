"""A service that others may reach: it asks for API keys, and does not start without any."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bentos.keys import Scope, add_key, revoke_key
from bentos.registry.ports import ModelRef
from tests.support.processes.servers import MODELS, House, Server, event, serving

EVERYWHERE = "0.0.0.0"  # the point of these tests


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("guarded"))
    made.add(MODELS()["1"])
    made.appoint(ModelRef(made.model, "1"), MODELS()["1"].contract_digest)
    return made


@pytest.fixture(scope="module")
def keys(workspace: House) -> dict[str, str]:
    """A token for each scope."""
    scopes: tuple[Scope, ...] = ("score", "label", "admin", "approve")
    return {s: add_key(workspace.settings.keys_file, f"the {s} system", [s], datetime.now(UTC))[1] for s in scopes}


@pytest.fixture(scope="module")
def server(workspace: House, keys: dict[str, str]) -> Iterator[Server]:
    with serving(workspace, EVERYWHERE, INCUMBENT_METRICS_ACCESS="admin") as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def said(answer: httpx.Response) -> tuple[int, str]:
    found = answer.json()
    assert set(found) == {"error"}
    return answer.status_code, found["error"]["code"]


@pytest.mark.parametrize("host", [EVERYWHERE, pytest.param("127.0.0.1", marks=pytest.mark.slow)])
def test_a_service_that_needs_keys_and_has_none_says_so_and_ends(tmp_path: Path, host: str) -> None:
    changes: dict[str, Any] = {} if host == EVERYWHERE else {"INCUMBENT_HASH_KEY": "too short"}
    usecase = tmp_path / "private.toml"
    source = (Path(__file__).parents[3] / "bentos" / "usecases" / "fraud" / "usecase.toml").read_text()
    usecase.write_text(source + '\n[privacy]\nhashed = ["customer_id"]\n')
    server = Server(House(tmp_path), host, INCUMBENT_USECASE=str(usecase) if changes else "fraud", **changes)
    try:
        assert server.process.wait(60) == 1
        written = server.log.read_text()
        assert "refused:" in written
        assert "Traceback" not in written
        assert ("incumbent keys add" if host == EVERYWHERE else "32 characters") in written
    finally:
        if server.process.poll() is None:
            server.kill()
        else:
            server._clean_up()


def test_every_path_but_the_probes_asks_for_a_key(server: Server) -> None:
    for path in ("/score", "/score/batch", "/labels", "/events"):
        answer = server.post(path, b"{}")
        assert said(answer) == (401, "key_missing")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/model", "/docs.json", "/metrics", "/nowhere"):
        assert said(server.client.get(path)) == (401, "key_missing")
    for path in ("/livez", "/readyz", "/healthz"):
        assert server.client.get(path).status_code == 200


def test_a_key_opens_the_paths_of_its_scope(server: Server, keys: dict[str, str]) -> None:
    label = {"event_id": "t-key-1", "label": 1, "observed_at": "2026-03-04T09:30:00Z", "source": "chargeback"}
    sent: dict[str, tuple[str, Any]] = {
        "/score": ("score", event("t-key-1")),
        "/score/batch": ("score", [event("t-key-2")]),
        "/events": ("score", event("t-key-3")),
        "/labels": ("label", label),
    }
    for path, (scope, body) in sent.items():
        for name, token in keys.items():
            answer = server.client.post(path, json=body, headers=bearer(token))
            if name == scope:
                assert answer.status_code == 200, answer.text
            else:
                assert said(answer) == (403, "scope_missing")
    for token in keys.values():
        assert server.client.get("/model", headers={"x-api-key": token}).status_code == 200
        assert said(server.client.get("/nowhere", headers=bearer(token))) == (404, "not_found")
    assert server.client.get("/metrics", headers=bearer(keys["admin"])).status_code == 200
    assert said(server.client.get("/metrics", headers=bearer(keys["score"]))) == (403, "scope_missing")


def test_a_wrong_key_is_refused_before_the_body_is_read(server: Server, keys: dict[str, str]) -> None:
    for token in (keys["score"] + "x", "inc_000000000000_nothing", "ключ".encode().decode("latin-1")):
        headers = {"x-api-key": token.encode("latin-1")}
        answer = server.client.post("/score", content=b" " * (10 << 20), headers=headers)
        assert said(answer) == (401, "key_invalid")


def test_a_key_that_is_revoked_or_added_while_the_service_runs_counts_within_seconds(
    server: Server, workspace: House
) -> None:
    key, token = add_key(workspace.settings.keys_file, "a visitor", ["score"], datetime.now(UTC))
    _wait_for(server, token, 200)
    revoke_key(workspace.settings.keys_file, key.id, datetime.now(UTC))
    _wait_for(server, token, 401)


def test_refused_keys_are_counted_and_never_written(server: Server, keys: dict[str, str]) -> None:
    server.client.post("/score", json=event("t-key-9"), headers=bearer("inc_feedfeedfeed_secret-4711"))
    text = server.client.get("/metrics", headers=bearer(keys["admin"])).text
    assert 'incumbent_refused_requests_total{usecase="fraud",env="dev",code="key_invalid",path="/score"}' in text
    assert 'code="key_missing",path="other"' in text
    written = server.log.read_text()
    for token in [*keys.values(), "secret-4711", "feedfeedfeed"]:
        assert token not in written
        secret = token.split("_", 2)[-1]  # all of it: a secret may hold underscores itself
        assert len(secret) > 10
        assert secret not in text


@pytest.mark.slow
def test_a_worker_without_keys_does_not_answer_even_where_its_master_let_it_start(workspace: House) -> None:
    # What the master is told and where the socket listens can differ; the worker asks the socket.
    code = "from bentos.service import Incumbent; Incumbent.to_asgi()"
    environment = workspace.environment(INCUMBENT_KEYS=str(workspace.home / "none.json"))
    command = [str(Path(httpx.__file__).parents[4] / "bin" / "python"), "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "incumbent keys add" in done.stderr


def _wait_for(server: Server, token: str, status: int) -> None:
    deadline = time.monotonic() + 600
    while server.client.get("/model", headers=bearer(token)).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)
