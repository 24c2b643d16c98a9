"""One definition, two executions and a third, slow one that is plain enough to be believed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.features.plan import FeaturePlan
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.windows import memory as windows
from bentos.windows.memory import MemoryWindows
from tests.support.builders import NOON, card_event, case, label, label_frame, window

FEATURES = [
    window("count", "card", "count", "6h"),
    window("count_before", "card", "count", "6h", include_current=False),
    window("count_late", "card", "count", "4h", delay="3h"),
    window("sum", "card", "sum", "6h", column="amount"),
    window("mean", "card", "mean", "6h", column="amount"),
    window("mean_late", "card", "mean", "5h", column="amount", delay="2h"),
    window("fee_sum", "card", "sum", "5h", column="fee"),
    window("fee_mean", "card", "mean", "5h", column="fee"),
    window("fee_late", "card", "mean", "5h", column="fee", delay="1h"),
    window("items_mean", "card", "mean", "6h", column="items", include_current=False),
    window("risk", "card", "label_rate", "6h"),
    window("risk_late", "card", "label_rate", "6h", delay="3h"),
    window("shop_count", "shop", "count", "4h"),
    window("shop_risk", "shop", "label_rate", "4h", delay="2h"),
    window("least", "card", "min", "6h", column="amount"),
    window("least_fee", "card", "min", "5h", column="fee", delay="1h"),
    window("most", "card", "max", "6h", column="fee"),
    window("most_before", "card", "max", "6h", column="amount", include_current=False),
    window("spread", "card", "std", "6h", column="amount"),
    window("spread_fee", "card", "std", "6h", column="fee", delay="2h"),
    window("shops", "card", "distinct", "6h", column="shop"),
    window("shops_late", "card", "distinct", "6h", column="shop", delay="1h"),
    window("kinds", "shop", "distinct", "9h", column="items", include_current=False),
    window("fees", "shop", "distinct", "9h", column="fee"),
    window("idle", "card", "time_since_last", "6h"),
    window("idle_late", "shop", "time_since_last", "6h", delay="2h"),
    {"name": "amount", "kind": "column", "column": "amount"},
    {"name": "fee", "kind": "column", "column": "fee"},
    {"name": "online", "kind": "column", "column": "online"},
    {"name": "channel", "kind": "column", "column": "channel"},
    {"name": "hour", "kind": "calendar", "part": "hour"},
    {"name": "weekend", "kind": "calendar", "part": "weekend"},
    {"name": "night", "kind": "calendar", "part": "night"},
    {"name": "day", "kind": "calendar", "part": "day_of_month"},
    {"name": "ratio", "kind": "expression", "expression": "amount / max(mean, 1) - fee"},
    {"name": "logs", "kind": "expression", "expression": "log1p(amount) * sqrt(abs(fee)) + log(count_late)"},
    {"name": "steep", "kind": "expression", "expression": "where(online and amount > mean_late, ratio, -risk)"},
    {"name": "web", "kind": "expression", "expression": "channel == 'web' or shop != 's1'"},
    {"name": "lacks", "kind": "expression", "expression": "missing(shop) + 2 * missing(fee) + (not online)"},
    {"name": "when", "kind": "expression", "expression": "hour(at) + weekday(at) / 7 + days(at) * 0.001"},
]
WINDOWS = sum(feature["kind"] == "window" for feature in FEATURES)
USECASE = case(features=FEATURES, timezone="Europe/Paris", night=["22:00", "06:00"])
SCHEMA = EventSchema.of(USECASE)
PLAN = FeaturePlan.of(USECASE)
AS_OF = NOON + timedelta(days=30)
HOUR = timedelta(hours=1)

Label = tuple[str, int, Any, str]

event_values = st.fixed_dictionaries(
    {
        "hour": st.integers(0, 14),
        "card": st.sampled_from(["c1", "c1", "c2", "c3"]),
        "shop": st.sampled_from(["s1", "s2", None]),
        "amount": st.decimals(0, 1000, places=3).map(float),
        "fee": st.none() | st.decimals(-50, 50, places=2).map(float),
        "items": st.integers(1, 50),
        "online": st.booleans(),
        "channel": st.sampled_from(["app", "web"]),
    }
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Label]]:
    """Events in any order, with ties, and labels that come late, twice or contradict each other."""
    rows = draw(st.lists(event_values, min_size=1, max_size=25))
    events = [SCHEMA.event(card_event(n, HOUR * row.pop("hour"), **row)) for n, row in enumerate(rows)]
    # Few events get many labels: revisions and contradictions are the point.
    numbers = st.integers(0, 4) | st.integers(0, len(rows) + 1)
    raw = st.tuples(numbers, st.integers(0, 1), st.integers(0, 18), st.sampled_from(["chargeback", "analyst"]))
    said = draw(st.lists(raw, max_size=25))
    return events, [label(n, y, HOUR * h, source) for n, y, h, source in said]


def truth(event: Event, events: Sequence[Event], labels: Sequence[Label]) -> list[float]:
    """The windows of one event, straight from their definition."""
    values = []
    for definition in USECASE.features[:WINDOWS]:
        assert definition.kind == "window"
        over, delay = (d // timedelta(microseconds=1) for d in (definition.over, definition.delay))
        end = event.time_us - delay
        inside = [
            e
            for e in events
            if e is not event
            and event.value(definition.entity) is not None
            and e.value(definition.entity) == event.value(definition.entity)
            and end - over < e.time_us <= end - (0 if delay else 1)
        ]
        if definition.agg == "label_rate":
            known = sum(positive_at(e, event.time_us, labels) for e in inside)
            values.append(known / len(inside) if inside else 0.0)
            continue
        counted = [*inside, event] if definition.counts_itself else inside
        if definition.agg == "count":
            values.append(float(len(counted)))
            continue
        if definition.agg == "time_since_last":
            newest = max((e.time_us for e in counted), default=None)
            values.append(math.nan if newest is None else (event.time_us - newest) / 1e6)
            continue
        amounts = [e.value(str(definition.column)) for e in counted]
        if definition.agg == "distinct":
            values.append(float(len({a for a in amounts if a is not None})))
            continue
        cents = [round(float(a) * 100.0) for a in amounts if a is not None]
        if definition.agg in ("min", "max"):
            values.append((min(cents) if definition.agg == "min" else max(cents)) / 100 if cents else math.nan)
            continue
        if definition.agg == "std":
            values.append(statistics.stdev(map(Fraction, cents)) / 100 if len(cents) > 1 else 0.0)
            continue
        divisor = 100 * (len(cents) if definition.agg == "mean" else 1)
        values.append(sum(cents) / divisor if cents else 0.0)
    return values


def positive_at(event: Event, now: int, labels: Sequence[Label]) -> bool:
    """Whether the strongest source that has spoken by ``now`` says positive, and only that."""
    said = [(s, y) for i, y, at, s in labels if i == event.event_id and at.timestamp() * 1_000_000 <= now]
    strongest = [y for s, y in said if s == "chargeback"] or [y for s, y in said if s == "analyst"]
    return bool(strongest) and min(strongest) == 1


def built(events: Sequence[Event], labels: Sequence[Label]) -> dict[str, np.ndarray[Any, Any]]:
    frame = SCHEMA.frame(events)
    features = PLAN.build(frame, label_frame(*labels), AS_OF)
    return dict(zip(frame["id"], features.to_numpy(), strict=True))


def batches(events: Sequence[Event], sizes: Sequence[int]) -> Iterator[list[Event]]:
    rest = list(events)
    for size in sizes:
        yield rest[:size]
        rest = rest[size:]
    yield rest


def teach(state: MemoryWindows, labels: Sequence[Label]) -> None:
    for event_id, y, at, source in labels:
        state.label(event_id, y, int(at.timestamp()) * 1_000_000, PLAN.sources.index(source))


def same(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    """Bit for bit; NaN equals NaN."""
    assert first.dtype == second.dtype == np.float32
    return first.tobytes() == second.tobytes()


@pytest.fixture(autouse=True)
def _state_that_ages_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 2)
    monkeypatch.setattr(windows, "_SWEEP", 1)


@given(histories())
def test_the_offline_build_is_what_the_definition_says(history: tuple[list[Event], list[Label]]) -> None:
    events, labels = history
    features = built(events, labels)
    for event in events:
        expected = np.array(truth(event, events, labels), dtype=np.float32)
        assert same(features[event.event_id][:WINDOWS], expected)


@given(histories(), st.lists(st.integers(1, 5), max_size=12))
def test_a_replay_in_time_order_gives_the_offline_bits(
    history: tuple[list[Event], list[Label]], sizes: list[int]
) -> None:
    events, labels = history
    features = built(events, labels)
    state = MemoryWindows(PLAN.specs, lateness_us=0)
    waiting = sorted(labels, key=lambda item: item[2])
    for batch in batches(sorted(events, key=lambda e: e.time_us), sizes):
        now = batch[-1].time_us if batch else 0
        due = [item for item in waiting if item[2].timestamp() * 1_000_000 <= now]
        teach(state, due)
        waiting = waiting[len(due) :]
        for event, row in zip(batch, PLAN.rows(batch, state), strict=True):
            assert same(row, features[event.event_id])


@given(histories(), st.randoms(use_true_random=False))
def test_whatever_the_order_of_arrival_a_later_read_gives_the_offline_bits(
    history: tuple[list[Event], list[Label]], random: Any
) -> None:
    events, labels = history
    features = built(events, labels)
    state = MemoryWindows(PLAN.specs, lateness_us=40 * 3_600_000_000)
    arrivals: list[Any] = [*events, *events[:3], *labels, *labels[:3]]
    random.shuffle(arrivals)
    for arrival in arrivals:
        if isinstance(arrival, Event):
            PLAN.row(arrival, state)
        else:
            teach(state, [arrival])
    for event in events:
        assert same(PLAN.row(event, state), features[event.event_id])


@settings(max_examples=30)
@given(histories())
def test_a_state_loaded_from_history_reads_like_the_offline_build(history: tuple[list[Event], list[Label]]) -> None:
    events, labels = history
    features = built(events, labels)
    state = MemoryWindows(PLAN.specs, lateness_us=40 * 3_600_000_000)
    assert PLAN.load(state, SCHEMA.frame(events), label_frame(*labels)) == len(events)
    assert PLAN.load(state, SCHEMA.frame(events), label_frame(*labels)) == 0
    for event in events:
        assert same(PLAN.row(event, state), features[event.event_id])


@settings(max_examples=30)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_change_the_offline_build(
    history: tuple[list[Event], list[Label]], random: Any
) -> None:
    events, labels = history
    features = built(events, labels)
    random.shuffle(events)
    random.shuffle(labels)
    shuffled = built(events, labels)
    assert all(same(shuffled[i], features[i]) for i in features)


@settings(max_examples=30)
@given(histories(), st.integers(0, 30))
def test_no_feature_changes_when_the_future_does(history: tuple[list[Event], list[Label]], hour: int) -> None:
    events, labels = history
    now = NOON + HOUR * hour
    past = [e for e in events if e.time_us <= now.timestamp() * 1_000_000]
    features, full = built(past, [item for item in labels if item[2] <= now]), built(events, labels)
    assert all(same(features[i], full[i]) for i in features)


@settings(max_examples=30)
@given(histories(), st.integers(0, 36))
def test_labels_observed_after_as_of_are_not_seen(history: tuple[list[Event], list[Label]], hour: int) -> None:
    events, labels = history
    frame, as_of = SCHEMA.frame(events), NOON + HOUR * hour
    known = [item for item in labels if item[2] <= as_of]
    pd.testing.assert_frame_equal(
        PLAN.build(frame, label_frame(*labels), as_of), PLAN.build(frame, label_frame(*known), AS_OF)
    )


@settings(max_examples=20)
@given(histories())
def test_keys_that_do_not_fit_64_bits_are_cut_into_parts(history: tuple[list[Event], list[Label]]) -> None:
    events, labels = history
    features = built(events, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bentos.features.offline._KEY_SPACE", 2)
        parts = built(events, labels)
    assert all(same(parts[i], features[i]) for i in features)
