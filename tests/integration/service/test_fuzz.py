"""Bodies generated from the service's own OpenAPI document: none breaks it, and none leaves a trace in its output."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.registry.ports import ModelRef
from bentos.usecase.limits import EARLIEST, LATEST
from monitoring.core.calendar import TimeWindow
from tests.integration.service.test_canary import scribing
from tests.support.openapi_bodies import bodies, telling
from tests.support.processes.servers import MODELS, House, Server, event, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = House(tmp_path_factory.mktemp("fuzz"))
    workspace.add(MODELS()["1"])
    workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
    with scribing(workspace), serving(workspace) as running:
        yield running


def test_no_generated_body_breaks_the_service_or_shows_in_its_output(server: Server) -> None:
    fuzz(server, 600)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_thousand_bodies_do_not_either(server: Server) -> None:
    seen = fuzz(server, 20_000)
    assert seen.total() >= 20_000


def fuzz(server: Server, count: int) -> Counter[tuple[str, int]]:
    """Send so many bodies; returns how often each path answered each status."""
    document = server.client.get("/docs.json").json()
    routes = sorted(path for path, methods in document["paths"].items() if "post" in methods)
    statuses = {path: {int(s) for s in document["paths"][path]["post"]["responses"]} for path in routes}
    sent = {path: bodies(document, path) for path in routes}
    workers, seen, told = server.workers(), Counter[tuple[str, int]](), set[str]()
    # Hypothesis also sends words that it finds in our code: those that stand there anyway tell nothing. The help
    # text of a counter shows with its first count, so each route is used once before.
    for path in routes:
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert server.post(path, json.dumps(example).encode()).status_code == 200
    before = written(server) + json.dumps(document, ensure_ascii=False)

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(routes).flatmap(lambda path: st.tuples(st.just(path), sent[path])))
    def ask(case: tuple[str, bytes]) -> None:
        path, body = case
        answer = server.post(path, body)
        seen[path, answer.status_code] += 1
        told.update(telling(body))
        assert answer.status_code in statuses[path]
        assert answer.status_code < 500
        if answer.status_code >= 400:
            jsonschema.validate(answer.json(), {**document["components"]["schemas"]["Error"]})

    ask()
    print(f"\n{seen.total()} bodies: {dict(sorted(Counter(s for _, s in seen.elements()).items()))}")
    print("\n".join(f"{path:14} {status} {number}" for (path, status), number in sorted(seen.items())))
    assert {path for path, status in seen if status == 200} == set(routes)
    assert {path for path, status in seen if status == 400} == set(routes)
    assert server.workers() == workers
    assert server.score(event("t-after-the-fuzz")).status_code == 200
    shipped(server)
    assert (server.workspace.home / "scribe.log") in server.workspace.home.rglob("*.log")
    after = written(server)
    assert len(told) > count / 2
    assert [value for value in told if value in after and value not in before] == []
    return seen


def shipped(server: Server) -> None:
    """Wait until the scribe has seen the last event, so that whatever it says is said."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        with server.workspace.store() as store:
            found = store.log.answers("fraud", TimeWindow(EARLIEST, LATEST))
        if "t-after-the-fuzz" in set(found["event_id"]):
            return
        time.sleep(0.2)
    raise AssertionError("the scribe did not ship the last event")


def written(server: Server) -> str:
    """The output of the process, its log files and its metrics."""
    files = {server.log, *server.workspace.home.rglob("*.log")}
    return "\n".join([*(file.read_text(errors="replace") for file in files), server.client.get("/metrics").text])
