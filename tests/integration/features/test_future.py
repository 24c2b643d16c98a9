"""The running service: what is dated in the future leaves no trace on any road, and real events go on counting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from bentos.spool.shipper import accounting
from monitoring.core.calendar import TimeWindow
from monitoring.store.database.tables import quarantine
from tests.support.builders import tiny_model
from tests.support.processes.redis_server import redis_server
from tests.support.processes.servers import House, Server, event, serving

WILD = "2099-01-01T00:00:00Z"
COUNT = "customer_count_7d"


@pytest.fixture(scope="module", params=["memory", "redis"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = House(tmp_path_factory.mktemp("future"))
    model = tiny_model(threshold=0.1)
    workspace.appoint(workspace.add(model), model.contract_digest)
    if request.param == "memory":
        with serving(workspace) as found:
            yield found
        return
    with redis_server() as redis, serving(workspace, INCUMBENT_REDIS_URL=redis.url) as found:
        yield found


def send(server: Server, path: str, said: Any) -> tuple[int, Any]:
    answer = server.post(path, json.dumps(said).encode())
    return answer.status_code, answer.json()


def real(name: str, minute: int, customer: str = "c-real") -> dict[str, Any]:
    time = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minute)
    return event(name, tx_time=time.isoformat(), customer_id=customer)


def refused(server: Server, kind: str) -> float:
    return sum(
        value for name, value in server.metrics().items()
        if name.startswith("incumbent_refused_rows_total") and f'kind="{kind}"' in name
    )  # fmt: skip


def counted(server: Server, name: str) -> float:
    """The count over 7 days that an event was scored with."""
    server.workspace.ship()
    with server.workspace.store() as store:
        _, found = store.log.features("fraud", TimeWindow(datetime.now(UTC) - timedelta(days=30), datetime.now(UTC)))
    value: float = found.set_index("event_id").loc[name, COUNT]
    return value


def test_a_thousand_events_of_2099_change_nothing_for_anybody(server: Server) -> None:
    assert send(server, "/events", [real(f"t-{n}", n + 10) for n in range(136)])[1]["accepted"] == 136
    before = refused(server, "event")
    wild = [event(f"w-{n}", tx_time=WILD, customer_id="c-real") for n in range(1000)]
    status, said = send(server, "/events", wild)
    assert (status, said["accepted"], said["conflicts"]) == (200, 0, [])
    assert [row["at"] for row in said["refused"]] == list(range(1000))
    assert refused(server, "event") == before + 1000
    assert send(server, "/events", [real(f"u-{n}", 5) for n in range(200)])[1]["accepted"] == 200
    assert server.score(real("probe", 0)).status_code == 200
    assert counted(server, "probe") == 337
    assert server.client.get("/readyz").status_code == 200
    assert server.metrics()["incumbent_too_late_events_total"] == 0


def test_every_road_refuses_with_one_sentence_and_lists_row_by_row(server: Server) -> None:
    wild, good = event("w-road", tx_time=WILD, customer_id="c-road"), real("t-road", 3, "c-road")
    for path in ("/score", "/score?explain=true", "/events"):
        status, said = send(server, path, wild)
        assert (status, said["error"]["code"]) == (422, "unprocessable")
        assert said["error"]["message"].startswith(f"tx_time {WILD} lies in the future: the machine's clock says 20")
        assert said["error"]["message"].endswith("and at most 1h ahead is allowed")
    for path in ("/score/batch", "/score/batch?explain=true", "/score/list"):
        status, said = send(server, path, [good, wild, good])
        assert (status, [row.get("error", {}).get("code") for row in said]) == (200, [None, "unprocessable", None])
    reports = [{"event": one, "decision": True, "reason": "deadline"} for one in (wild, real("t-late", 3, "c-road"))]
    status, said = send(server, "/late", reports)
    assert (status, said["accepted"], [row["at"] for row in said["refused"]]) == (200, 1, [0])
    assert send(server, "/late", reports[0])[0] == 422
    label = {"event_id": "t-road", "label": 1, "observed_at": WILD, "source": "analyst"}
    action = {"event_id": "t-road", "action": "block", "by": "rule", "taken_at": WILD}
    for path, kind, row, column in (
        ("/labels", "label", label, "observed_at"),
        ("/actions", "action", action, "taken_at"),
    ):
        before = refused(server, kind)
        assert send(server, path, row)[0] == 422
        status, said = send(server, path, [row, row | {column: "2026-03-01T00:00:00Z"}])
        assert (status, said["accepted"], [one["at"] for one in said["refused"]]) == (200, 1, [0])
        assert refused(server, kind) == before + 2
    assert server.score(real("probe-road", 0, "c-road")).status_code == 200
    assert counted(server, "probe-road") == 3, "the good one, the late one and itself"
    assert server.score(real("w-road", 0, "c-road")).status_code == 200, "the refused id is free for the true event"


def test_what_was_refused_lies_in_quarantine_and_the_figures_balance(server: Server) -> None:
    send(server, "/events", event("w-kept", tx_time=WILD))
    server.workspace.ship()
    with server.workspace.store() as store:
        found = accounting(store, server.workspace.settings.spool("fraud"), "fraud")
        assert found.is_balanced
        with store.database.read() as connection:
            query = select(quarantine.c.reason, func.count()).group_by(quarantine.c.reason)
            kept = {str(reason): int(rows) for reason, rows in connection.execute(query)}
            body = connection.execute(select(quarantine.c.payload).order_by(quarantine.c.quarantine_id.desc())).first()
        assert set(kept) <= {"in_future: event", "in_future: label", "in_future: action"}
        assert found.quarantined == sum(kept.values())
        assert store.log.span("fraud")[2] < datetime.now(UTC) + timedelta(hours=1)  # type: ignore[index]  # there are events
    assert body is not None
    assert json.loads(body[0])["transaction_id"] == "w-kept"


def test_after_a_restart_the_windows_are_those_of_the_real_events(tmp_path: Path) -> None:
    workspace = House(tmp_path)
    model = tiny_model(threshold=0.1)
    workspace.appoint(workspace.add(model), model.contract_digest)
    with serving(workspace) as server:
        send(server, "/events", [real(f"t-{n}", n + 1) for n in range(5)])
        send(server, "/score/batch", [event(f"w-{n}", tx_time=WILD, customer_id="c-real") for n in range(300)])
        server.kill()
    with serving(workspace) as server:
        assert server.score(real("probe", 0)).status_code == 200
        assert counted(server, "probe") == 6
        assert server.metrics()["incumbent_logged_future_events"] == 0
