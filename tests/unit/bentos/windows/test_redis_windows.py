"""Several replicas and one real Redis: who answers, what is shared, and what happens when it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bentos.errors import AnswerPending, SettingsError, WindowsUnavailable
from bentos.windows import redis, redis_connection
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis import RedisWindows
from bentos.windows.redis_connection import Link
from bentos.windows.state import WindowInput, WindowSpec
from tests.support.processes.redis_server import RedisServer, redis_server
from tests.unit.bentos.windows.test_window_states import COUNT, DAY, HOUR, RISK, SUM, at, redis_state

FEE = WindowSpec("card", "sum", "fee", 0, DAY, 0, True)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


def replica(server: RedisServer, **changes: object) -> RedisWindows:
    return redis_state(server, (COUNT, SUM), name="shop", **changes)  # type: ignore[arg-type]  # by name


def event(hour: float, name: str, cents: int = 100) -> WindowInput:
    return at(hour, name, cents=cents)._replace(entities=("c1",), body=name.encode())


def now_us() -> int:
    return time.time_ns() // 1000


def test_what_one_replica_added_the_next_turn_of_another_reads(server: RedisServer) -> None:
    a, b = replica(server), replica(server)
    for hour, state in enumerate((a, b, a, a, b), start=1):
        assert state.claim([event(hour, f"e{hour}")]) == [None]
        assert state.read_add([event(hour, f"e{hour}")]) == [[float(hour), float(hour - 1)]]
    assert a.add([event(6, "e6")]) == 1
    assert b.read_add([event(7, "e7")]) == [[7.0, 6.0]]


def test_one_id_is_answered_by_one_replica(server: RedisServer) -> None:
    a, b = replica(server), replica(server)
    assert a.claim([event(1, "x")]) == [None]
    assert isinstance(b.claim([event(1, "x")])[0], AnswerPending)
    assert a.claim([event(1, "x")]) == [None], "its claimer may come again, for example after an error"
    a.read_add([event(1, "x")])
    a.remember("x", "hash", b'{"score":1}', now_us())
    a.settle()
    assert b.claim([event(1, "x"), event(2, "y")]) == [("hash", b'{"score":1}'), None]
    assert b.read_add([event(2, "y")]) == [[2.0, 1.0]]


def test_a_claim_whose_owner_died_is_free_after_its_lease(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "LEASE_MS", 50)
    a, b = replica(server), replica(server)
    a.claim([event(1, "x")])
    assert isinstance(b.claim([event(1, "x")])[0], AnswerPending)
    time.sleep(0.1)
    assert b.claim([event(1, "x")]) == [None]
    assert b.read_add([event(1, "x")]) == [[1.0, 0.0]], "it was added by the one that died; it is not counted twice"
    assert b.read_add([event(2, "y")]) == [[2.0, 1.0]]


def test_the_first_answer_stays(server: RedisServer) -> None:
    a, b = replica(server), replica(server)
    for state, said in ((a, b"first"), (b, b"second")):
        state.remember("x", "hash", said, now_us())
        state.settle()
        state.follow()
    assert a.answered("x") == b.answered("x") == ("hash", b"first")


def test_an_answer_is_forgotten_after_the_horizon(server: RedisServer) -> None:
    state = replica(server, horizon_us=60_000)
    state.remember("x", "hash", b"{}", now_us())
    state.settle()
    assert state.answered("x") is not None
    time.sleep(0.1)
    assert state.answered("x") is None


def test_a_label_that_one_replica_knows_every_later_read_knows(server: RedisServer) -> None:
    a, b = (redis_state(server, (RISK,), name="labels") for _ in range(2))
    first, second = (at(h, n)._replace(entities=("c1",), amounts=()) for h, n in ((1, "x"), (5, "y")))
    a.add([first])
    assert a.label("x", 1, 3 * HOUR, 0)
    a.follow()
    assert b.read_add([second]) == [[1.0]]
    assert not b.label("x", 1, 3 * HOUR, 0), "it is known, so it is not told again"


def test_a_turn_whose_reply_was_lost_is_taken_in_with_the_next(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = replica(server), replica(server)
    call = Link.call

    def deaf(link: Link, *command: object) -> object:
        call(link, *command)
        link.close()
        raise WindowsUnavailable("the reply was lost")

    with monkeypatch.context() as patch:
        patch.setattr(Link, "call", deaf)
        with pytest.raises(WindowsUnavailable):
            a.claim([event(1, "x")])
    assert not a.available
    a.mend()
    assert a.available
    assert b.read_add([event(2, "y")]) == [[2.0, 1.0]]
    assert a.claim([event(1, "x")]) == [None]
    assert a.read_add([event(1, "x"), event(3, "z")]) == [[1.0, 0.0], [3.0, 2.0]]


def test_answers_that_could_not_be_told_are_told_later(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = replica(server), replica(server)
    a.claim([event(1, "x")])

    def away(link: Link, *command: object) -> None:
        link.close()
        raise WindowsUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Link, "send", away)
        a.remember("x", "hash", b"{}", now_us())
        a.settle()
    assert not a.available
    a.mend()
    a.follow()
    a.follow()
    assert b.answered("x") == ("hash", b"{}")


def test_while_redis_is_away_nothing_is_answered_and_a_restart_needs_a_rebuild(server: RedisServer) -> None:
    state = replica(server)
    state.read_add([event(1, "x")])
    server.kill()
    for _ in range(2):
        with pytest.raises(WindowsUnavailable):
            state.claim([event(2, "y")])
    assert not state.available
    with pytest.raises(WindowsUnavailable):
        state.mend()
    server.start()
    state.mend()
    with pytest.raises(WindowsUnavailable, match="restarted"):
        state.claim([event(2, "y")])
    assert state.lost
    assert not state.available
    again = replica(server, join=False)
    again.add([event(1, "x")])
    again.join([])
    assert again.read_add([event(2, "y")]) == [[2.0, 1.0]]


def test_a_frozen_redis_costs_one_timeout(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_connection, "_TIMEOUT_SECONDS", 0.1)
    state = replica(server)
    server.freeze()
    try:
        for _ in range(3):
            with pytest.raises(WindowsUnavailable):
                state.claim([event(1, "x")])
        with pytest.raises(WindowsUnavailable):
            state.mend()
    finally:
        server.thaw()
    state.mend()
    assert state.claim([event(1, "x")]) == [None], "the same server goes on: nothing has to be rebuilt"


def test_an_emptied_redis_is_noticed(server: RedisServer) -> None:
    state = replica(server)
    server.client().flushall()
    with pytest.raises(WindowsUnavailable):
        state.read_add([event(1, "x")])
    assert state.lost


def test_a_replica_that_missed_more_than_is_kept_builds_again(server: RedisServer) -> None:
    a, b = replica(server), replica(server)
    a.read_add([event(1, "x")])
    a.read_add([event(2, "y")])
    server.client().xtrim("incumbent:{shop}:order", maxlen=1, approximate=False)
    with pytest.raises(WindowsUnavailable, match="missed"):
        b.claim([event(3, "z")])
    assert b.lost
    assert a.read_add([event(3, "z")]) == [[3.0, 2.0]]


def test_a_replica_that_was_silent_behind_a_trimmed_order_builds_again(server: RedisServer) -> None:
    a, b = replica(server), replica(server)
    a.read_add([event(1, "x")])
    server.client().xtrim("incumbent:{shop}:order", maxlen=0, approximate=False)
    with pytest.raises(WindowsUnavailable, match="missed"):
        b.follow()


def test_what_stands_long_in_the_order_is_dropped(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    state = replica(server)
    for n in range(300):
        state.read_add([event(n / 100, f"e{n}")])
    monkeypatch.setattr(redis, "RETAINED_MS", -1000)
    state.follow()
    state.follow()
    assert server.client().xlen("incumbent:{shop}:order") < 300
    assert state.read_add([event(4, "z")]) == [[301.0, 300.0]]


def test_one_replica_gives_the_answers_back_while_the_others_wait(server: RedisServer) -> None:
    states = [replica(server, join=False) for _ in range(3)]
    for state in states:
        for n in range(1200):
            state.remember(f"e{n}", "hash", b"{}", now_us())
    begun = []
    begin = RedisWindows._begin

    def counted(state: RedisWindows) -> bytes:
        epoch = begin(state)
        begun.append(state)
        return epoch

    def run(state: RedisWindows) -> None:
        while True:
            try:
                state.join([event(1, "own")])
            except WindowsUnavailable:
                time.sleep(0.01)
            else:
                return

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedisWindows, "_begin", counted)
        threads = [threading.Thread(target=run, args=(state,)) for state in states]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(begun) == 1
    assert all(state.answered("e1199") == ("hash", b"{}") for state in states)
    assert states[0].read_add([event(2, "x")]) == [[2.0, 1.0]]


def test_a_replica_that_looked_before_another_had_ended_joins_what_that_one_began(server: RedisServer) -> None:
    early, late = replica(server, join=False), replica(server, join=False)
    ask = late._link.call

    def call(*command: object) -> object:
        if command[0] == "SET" and "NX" in command:  # between the look and the lock
            early.join([])
            early.read_add([event(1, "first")])
        return ask(*command)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late._link, "call", call)
        late.join([])
    assert early.read_add([event(2, "second")]) == [[2.0, 1.0]]
    assert late.read_add([event(3, "third")]) == [[3.0, 2.0]]


def test_while_another_replica_rebuilds_nobody_serves(server: RedisServer) -> None:
    server.client().set("incumbent:{shop}:lock", "another", px=60_000)
    state = replica(server, join=False)
    with pytest.raises(WindowsUnavailable, match="rebuilding"):
        state.join([])
    with pytest.raises(WindowsUnavailable):
        state.claim([event(1, "x")])
    assert not state.available


def test_a_new_replica_learns_of_what_is_in_no_database_yet(server: RedisServer) -> None:
    a = replica(server)
    a.read_add([event(1, "x")])
    late = replica(server, join=False)
    late.join([event(2, "in its own spool")])
    assert late.read_add([event(3, "y")]) == [[3.0, 2.0]]
    assert a.read_add([event(4, "z")]) == [[4.0, 3.0]]


def test_replicas_with_other_windows_understand_each_other(server: RedisServer) -> None:
    """A challenger with another amount takes a role: for a while replicas serve unions that differ."""

    def wide(body: bytes) -> WindowInput:
        number = float(body[1:])
        return WindowInput(body.decode(), round(number * HOUR), ("c1",), (100, 7))

    def narrow(body: bytes) -> WindowInput:
        return wide(body)._replace(amounts=(100,))

    a = redis_state(server, (COUNT, SUM), name="shop", read=narrow)
    b = RedisWindows(MemoryWindows((COUNT, SUM, FEE)), server.url, "shop", DAY, wide)
    a.read_add([event(1, "e1")])
    b.join([])
    assert b.read_add([WindowInput("e2", 2 * HOUR, ("c1",), (100, 7), b"e2")]) == [[2.0, 1.0, 14.0]]
    assert a.read_add([event(3, "e3")]) == [[3.0, 2.0]]
    assert b.read_add([WindowInput("e4", 4 * HOUR, ("c1",), (100, 7), b"e4")]) == [[4.0, 3.0, 28.0]]


def test_an_address_that_is_none_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(SettingsError, match="INCUMBENT_REDIS_URL"):
        Link("postgresql://localhost")
