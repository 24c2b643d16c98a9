"""Windows of the running service: a month of traffic through HTTP equals the offline build, bit for bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders import tiny_model
from tests.redis_server import RedisServer, redis_server
from tests.replaying import DAY, Players, differing, second_home, traffic
from tests.servers import House, Server, event, serving


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "home")
    model = tiny_model()
    made.appoint(made.add(model), model.contract_digest)
    return made


def test_a_month_through_http_gives_the_offline_features_bit_for_bit(house: House) -> None:
    told = traffic(customers=60, terminals=40, days=30)
    assert len(told.events) > 2500
    revised = told.labels.groupby("event_id")["y"].nunique()
    assert (revised > 1).sum() > 50, "labels must be revised for this to be a test"
    with serving(house) as server:
        players = Players(house, [server], told)
        players.play(step=6 * DAY, batch=40)
        logged, built = players.logged(), told.features(tiny_model().plan)
    assert differing(logged, built) == []
    assert built["terminal_risk_7d"].nunique() > 20, "rates must move for this to be a test"


@pytest.mark.slow
def test_a_whole_month_at_two_thousand_events_a_day_gives_the_offline_features_bit_for_bit(house: House) -> None:
    told = traffic(customers=1000, terminals=2000, days=30)
    assert len(told.events) > 50_000
    with serving(house) as server:
        players = Players(house, [server], told)
        players.play(step=DAY, batch=100)
        logged, built = players.logged(), told.features(tiny_model().plan)
    assert differing(logged, built) == []


def test_two_replicas_with_one_redis_are_one_service(house: House, tmp_path: Path) -> None:
    told = traffic(customers=15, terminals=10, days=12)
    other, elsewhere = second_home(house, tmp_path / "second")
    with redis_server() as redis:
        settings = {"INCUMBENT_REDIS_URL": redis.url}
        with serving(house, **settings) as a, serving(other, **settings, **elsewhere) as b:
            players = Players(house, [a, b], told)
            players.play(step=4 * DAY, batch=1)
            assert differing(players.logged(), told.features(tiny_model().plan)) == []
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
    counted = players.logged_of("customer_count_1d", ["before", "after-2", "after-3"])
    assert counted == [1.0, 2.0, 3.0], "windows come back from the log and are shared again"
