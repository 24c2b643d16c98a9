"""Windows of the running service: a month of traffic through HTTP equals the offline build, bit for bit."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from flows.cli import main
from monitoring.core.calendar import TimeWindow
from monitoring.store import LabelRecord
from tests.support.builders import tiny_model
from tests.support.log.replaying import DAY, PATIENCE, Players, Traffic, differing, second_home, traffic
from tests.support.processes.redis_server import RedisServer, redis_server
from tests.support.processes.servers import House, Server, event, serving


def installed(folder: Path) -> House:
    """A home whose champion uses every feature of the fraud case."""
    made = House(folder)
    model = tiny_model()
    made.appoint(made.add(model), model.contract_digest)
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> House:
    return installed(tmp_path / "home")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for all tests; each has months and entities of its own."""
    with serving(installed(tmp_path_factory.mktemp("windows") / "home")) as found:
        yield found


@contextmanager
def shipping(workspace: House) -> Iterator[None]:
    """The scribe at work in the background."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            workspace.ship()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_month_through_http_gives_the_offline_features_bit_for_bit(server: Server) -> None:
    told = traffic(customers=60, terminals=40, days=30)
    assert len(told.events) > 2500
    revised = told.labels.groupby("event_id")["y"].nunique()
    assert (revised > 1).sum() > 50, "labels must be revised for this to be a test"
    players = Players(server.workspace, [server], told)
    players.play(step=6 * DAY, batch=40)
    logged, built = players.logged(), told.features(tiny_model().plan)
    assert differing(logged, built) == []
    assert built["terminal_risk_7d"].nunique() > 20, "rates must move for this to be a test"


def test_the_replay_command_sends_a_window_of_a_source_with_its_labels(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(server.workspace.home))
    with shipping(server.workspace):
        words = ["--source", "simulator", "--start", "2026-02-20", "--window", "1d", "--service", server.url]
        assert main(["replay", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answered"] == found["events"] > 1000
    assert found["versions"] == {"1": found["events"]}
    assert (found["failed_requests"], found["refused_labels"], found["quarantined"]) == (0, 0, 0)
    server.workspace.ship()
    with server.workspace.store() as store:
        start = datetime(2026, 2, 20, tzinfo=UTC)
        assert len(store.log.answers("fraud", TimeWindow(start, start + DAY))) == found["events"]


def test_events_out_of_order_and_repeated_have_the_defined_result(server: Server) -> None:
    """Whatever the order of arrival: an event sees what had arrived before it and is earlier in time."""

    def late(name: str, second: int, **changes: object) -> dict[str, object]:
        return event(name, customer_id="c-late", tx_time=f"2026-06-01T12:00:{second:02d}Z", **changes)

    players = Players(server.workspace, [server], traffic(customers=1, terminals=1, days=1))
    first = server.score(late("o-10", 10))
    for name, second in (("o-30", 30), ("o-20", 20), ("o-40", 40)):
        assert server.score(late(name, second)).status_code == 200
    assert server.score(late("o-10", 10)).content == first.content, "a repeated event gets its first answer"
    assert server.score(late("o-10", 10, amount=1.0)).status_code == 409
    assert server.score(late("o-50", 50)).status_code == 200
    counts = players.logged_of("customer_count_1d", ["o-10", "o-30", "o-20", "o-40", "o-50"])
    assert counts == [1.0, 2.0, 2.0, 4.0, 5.0]


def test_labels_change_rates_only_from_the_moment_they_were_known(server: Server) -> None:
    def at(name: str, day: int) -> dict[str, object]:
        return event(name, terminal_id="m-rate", tx_time=f"2026-07-{day:02d}T12:00:00Z")

    def said(label: int, day: int, source: str) -> pd.DataFrame:
        observed = pd.to_datetime([f"2026-07-{day:02d}T00:00:00Z"]).as_unit("us")
        return pd.DataFrame({"event_id": ["l-1"], "y": [label], "observed_at": observed, "source": [source]})

    told = traffic(customers=1, terminals=1, days=1)
    strong, weak = told.usecase.label.sources[:2]
    players = Players(server.workspace, [server], Traffic(told.usecase, told.events, said(1, 12, weak)))
    assert server.score(at("l-1", 1)).status_code == 200
    players.post_labels(said(1, 12, weak))
    for name, day in (("l-11", 11), ("l-13", 13), ("l-21", 21)):
        assert server.score(at(name, day)).status_code == 200
    players = Players(
        server.workspace,
        [server],
        Traffic(told.usecase, told.events, pd.concat([said(1, 12, weak), said(0, 20, strong)])),
    )
    players.post_labels(said(0, 20, strong))
    for name, day in (("l-19", 19), ("l-22", 22)):
        assert server.score(at(name, day)).status_code == 200
    rates = players.logged_of("terminal_risk_30d", ["l-11", "l-13", "l-21", "l-19", "l-22"])
    # Only events 7 days old and older count: l-1 alone until the 18th, l-1 and l-11 from then on.
    assert rates == [0.0, 1.0, np.float32(1 / 3), 0.5, 0.0]


@pytest.mark.slow
def test_a_whole_month_at_two_thousand_events_a_day_gives_the_offline_features_bit_for_bit(workspace: House) -> None:
    told = traffic(customers=1000, terminals=2000, days=30)
    assert len(told.events) > 50_000
    with serving(workspace) as server:
        players = Players(workspace, [server], told)
        players.play(step=DAY, batch=100)
        logged, built = players.logged(), told.features(tiny_model().plan)
    assert differing(logged, built) == []


@pytest.mark.slow  # the two replicas below do the same; this is the embedded state alone
def test_a_challenger_with_a_longer_window_is_warm_before_it_is_compared_and_after_a_rollback(tmp_path: Path) -> None:
    workspace = House(tmp_path / "home")
    narrow, wide = NARROW(), tiny_model()
    refs = [workspace.add(narrow), workspace.add(wide)]
    workspace.appoint(refs[0], narrow.contract_digest)
    told = with_history(workspace)
    with serving(workspace, INCUMBENT_POLL_SECONDS="0.1") as server:
        players = Players(workspace, [server], told)
        _grow(players, refs[1])


def NARROW() -> ScoringModel:  # noqa: N802  # a constant that is made on first use
    return tiny_model(features=["amount", "during_weekend", "customer_count_7d"])


def with_history(workspace: House) -> Traffic:
    """Thirty-two days in the log, and four days still to come."""
    told = traffic(customers=15, terminals=10, days=36)
    with workspace.store() as store:
        past = told.between(told.first, told.first + 32 * DAY)
        store.log.import_history("fraud", past, "transaction_id", "tx_time")
        at = told.labels["observed_at"].astype("int64").tolist()
        rows = zip(told.labels["event_id"], told.labels["y"].tolist(), at, told.labels["source"], strict=True)
        store.labels.add([LabelRecord("fraud", e, y, t, source, t) for e, y, t, source in rows], told.usecase.label)
    return told


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def _grow(players: Players, wide: ModelRef) -> None:
    """Version 2 looks back 30 days, version 1 looked back 7; it is challenger, champion, and gone again."""
    told, workspace, servers = players.told, players.workspace, players.servers
    day = [told.first + n * DAY for n in range(37)]
    players.send(told.between(day[32], day[33]), batch=1)
    assert "customer_count_30d" not in players.logged()
    digest = tiny_model().contract_digest
    workspace.appoint(wide, digest, "challenger")
    union = FeaturePlan.union([NARROW().plan, tiny_model().plan]).fingerprint
    for server in servers:
        _until(lambda server=server: server.card()["in_office"]["logged_plan"] == union)  # type: ignore[misc]  # binds
    players.send(told.between(day[33], day[34]), batch=1)
    workspace.appoint(wide, digest)
    workspace.registry.clear(wide.name, "challenger")
    workspace.appoint(ModelRef(wide.name, "1"), NARROW().contract_digest, "previous")
    for server in servers:
        server.wait_served("2")
    players.send(told.between(day[34], day[35]), batch=1)
    workspace.appoint(ModelRef(wide.name, "1"), NARROW().contract_digest)
    for server in servers:
        server.wait_served("1")
    players.send(told.between(day[35], day[36]), batch=1)
    logged, built = players.logged(), told.features(tiny_model().plan)
    compared = told.between(day[33], day[35])["transaction_id"].sort_values()
    assert differing(logged.loc[compared], built.loc[compared]) == []
    assert built.loc[compared, "customer_count_30d"].min() > 3, "a cold window would begin at one"
    after = told.between(day[35], day[36])["transaction_id"].sort_values()
    assert differing(logged.loc[after, ["customer_count_7d"]], built.loc[after, ["customer_count_7d"]]) == []


def test_two_replicas_with_one_redis_are_one_service(tmp_path: Path) -> None:
    workspace = House(tmp_path / "first")
    narrow, wide = NARROW(), tiny_model()
    refs = [workspace.add(narrow), workspace.add(wide)]
    workspace.appoint(refs[0], narrow.contract_digest)
    told = with_history(workspace)
    other, elsewhere = second_home(workspace, tmp_path / "second")
    with redis_server() as redis:
        settings = {"INCUMBENT_REDIS_URL": redis.url, "INCUMBENT_POLL_SECONDS": "0.1"}
        with serving(workspace, **settings) as a, serving(other, **settings, **elsewhere) as b:
            players = Players(workspace, [a, b], told)
            _grow(players, refs[1])
            _one_id_is_answered_once(a, b)
            _an_outage_of_redis_ends_by_itself(redis, players, a, b)


def _one_id_is_answered_once(a: Server, b: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        for n in range(20):
            said = event(f"twice-{n}", amount=10.0 + n)
            replies = list(pool.map(lambda server, said=said: server.score(said), [a, b] * 8))
            assert {reply.status_code for reply in replies} == {200}
            assert len({reply.content for reply in replies}) == 1
    assert b.score(event("twice-1", amount=99.0)).status_code == 409
    assert a.score(event("twice-1", amount=99.0)).status_code == 409


def _an_outage_of_redis_ends_by_itself(redis: RedisServer, players: Players, a: Server, b: Server) -> None:
    before = a.score(event("before", customer_id="c-out")).content
    redis.kill()
    for server in (a, b):
        refused = server.score(event("meanwhile", customer_id="c-out"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "windows_unavailable")
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/livez").status_code == 200
    redis.start()
    players.ship()
    for server in (a, b):
        server.wait_ready()
    assert b.score(event("before", customer_id="c-out")).content == before, "answers come back from the log"
    for n, server in enumerate((b, a), start=2):
        late = event(f"after-{n}", customer_id="c-out", tx_time=f"2026-03-01T12:00:0{n}Z")
        assert server.score(late).status_code == 200
    counted = players.logged_of("customer_count_7d", ["before", "after-2", "after-3"])
    assert counted == [1.0, 2.0, 3.0], "windows come back from the log and are shared again"
