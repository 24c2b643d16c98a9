"""The running service over HTTP: answers, and every way to ask wrongly."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.windows.memory import MemoryWindows
from monitoring.core.calendar import TimeWindow
from tests.support.builders import tiny_model
from tests.support.processes.servers import SCHEMA, Server, Shared, event, whole_answer


@pytest.fixture(scope="module")
def server(shared_service: Shared) -> Server:
    return shared_service.get()


def body(**changes: Any) -> bytes:
    return json.dumps(event("t-http", **changes)).encode()


def error_of(answer: httpx.Response) -> str:
    found = answer.json()
    assert set(found) == {"error"}
    assert set(found["error"]) == {"code", "message"}
    return str(found["error"]["code"])


def test_a_good_event_gets_a_score_a_decision_and_the_name_of_the_model(server: Server) -> None:
    answer = server.score(event("t-good"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    features = tiny_model().plan.rows([SCHEMA.event(_typed("t-good"))], MemoryWindows(tiny_model().plan.specs))
    assert found == {
        "event_id": "t-good",
        "score": float(tiny_model().score(features).calibrated[0]),
        "decision": found["score"] >= 0.1,
        "threshold": 0.1,
        "model": {"name": "dev-fraud", "version": "1", "alias": "champion"},
    }


def test_a_retry_gets_the_same_answer_and_another_body_a_conflict(server: Server) -> None:
    first = server.score(event("t-retry"))
    assert server.score(event("t-retry")).content == first.content
    assert server.score(event("t-retry", tx_time="2026-03-01T13:00:00+01:00")).content == first.content
    answer = server.score(event("t-retry", amount=1.0))
    assert (answer.status_code, error_of(answer)) == (409, "conflict")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (body().replace(b"57.16", b"NaN"), ""),
        (body().replace(b"57.16", b"Infinity"), ""),
        (body().replace(b"57.16", b"1e999"), "amount"),
        (body(amount="57.16"), "amount"),
        (body(amount=True), "amount"),
        (body(amount=None), "amount"),
        (body(amount=-0.01), "amount"),
        (body(customer_id=42), "customer_id"),
        (body(customer_id=""), "customer_id"),
        (body(customer_id="c\x00"), "customer_id"),
        (body(tx_time="2026-03-01T12:00:00"), "tx_time"),
        (body(tx_time="yesterday"), "tx_time"),
        (body(tx_time=1772366400), "tx_time"),
        (body(note="x"), "note"),
        (body().replace(b'"amount"', b'"amount":1,"amount"'), "amount"),
        (json.dumps({k: v for k, v in event("t-http").items() if k != "amount"}).encode(), "amount"),
        (body().replace(b"c-0042", b"\xff\xfe"), ""),
        (body().replace(b"c-0042", b"\\ud800"), ""),
        (b"[" * 100_000 + b"]" * 100_000, ""),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ""),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, ""),
        (b"", ""),
        (b"null", ""),
        (b"[]", ""),
        (body() + b"x", ""),
    ],
)
def test_a_malformed_event_is_refused_with_400_and_its_value_is_not_repeated(
    server: Server, bad: bytes, named: str
) -> None:
    answer = server.post("/score", bad)
    assert (answer.status_code, error_of(answer)) == (400, "invalid")
    assert named in answer.text
    assert "57.16" not in answer.text
    assert "c-0042" not in answer.text


def test_text_of_any_language_is_taken(server: Server) -> None:
    for number, name in enumerate(("고객-일", "café", "👩‍👩‍👧‍👦", "𝒳")):
        assert server.score(event(f"t-lang-{number}", customer_id=name)).status_code == 200


def test_a_long_body_is_refused_before_it_is_read_chunked_or_not(server: Server) -> None:
    for path in ("/score", "/score/batch", "/score/list", "/events", "/late", "/labels", "/actions"):
        answer = server.post(path, b" " * (10 << 20))
        assert (answer.status_code, error_of(answer)) == (413, "too_large")
        chunks = (b" " * 65_536 for _ in range(160))
        answer = server.client.post(path, content=chunks, headers={"content-type": "application/json"})
        assert (answer.status_code, error_of(answer)) == (413, "too_large")


@pytest.mark.parametrize("path", ["/score", "/score/batch", "/score/list", "/events", "/late", "/labels", "/actions"])
def test_a_body_of_great_depth_is_refused_by_every_path(server: Server, path: str) -> None:
    for deep in (b"[" * 100_000 + b"]" * 100_000, b'[{"event":' * 50_000 + b"1" + b"}]" * 50_000):
        answer = server.post(path, deep)
        assert (answer.status_code, error_of(answer)) == (400, "invalid")


def test_a_refused_length_needs_no_body_at_all(server: Server) -> None:
    answer = _raw(
        server,
        b"POST /score HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n",
    )
    assert (answer.status_code, error_of(answer)) == (413, "too_large")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/vnd.bentoml+pickle", "multipart/form-data", "text/json"]
)
def test_only_json_is_read(server: Server, media_type: str) -> None:
    for path in ("/score", "/score/batch", "/score/list", "/events", "/late", "/labels", "/actions"):
        answer = server.post(path, body(), media_type)
        assert (answer.status_code, error_of(answer)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/score", "/score?explain=true", "/score/batch", "/score/list", "/events", "/labels",
                                  "/actions", "/late"])  # fmt: skip
def test_a_web_page_of_another_site_may_not_post_and_a_foreign_name_leads_nowhere(server: Server, path: str) -> None:
    row = event(f"t-forged-{path.strip('/').replace('/', '-')}")
    sent = json.dumps([row] if path in ("/score/batch", "/score/list") else row)
    json_type = {"Content-Type": "application/json"}
    for headers, status, code in (
        ({"Origin": "https://evil.example"}, 403, "foreign_origin"),
        ({"Origin": "null"}, 403, "foreign_origin"),
        ({"Origin": "https://evil.example", "Content-Type": "text/plain"}, 403, "foreign_origin"),
        ({"Host": f"evil.example:{server.port}"}, 421, "foreign_host"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421, "foreign_host"),
    ):
        answer = server.client.post(path, content=sent, headers=json_type | headers)
        assert (answer.status_code, error_of(answer)) == (status, code), headers
        assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = server.client.options(path, headers=asked)
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers
    if path == "/score":
        own = {"Origin": server.url, "Host": f"127.0.0.1:{server.port}"}
        assert server.client.post(path, content=sent, headers=json_type | own).status_code == 200


@pytest.mark.parametrize("path", ["/", "/model", "/metrics", "/readyz", "/docs.json", "/absent"])
def test_nothing_is_read_under_a_foreign_name(server: Server, path: str) -> None:
    assert server.client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert server.client.get(path, headers={"Origin": "https://evil.example"}).status_code == 403


def test_another_method_is_refused(server: Server) -> None:
    for path, method in (("/score", "GET"), ("/labels", "PUT"), ("/score/batch", "DELETE"), ("/model", "POST")):
        answer = server.client.request(method, path)
        assert (answer.status_code, error_of(answer)) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/score/batch", "/score/list"])
def test_a_list_is_answered_in_order(server: Server, path: str) -> None:
    rows = [event(f"t{path}-{n}", amount=n / 7) for n in range(1000)]
    answer = server.post(path, json.dumps(rows).encode())
    assert answer.status_code == 200
    found = answer.json()
    assert [row["event_id"] for row in found] == [row["transaction_id"] for row in rows]
    assert server.score(rows[500]).json() == found[500]


def test_one_road_of_lists_is_the_adaptive_batching_of_bentoml(server: Server) -> None:
    server.post("/score/list", json.dumps([event("t-adaptive")]).encode())
    assert any("adaptive_batch_size" in name for name in server.metrics())


def test_a_malformed_row_refuses_the_list_and_names_the_row(server: Server) -> None:
    rows = [event("t-row-0"), event("t-row-1", amount="x")]
    answer = server.post("/score/batch", json.dumps(rows).encode())
    assert (answer.status_code, error_of(answer)) == (400, "invalid")
    assert "event 1" in answer.text
    assert server.score(event("t-row-0", amount=3.0)).status_code == 200


def test_a_conflicting_row_fails_alone(server: Server) -> None:
    server.score(event("t-mixed"))
    found = server.post("/score/batch", json.dumps([event("t-mixed", amount=1.0), event("t-mixed-2")]).encode()).json()
    assert found[0] == {
        "event_id": "t-mixed",
        "error": {"code": "conflict", "message": "this event id was answered before, with another body"},
    }
    assert "score" in found[1]


def test_a_list_of_another_size_is_refused(server: Server) -> None:
    small = {"customer_id": "c", "terminal_id": "m", "tx_time": "2026-03-01T12:00:00Z", "amount": 1}
    for count in (0, 1001):
        rows = [{"transaction_id": str(n)} | small for n in range(count)]
        answer = server.post("/score/batch", json.dumps(rows, separators=(",", ":")).encode())
        assert answer.status_code in (400, 413)


def test_labels_are_accepted_and_checked(server: Server) -> None:
    good = {"event_id": "t-good", "label": 1, "observed_at": "2026-03-05T00:00:00Z", "source": "analyst"}
    for said, status in (
        (good, 200),
        ([good, good | {"event_id": "t-retry", "label": 0}], 200),
        (good | {"source": "gossip"}, 400),
        (good | {"label": "1"}, 400),
        (good | {"note": "x"}, 400),
        (good | {"observed_at": "2199-01-01T00:00:00Z"}, 422),
        (good | {"label": 0}, 409),
    ):
        assert server.post("/labels", json.dumps(said).encode()).status_code == status


def test_unknown_paths_do_not_grow_the_metrics(server: Server) -> None:
    server.score(event("t-paths"))
    before = server.metrics()
    for n in range(300):
        answer = server.client.get(f"/nope/{n}")
        assert (answer.status_code, error_of(answer)) == (404, "not_found")
        assert server.client.get(f"/static_content/{n}").status_code == 404
    assert len(set(server.metrics()) - set(before)) <= 4


def test_every_answer_is_counted_where_dashboards_look(server: Server) -> None:
    def counted() -> float:
        found = server.metrics()
        wanted = ("incumbent_request_total", 'endpoint="/score"', 'http_response_code="200"')
        return sum(value for name, value in found.items() if all(word in name for word in wanted))

    before = counted()
    for n in range(5):
        server.score(event(f"t-count-{n}"))
    assert counted() == before + 5
    found = server.metrics()
    assert found["incumbent_ready"] == 1.0
    assert found["incumbent_served_version"] == 1.0
    assert found['incumbent_alias_version{role="champion"}'] == 1.0
    assert found["incumbent_log_dropped_records"] == 0.0
    assert any('incumbent_scored_events_total{alias="champion",decision="' in name for name in found)


def test_what_is_in_office_is_told_with_its_digest(server: Server) -> None:
    card = server.card()
    office = card["in_office"]
    assert (office["name"], office["version"], office["alias"]) == ("dev-fraud", "1", "champion")
    assert office["contract_digest"] == tiny_model(threshold=0.1).contract_digest
    assert card["roles"] == {"champion": "1"}
    assert card["contract_digests"] == {"1": office["contract_digest"]}
    assert card["registry"]["reachable"]
    assert card["refused"] == {}


def test_the_api_page_describes_what_the_service_takes_and_gives(server: Server) -> None:
    page = server.client.get("/docs.json").json()
    assert set(page["paths"]) >= {"/score", "/score/batch", "/labels", "/model", "/readyz", "/livez", "/metrics"}
    responses = page["paths"]["/score"]["post"]["responses"]
    assert set(responses) >= {"200", "400", "409", "413", "415", "429", "503"}
    example = page["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = server.score(example)
    assert answer.status_code == 200
    schemas = page["components"]["schemas"]
    jsonschema.validate(answer.json(), schemas["Answer"])
    jsonschema.validate(example, schemas["Event"])
    jsonschema.validate(server.post("/score", b"{}").json(), schemas["Error"])
    assert server.client.get("/").status_code == 200
    assert server.client.get("/static_content/swagger-ui.css").status_code == 200


def test_probes_answer(server: Server) -> None:
    assert server.client.get("/livez").status_code == 200
    assert server.client.get("/readyz").status_code == 200


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.dictionaries(st.sampled_from(sorted(event("x"))), _JSON, max_size=5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | _JSON.map(lambda v: json.dumps(v).encode())
    | _FIELDS.map(lambda v: json.dumps(event("t-fuzz") | v).encode())
)
def test_no_body_breaks_the_service(server: Server, sent: bytes) -> None:
    for path in ("/score", "/score/batch", "/score/list", "/events", "/labels"):
        answer = server.post(path, sent)
        assert answer.status_code in (200, 400, 409, 422)
        answer.json()


def test_no_value_of_an_event_is_in_the_log_of_the_process(server: Server) -> None:
    server.post("/score", body(customer_id="c-secret-4711", amount="secret-amount"))
    server.post("/score/batch", json.dumps([event("t-secret", customer_id="c-secret-4711", note=1)]).encode())
    written = server.log.read_text()
    for word in ("secret", "c-0042", "57.16", "t-good"):
        assert word not in written


def test_the_log_holds_exactly_what_was_answered(server: Server) -> None:
    sent = [event(f"t-log-{n}", amount=float(n), customer_id=f"c-{n % 4}") for n in range(40)]
    answers = {row["transaction_id"]: server.score(row).json() for row in sent}
    server.workspace.ship()
    window = TimeWindow(_time("2026-01-01"), _time("2026-04-01"))
    with server.workspace.store() as store:
        found = store.log.answers("fraud", window).set_index("event_id")
        names, features = store.log.features("fraud", window)
        account = server.metrics()
    for name, said in answers.items():
        row = found.loc[name]
        assert (row["score"], row["decision"], row["threshold"]) == (said["score"], said["decision"], said["threshold"])
        assert (row["model"], row["alias"], row["origin"]) == ("dev-fraud/1", "champion", "live")
    assert account["incumbent_log_accepted_records"] >= len(found)
    assert tuple(names) == tiny_model().plan.names
    logged = features.set_index("event_id").loc[list(answers), list(names)].to_numpy(np.float32)
    scores = tiny_model(threshold=0.1).score(logged)
    assert scores.calibrated.tolist() == [said["score"] for said in answers.values()]


def _typed(name: str) -> dict[str, Any]:
    return event(name) | {"tx_time": _time("2026-03-01T12:00:00")}


def _time(text: str) -> Any:
    from datetime import UTC, datetime

    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _raw(server: Server, request: bytes) -> httpx.Response:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(request)
        return whole_answer(connection)


def test_the_process_that_only_starts_workers_loads_no_library_of_data_or_databases(server: Server) -> None:
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/pydantic_core/" in mapped  # the libraries of the process do stand here
    assert not [name for name in ("numpy", "pandas", "pyarrow", "sqlalchemy", "xgboost") if f"/{name}/" in mapped]
