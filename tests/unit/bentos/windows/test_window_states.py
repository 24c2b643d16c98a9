"""What every window state does, embedded or shared: one suite for both, with a real Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.windows import memory as windows
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis import RedisWindows
from bentos.windows.state import WindowInput, WindowSpec, WindowState
from tests.support.processes.redis_server import RedisServer, redis_server

HOUR = 3_600_000_000
DAY = 24 * HOUR
COUNT = WindowSpec("card", "count", None, 0, DAY, 0, True)
MEAN = WindowSpec("card", "mean", "amount", 2, DAY, 0, True)
SUM = WindowSpec("card", "sum", "amount", 2, DAY, 0, False)
LATE = WindowSpec("card", "mean", "amount", 2, 6 * HOUR, 2 * HOUR, False)
RISK = WindowSpec("card", "label_rate", None, 0, DAY, HOUR, False)
SHOP = WindowSpec("shop", "label_rate", None, 0, 12 * HOUR, 0, False)
SPECS = (COUNT, MEAN, SUM, LATE, RISK, SHOP)
_NAMES = count()


def at(
    hour: float, name: str, card: str | None = "c1", shop: str | None = "s1", cents: int | None = 100
) -> WindowInput:
    return WindowInput(name, round(hour * HOUR), (card, shop), (cents,))


@dataclass
class Kind:
    """How to make a state of one kind; two of one name are replicas of each other where they can be."""

    name: str
    make: Callable[..., WindowState]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


def never(body: bytes) -> WindowInput:
    raise AssertionError("every replica notes the same columns")


def redis_state(
    server: RedisServer,
    specs: Any = SPECS,
    lateness_us: int = DAY,
    name: str | None = None,
    horizon_us: int = 7 * DAY,
    read: Callable[[bytes], WindowInput] = never,
    join: bool = True,
) -> RedisWindows:
    made = RedisWindows(MemoryWindows(specs, lateness_us), server.url, name or f"t{next(_NAMES)}", horizon_us, read)
    if join:
        made.join([])
    return made


@pytest.fixture(params=["embedded", "redis"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "embedded":
        return Kind("embedded", lambda specs=SPECS, lateness_us=DAY: MemoryWindows(specs, lateness_us))
    server = request.getfixturevalue("server")
    return Kind("redis", lambda specs=SPECS, lateness_us=DAY: redis_state(server, specs, lateness_us))


def fit(state: WindowState, events: Iterable[WindowInput]) -> list[WindowInput]:
    """Events with what a state asks for, and no more."""
    cut = {(): lambda e: (), ("card",): lambda e: e.entities[:1], ("card", "shop"): lambda e: e.entities}[
        state.entities
    ]
    return [e._replace(entities=cut(e), amounts=e.amounts if state.amounts else ()) for e in events]


def add(state: WindowState, events: Iterable[WindowInput]) -> int:
    return state.add(fit(state, events))


def read(state: WindowState, *events: WindowInput) -> list[list[float]]:
    return state.read_add(fit(state, events))


def scored(state: WindowState, *events: WindowInput) -> list[list[float]]:
    """The way of a batch through the service: claim, read and add."""
    batch = fit(state, events)
    assert state.claim(batch) == [None] * len(batch)
    return state.read_add(batch)


def test_a_state_says_what_each_event_must_bring(kind: Kind) -> None:
    made = kind.make((RISK, MEAN, MEAN, COUNT))
    assert made.specs == (RISK, MEAN, COUNT)
    assert (made.entities, made.amounts) == (("card",), (("amount", 2),))
    assert made.available
    assert not made.lost


def test_each_event_of_a_batch_reads_and_then_adds_in_order(kind: Kind) -> None:
    made = kind.make((COUNT, SUM))
    assert scored(made, at(1, "a", cents=100), at(2, "b", cents=250), at(3, "c", cents=5)) == [
        [1.0, 0.0],
        [2.0, 1.0],
        [3.0, 3.5],
    ]
    assert scored(made, at(4, "d")) == [[4.0, 3.55]]


def test_an_id_that_is_known_adds_nothing(kind: Kind) -> None:
    made = kind.make((COUNT,))
    assert add(made, [at(1, "a"), at(1, "a"), at(2, "b")]) == 2
    assert read(made, at(2, "b")) == [[2.0]]
    assert read(made, at(3, "c"), at(3, "c")) == [[3.0], [3.0]]
    assert add(made, [at(3, "c")]) == 0
    assert made.stats().events == 3


def test_the_edges_of_a_window(kind: Kind) -> None:
    made = kind.make((SUM, LATE))
    add(made, [at(0, "a", cents=100), at(6, "b", cents=200), at(24, "c", cents=400)])
    assert read(made, at(24, "x")) == [[2.0, 0.0]], "(0, 24) holds b; (16, 22] holds nothing"
    assert read(made, at(8, "y")) == [[3.0, 2.0]], "(-16, 8) holds a and b; (0, 6] holds b"


def test_late_events_are_put_where_they_belong(kind: Kind) -> None:
    made = kind.make((SUM, COUNT))
    add(made, [at(1, "a"), at(5, "b", cents=300), at(3, "c", cents=1000)])
    assert read(made, at(4, "d")) == [[11.0, 3.0]]
    assert read(made, at(6, "e")) == [[15.0, 5.0]]


def test_missing_amounts_and_missing_entities(kind: Kind) -> None:
    made = kind.make((COUNT, MEAN))
    add(made, [at(1, "a", cents=200), at(2, "b", cents=None), at(3, "c", cents=400)])
    assert read(made, at(4, "d", cents=None)) == [[4.0, 3.0]]
    assert read(made, at(5, "e", card=None, cents=700)) == [[1.0, 7.0]]


def test_a_label_counts_from_max_of_observation_and_delay(kind: Kind) -> None:
    made = kind.make((RISK,))
    add(made, [at(0, "a"), at(2, "b")])
    made.label("a", 1, 5 * HOUR, 0)
    made.label("b", 1, 2 * HOUR, 0)
    assert [read(made, at(h, f"r{h}"))[0][0] for h in (2.9, 4.9, 5.1)] == [0.0, 1 / 3, 2 / 3]


def test_labels_wait_for_their_events_and_repeats_change_nothing(kind: Kind) -> None:
    made = kind.make((RISK,))
    assert made.label("a", 1, 2 * HOUR, 0)
    assert not made.label("a", 1, 2 * HOUR, 0)
    add(made, [at(1, "a")])
    assert not made.label("a", 1, 2 * HOUR, 0)
    assert read(made, at(3, "r")) == [[1.0]]


def test_a_stronger_source_revises_from_the_moment_it_speaks(kind: Kind) -> None:
    made = kind.make((RISK,))
    add(made, [at(0, "a")])
    made.label("a", 1, 2 * HOUR, 1)
    made.label("a", 0, 6 * HOUR, 0)
    reads = [read(made, at(h, f"r{h}"))[0][0] > 0 for h in (1.5, 2, 5.9, 6, 7)]
    assert reads == [False, True, True, False, False]


def test_sums_are_exact_beyond_what_a_float_can_count(kind: Kind) -> None:
    made = kind.make((SUM,))
    huge = 2**61
    # As floats, 2**61 + 1 - 2**61 would be 0.
    add(made, [at(0, "a", cents=huge + 1), at(1, "b", cents=-huge), at(2, "c", cents=7)])
    assert read(made, at(3, "r")) == [[0.08]]
    add(made, [at(30, f"w{n}", cents=2**62) for n in range(3)])
    assert read(made, at(31, "s")) == [[float(3 * 2**62 - 2**64) / 100]], "and wraps as numpy does"


def test_an_event_older_than_the_state_reaches_is_answered_and_not_added(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 4)
    made = kind.make((COUNT,))
    add(made, [at(100, f"n{n}") for n in range(8)])
    assert read(made, at(10, "old")) == [[1.0]]
    assert (made.stats().too_late, made.stats().events) == (1, 8)


def test_entities_that_fall_silent_are_forgotten_and_reads_stay_the_same(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 8)
    monkeypatch.setattr(windows, "_SWEEP", 1)
    rng = random.Random(2)
    small, full = kind.make((COUNT, MEAN), HOUR), MemoryWindows((COUNT, MEAN), 10**18)
    for n in range(0, 600, 3):
        batch = [at((n + i) / 4, f"{n + i}", f"c{rng.randrange(5)}", cents=rng.randrange(999)) for i in range(3)]
        assert read(small, *batch) == read(full, *batch)
    assert small.stats().events < 140 < full.stats().events
    made = kind.make((COUNT,))
    add(made, [at(0, f"o{n}", f"old{n}") for n in range(50)])
    add(made, [at(100 + n / 100, f"n{n}", "new") for n in range(60)])
    assert made.stats().entities == 1


def test_answers_are_remembered_with_the_hash_of_their_body(kind: Kind) -> None:
    made = kind.make()
    assert made.claim([at(1, "a"), at(2, "b")]) == [None, None]
    made.remember("a", "hash-a", b'{"x":1}', time.time_ns() // 1000)
    made.settle()
    assert made.answered("a") == ("hash-a", b'{"x":1}')
    assert made.answered("b") is None
    assert made.claim([at(2, "b"), at(1, "a")]) == [None, ("hash-a", b'{"x":1}')]


def test_an_event_that_was_only_sent_makes_way_for_its_answer(kind: Kind) -> None:
    made = kind.make()
    now = time.time_ns() // 1000
    made.remember("a", "hash-a", b"", now)
    made.settle()
    assert made.claim([at(1, "a")]) == [("hash-a", b"")]
    made.remember("a", "hash-a", b"{}", now)
    made.settle()
    assert made.claim([at(1, "a")]) == [("hash-a", b"{}")]


def test_what_is_filled_in_before_joining_is_there_afterwards(server: RedisServer) -> None:
    for made in (MemoryWindows(SPECS), redis_state(server, join=False)):
        add(made, [at(1, "a"), at(2, "b")])
        made.label("a", 1, 3 * HOUR, 0)
        made.remember("a", "hash", b"{}", time.time_ns() // 1000)
        assert made.answered("a") == ("hash", b"{}")
        made.join([])
        assert made.answered("a") == ("hash", b"{}")
        assert read(made, at(4, "c"))[0][4] == 0.5


cards, shops = st.sampled_from(["c1", "c2", None]), st.sampled_from(["s1", "s2"])
arrivals = st.lists(
    st.one_of(
        st.tuples(
            st.just("event"), st.integers(0, 14), st.integers(0, 60), cards, shops, st.none() | st.integers(-9, 99)
        ),
        st.tuples(st.just("label"), st.integers(0, 14), st.integers(0, 1), st.integers(0, 70), st.integers(0, 1)),
    ),
    max_size=30,
)


def truth(now: WindowInput, events: dict[str, WindowInput], labels: list[tuple[str, int, int, int]]) -> list[float]:
    """Straight from the definition, from everything that arrived before."""
    values = []
    for spec in SPECS:
        key = now.entities[0 if spec.entity == "card" else 1]
        end = now.time_us - spec.delay - (0 if spec.delay else 1)
        low = now.time_us - spec.delay - spec.over
        inside = [
            e
            for e in events.values()
            if e.event_id != now.event_id
            and key is not None
            and e.entities[0 if spec.entity == "card" else 1] == key
            and low < e.time_us <= end
        ]
        if spec.agg == "label_rate":
            known = sum(_positive(e.event_id, now.time_us, labels) for e in inside)
            values.append(known / len(inside) if inside else 0.0)
            continue
        counted = [*inside, now] if spec.own else inside
        cents = [e.amounts[0] for e in counted if e.amounts[0] is not None]
        if spec.agg == "count":
            values.append(float(len(counted)))
        else:
            values.append(sum(cents) / (100 * (len(cents) if spec.agg == "mean" else 1)) if cents else 0.0)
    return values


def _positive(event_id: str, now: int, labels: list[tuple[str, int, int, int]]) -> bool:
    said = [(rank, y) for name, y, seen, rank in labels if name == event_id and seen <= now]
    return bool(said) and min(y for rank, y in said if rank == min(said)[0]) == 1


def play(states: list[WindowState], steps: list[Any], sizes: random.Random) -> None:
    """Arrivals in any order, in batches, on any of the states; each read is what the definition says."""
    events: dict[str, WindowInput] = {}
    labels: list[tuple[str, int, int, int]] = []
    for step in steps:
        state = sizes.choice(states)
        if step[0] == "label":
            _, number, y, hour, rank = step
            state.label(f"e{number}", y, hour * HOUR, rank)
            state.follow()
            labels.append((f"e{number}", y, hour * HOUR, rank))
            continue
        _, number, hour, card, shop, cents = step
        name = f"e{number}"
        # A repeated id brings the same event: another body would be refused before it came here.
        event = events.get(name) or at(hour, name, card, shop, cents)
        assert state.read_add([event]) == [truth(event, events, labels)]
        events[name] = event


@given(arrivals, st.randoms(use_true_random=False))
def test_embedded_reads_are_what_the_definition_says(steps: list[Any], sizes: random.Random) -> None:
    play([MemoryWindows(SPECS, 10 * DAY)], steps, sizes)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=arrivals, sizes=st.randoms(use_true_random=False))
def test_reads_of_any_replica_are_what_the_definition_says(
    server: RedisServer, steps: list[Any], sizes: random.Random
) -> None:
    name = f"t{next(_NAMES)}"
    states: list[WindowState] = [redis_state(server, SPECS, 10 * DAY, name) for _ in range(3)]
    play(states, steps, sizes)
    for state in states:
        state.close()
