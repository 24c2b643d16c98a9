"""A service whose use case blocks flagged events: actions in answers, exploration, ``POST /actions``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.registry.ports import ModelRef
from monitoring.rollout.sample_ratio import sticky_share
from tests.support.builders import tiny_model
from tests.support.processes.servers import House, Server, event, serving

SHARE, SALT = 0.3, "s1"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("acting"))
    flags_some = tiny_model(seed=1, threshold=0.2)
    made.add(flags_some)
    made.appoint(ModelRef(made.model, "1"), flags_some.contract_digest)
    return made


@pytest.fixture(scope="module")
def usecase(tmp_path_factory: pytest.TempPathFactory) -> str:
    source = (Path(__file__).parents[3] / "bentos" / "usecases" / "fraud" / "usecase.toml").read_text()
    file = tmp_path_factory.mktemp("case") / "blocking.toml"
    section = f'\n[intervention]\nblocks_flagged = true\nexploration_share = {SHARE}\nsalt = "{SALT}"\n'
    file.write_text(source + section)
    return str(file)


@pytest.fixture(scope="module")
def server(workspace: House, usecase: str) -> Iterator[Server]:
    with serving(workspace, INCUMBENT_USECASE=usecase) as running:
        yield running


def action(name: str, **changes: object) -> dict[str, object]:
    return {"event_id": name, "action": "let_through", "by": "analyst", "taken_at": "2026-03-01T13:00:00Z"} | changes


def test_the_service_draws_and_logs_and_repeats_its_action_after_a_restart(
    server: Server, workspace: House, usecase: str
) -> None:
    bodies = [event(f"t-act-{n}", amount=float(5 + 7 * n % 200)) for n in range(150)]
    said = server.client.post("/score/batch", json=bodies).json()
    assert {one["action"] for one in said} == {"block", "explore", "let_through"}
    for one in said:
        explored = sticky_share(SALT, one["event_id"]) < SHARE
        expected = "let_through" if not one["decision"] else "explore" if explored else "block"
        assert one["action"] == expected
    flagged = next(one for one in said if one["action"] == "explore")
    body = next(b for b in bodies if b["transaction_id"] == flagged["event_id"])
    first = server.client.post("/score", json=body).content
    workspace.ship()
    with workspace.store() as store, store.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT decision, propensity, action FROM predictions").all()
    assert {(bool(d), p, a) for d, p, a in rows} == {
        (False, 1.0, "let_through"), (True, SHARE, "explore"), (True, SHARE, "block"),
    }  # fmt: skip
    server.stop()
    with serving(workspace, INCUMBENT_USECASE=usecase) as again:
        assert again.client.post("/score", json=body).content == first
        assert again.client.post("/actions", json=[action("t-act-0"), action("t-act-1", by="rule")]).status_code == 200
        # The same word twice, and a later one that overturns the first.
        later = action("t-act-0", action="block", by="fallback", taken_at="2026-03-01T14:00:00Z")
        for sent in (action("t-act-0"), later):
            assert again.client.post("/actions", json=sent).json() == {"accepted": 1, "conflicts": []}
        refused = {
            "no such actor": action("t", by="somebody"),
            "no such action": action("t", action="explore"),
            "another field": action("t", why="x"),
            "no time": {k: v for k, v in action("t").items() if k != "taken_at"},
        }
        for sent in refused.values():
            assert again.client.post("/actions", json=sent).status_code == 400
        assert again.client.post("/actions", json=action("t", taken_at="2060-01-01T00:00:00Z")).status_code == 422
        page = again.client.get("/docs.json").json()
        assert "/actions" in page["paths"]
        assert "action" in page["components"]["schemas"]["Answer"]["properties"]
    workspace.ship()
    with workspace.store() as store:
        found = store.actions.latest("fraud", datetime(2026, 3, 2, tzinfo=UTC))
        assert found[["event_id", "action", "by"]].values.tolist() == [
            ["t-act-1", "let_through", "rule"], ["t-act-0", "block", "fallback"],
        ]  # fmt: skip
        assert len(store.actions.latest("fraud", datetime(2026, 3, 1, 13, 30, tzinfo=UTC))) == 2
        with store.database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM actions").scalar() == 3
