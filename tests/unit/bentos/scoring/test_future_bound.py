"""One bound on the future for every road: what lies beyond it leaves no trace, in memory and in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bentos.api.actions import ActionReceiver
from bentos.api.events import EventReceiver
from bentos.errors import EventError, SpoolFull
from bentos.features.plan import FeaturePlan
from bentos.http_errors import HttpProblem
from bentos.registry.ports import ModelRef
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModels, ModelHolder
from bentos.scoring.future_bound import FutureBound, FutureGuard
from bentos.scoring.intake import Intake
from bentos.scoring.recent_times import RecentTimes
from bentos.scoring.scorer import Scorer
from bentos.settings import Settings, read_settings
from bentos.spool.segments import Record
from bentos.usecase.limits import LATEST_US
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis import RedisWindows
from bentos.windows.state import WindowState
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import ActionRecord, PlanRecord, RefusedRecord, ScoreRecord
from tests.support.builders import fraud, tiny_model
from tests.support.processes.redis_server import RedisServer, redis_server
from tests.support.processes.servers import SCHEMA

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MODEL = tiny_model()
PLAN = FeaturePlan.union([MODEL.plan])
_NAMES = count()


def us(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Paper:
    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.full = False

    def declare(self, plan: PlanRecord) -> None: ...

    def require_room(self, events: int) -> None: ...

    def append(self, records: Sequence[Record]) -> None:
        if self.full:
            raise SpoolFull("the spool is at its cap")
        self.kept += records

    def of(self, kind: type) -> list[Any]:
        return [record for record in self.kept if isinstance(record, kind)]


class Roads:
    """The two roads that reach the windows, with one guard."""

    def __init__(self, windows: WindowState, clock: str = "machine", max_future: str = "1h") -> None:
        self.paper, self.windows, self.now = Paper(), windows, us(NOW)
        self.recent = RecentTimes()
        declared = Settings(clock=clock, max_future=max_future)  # type: ignore[arg-type]  # checked by the model itself
        self.bound = FutureBound(declared, lambda: self.now, self.recent)
        guard = FutureGuard("fraud", self.bound, self.paper, lambda: self.now)
        holder = ModelHolder(ModelRef("dev-fraud", "3"), MODEL, MODEL.contract_digest)
        active_models = ActiveModels.of(holder, PLAN, windows, NOW)
        intake = Intake("fraud", lambda: active_models, self.paper, None, lambda: self.now, self.recent, guard)
        self.scorer = Scorer(intake)
        self.desk = EventReceiver(intake)
        self.actions = ActionReceiver(fraud(), self.paper, 10, guard, lambda: self.now)


def event(name: str, time: datetime, customer: str = "c-1", amount: float = 10.0) -> Event:
    values = {"transaction_id": name, "customer_id": customer, "terminal_id": "m-1", "amount": amount}
    return SCHEMA.event(values | {"tx_time": time})


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


def make(kind: str, server: RedisServer | None) -> WindowState:
    local = MemoryWindows(PLAN.specs)
    if server is None or kind == "embedded":
        return local
    own = FeaturePlan.union([MODEL.plan])
    made = RedisWindows(
        local, server.url, f"f{next(_NAMES)}", 10**16, lambda b: own.inputs([SCHEMA.decode(b)], made)[0]
    )
    made.join([])
    return made


@pytest.mark.parametrize(
    ("time", "refused"),
    [
        ("2026-06-01T13:00:00Z", False),
        ("2026-06-01T13:00:00.000001Z", True),
        ("2026-06-01T18:30:00+05:30", False),
        ("2026-06-01T18:30:00.000001+05:30", True),
        ("2026-06-01T00:59:59-12:00", False),
        ("2026-06-01T01:00:01-12:00", True),
        ("1970-01-01T00:00:00Z", False),
        ("2199-12-31T23:59:59.999999Z", True),
    ],
)
def test_the_bound_is_exact_to_the_microsecond_whatever_the_offset(time: str, refused: bool) -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    mine = event("t-1", datetime.fromisoformat(time))
    (said,) = roads.scorer.run([mine])
    assert isinstance(said, HttpProblem) is refused
    assert bool(roads.desk.take([event("t-2", datetime.fromisoformat(time))]).refused) is refused
    sent = {"event_id": "t-1", "action": "block", "by": "rule", "taken_at": time}
    if refused:
        with pytest.raises(HttpProblem, match=r"taken_at .* lies in the future"):
            roads.actions.take(json.dumps(sent).encode())
    else:
        roads.actions.take(json.dumps(sent).encode())


@pytest.mark.parametrize(
    "time",
    ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "2016-12-31T23:59:60Z", "1969-12-31T23:59:59Z",
     "0001-01-01T00:00:00+23:59", "2200-01-01T00:00:00Z"],
)  # fmt: skip
def test_times_that_no_event_may_have_are_no_events_at_all(time: str) -> None:
    body = json.dumps({"transaction_id": "t", "customer_id": "c", "terminal_id": "m", "amount": 1.0, "tx_time": time})
    with pytest.raises(EventError, match="tx_time"):
        SCHEMA.decode(body.encode())


def test_the_answer_says_which_time_what_the_clock_says_and_what_is_allowed() -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    (said,) = roads.scorer.run([event("t-1", datetime(2099, 1, 1, tzinfo=UTC))])
    assert isinstance(said, HttpProblem)
    assert (said.status, said.code) == (422, "unprocessable")
    assert str(said) == (
        "tx_time 2099-01-01T00:00:00Z lies in the future: the machine's clock says 2026-06-01T12:00:00Z, "
        "and at most 1h ahead is allowed"
    )


def test_a_refused_event_is_counted_and_lies_in_quarantine_as_it_was_sent() -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    counted = metrics.REFUSED_ROWS.labels("event", "in_future")._value
    before = counted.get()
    wild = event("t-1", datetime(2099, 1, 1, tzinfo=UTC))
    roads.scorer.run([wild])
    roads.desk.take([wild])
    assert counted.get() == before + 2
    assert [(r.kind, r.reason, r.body) for r in roads.paper.kept] == [("event", "in_future", wild.as_json())] * 2


def test_a_full_spool_keeps_no_copy_and_the_event_is_refused_all_the_same() -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    roads.paper.full = True
    (said,) = roads.scorer.run([event("t-1", datetime(2099, 1, 1, tzinfo=UTC))])
    assert isinstance(said, HttpProblem)
    assert said.status == 422


@pytest.mark.parametrize("kind", ["embedded", "redis"])
def test_an_id_that_was_answered_keeps_its_answer_when_the_clock_is_set_back(kind: str, server: RedisServer) -> None:
    roads = Roads(make(kind, server))
    mine, sent = event("t-1", NOW), event("t-2", NOW)
    first = roads.scorer.run([mine])
    roads.desk.take([sent])
    roads.now -= 86_400_000_000
    assert roads.scorer.run([mine]) == first
    assert roads.desk.take([sent]) == ([], {})
    (fresh,) = roads.scorer.run([event("t-3", NOW)])
    assert isinstance(fresh, HttpProblem)
    assert "says 2026-05-31T12:00:00Z" in str(fresh)


@pytest.mark.parametrize("kind", ["embedded", "redis"])
def test_a_refused_id_is_free_for_the_true_event(kind: str, server: RedisServer) -> None:
    roads = Roads(make(kind, server))
    roads.scorer.run([event("t-1", datetime(2099, 1, 1, tzinfo=UTC))])
    (said,) = roads.scorer.run([event("t-1", NOW)])
    assert isinstance(said, bytes)


FUTURE = st.integers(1, 60 * 365 * 86_400).map(lambda s: NOW + timedelta(hours=1, seconds=s))
PAST = st.integers(0, 20 * 86_400).map(lambda s: NOW + timedelta(hours=1) - timedelta(seconds=s))
MIXED = st.lists(
    st.tuples(st.booleans(), st.one_of(PAST, FUTURE), st.sampled_from(["c-1", "c-2"])),
    max_size=40,
)


@pytest.mark.parametrize("kind", ["embedded", "redis"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mixed=MIXED, size=st.integers(1, 7))
@example(mixed=[(True, NOW + timedelta(days=9_999), "c-1")] * 20 + [(True, NOW, "c-1")] * 3, size=5)
def test_windows_after_any_mix_equal_the_windows_of_the_good_events_alone(
    kind: str, server: RedisServer, mixed: list[tuple[bool, datetime, str]], size: int
) -> None:
    rows = [(scored, event(f"t-{n}", time, who, n + 0.5)) for n, (scored, time, who) in enumerate(mixed)]
    dirty, clean = Roads(make(kind, server)), Roads(make(kind, server))
    good = [(scored, one) for scored, one in rows if one.time_us <= dirty.bound.latest_us()]
    for roads, given_rows in ((dirty, rows), (clean, good)):
        for start in range(0, len(given_rows), size):
            part = given_rows[start : start + size]
            for road, wanted in ((roads.scorer.run, True), (roads.desk.take, False)):
                if batch := [one for scored, one in part if scored is wanted]:
                    road(batch)
    probes = [event(f"p-{who}", NOW + timedelta(minutes=n), who) for n, who in enumerate(("c-1", "c-2", "c-3"))]
    assert np.array_equal(PLAN.rows(probes, dirty.windows), PLAN.rows(probes, clean.windows))
    assert dirty.windows.stats() == clean.windows.stats()
    assert {r.event_id for r in dirty.paper.of(ScoreRecord)} == {one.event_id for _, one in good}
    assert len(dirty.paper.of(RefusedRecord)) == len(rows) - len(good)
    assert dirty.recent.newest_us == clean.recent.newest_us
    for _, one in rows:
        known = dirty.windows.answered(one.event_id)
        assert (known is not None) is (one.time_us <= dirty.bound.latest_us())


def test_a_thousand_wild_events_leave_real_ones_in_the_windows() -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    at = PLAN.names.index("customer_count_7d") if "customer_count_7d" in PLAN.names else None
    for n in range(10):
        roads.scorer.run([event(f"t-{n}", NOW - timedelta(hours=n + 1))])
    wild = [event(f"w-{n}", datetime(2099, 1, 1, tzinfo=UTC) + timedelta(seconds=n)) for n in range(1000)]
    assert len(roads.desk.take(wild).refused) == 1000
    for n in range(10, 20):
        roads.scorer.run([event(f"t-{n}", NOW - timedelta(minutes=n))])
    assert roads.windows.stats().events == 20
    assert roads.windows.stats().too_late == 0
    alone = Roads(MemoryWindows(PLAN.specs))
    for n in range(20):
        alone.scorer.run([event(f"t-{n}", NOW - (timedelta(hours=n + 1) if n < 10 else timedelta(minutes=n)))])
    probe = [event("p", NOW)]
    assert np.array_equal(PLAN.rows(probe, roads.windows), PLAN.rows(probe, alone.windows))
    assert at is None or PLAN.rows(probe, roads.windows)[0, at] >= 20


def test_in_a_stream_the_newest_events_say_what_time_it_is_and_one_wild_event_is_refused() -> None:
    roads = Roads(MemoryWindows(PLAN.specs), clock="stream", max_future="2d")
    start = datetime(2031, 1, 1, tzinfo=UTC)
    for n in range(20):
        (said,) = roads.scorer.run([event(f"t-{n}", start + timedelta(hours=n))])
        assert isinstance(said, bytes), "a stream ahead of the machine's clock goes on"
    (wild,) = roads.scorer.run([event("w", datetime(2099, 1, 1, tzinfo=UTC))])
    assert isinstance(wild, HttpProblem)
    assert "the clock of the stream says 2031-01-01T17:00:00Z, and at most 2d ahead" in str(wild)
    (after_a_pause,) = roads.scorer.run([event("t-20", start + timedelta(hours=60))])
    assert isinstance(after_a_pause, bytes)


def test_before_the_first_event_of_a_stream_nobody_knows_what_time_it_is() -> None:
    roads = Roads(MemoryWindows(PLAN.specs), clock="stream")
    assert roads.bound.latest_us() == LATEST_US
    roads.scorer.run([event("w", datetime(2099, 1, 1, tzinfo=UTC))])
    (said,) = roads.scorer.run([event("t-1", NOW)])
    assert isinstance(said, bytes)
    assert roads.bound.latest_us() == us(NOW) + 3_600_000_000, "the second event has taken the clock back"


@given(now=st.integers(0, LATEST_US - 1), ahead=st.integers(0, 999_999_999), time=st.integers(0, LATEST_US - 1))
@example(now=LATEST_US - 1, ahead=999_999_999, time=LATEST_US - 1)
@example(now=0, ahead=0, time=0)
def test_a_time_is_refused_when_it_lies_beyond_clock_and_allowance_and_only_then(
    now: int, ahead: int, time: int
) -> None:
    bound = FutureBound(Settings(max_future=f"{ahead}s"), lambda: now)  # type: ignore[arg-type]  # read as in a file
    beyond = time > now + ahead * 1_000_000
    assert (time > bound.latest_us()) is (beyond and now > 0)


@pytest.mark.parametrize("bad", ["machine ", "utc", "2026-01-01"])
def test_a_clock_that_nobody_knows_is_refused_by_name(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_CLOCK", bad)
    with pytest.raises(Exception, match=r"INCUMBENT_CLOCK.*'machine' or 'stream'"):
        read_settings()


def test_actions_of_the_future_in_a_list_are_refused_one_by_one() -> None:
    roads = Roads(MemoryWindows(PLAN.specs))
    sent = [{"event_id": f"t-{n}", "action": "block", "by": "rule", "taken_at": "2026-06-01T12:00:00Z"} for n in (0, 1)]
    sent[0]["taken_at"] = "2099-01-01T00:00:00Z"
    found = json.loads(roads.actions.take(json.dumps(sent).encode()))
    assert (found["accepted"], [row["at"] for row in found["refused"]]) == (1, [0])
    assert [r.event_id for r in roads.paper.of(ActionRecord)] == ["t-1"]
    assert [(r.kind, r.reason) for r in roads.paper.of(RefusedRecord)] == [("action", "in_future")]
