from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from bentos.errors import FeatureError
from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.usecase.calendar_parts import local_seconds, part_of
from bentos.windows.memory import MemoryWindows
from tests.support.builders import NOON, card_event, card_frame, case, case_data, fraud, label, label_frame, window

PLAN = FeaturePlan.of(case())
AS_OF = NOON + timedelta(days=30)


def plan(*features: dict[str, Any], **changes: Any) -> FeaturePlan:
    return FeaturePlan.of(case(features=list(features), **changes))


COUNT_1D = window("n", "card", "count", "1d")
COUNT_2D = window("n", "card", "count", "2d")
AMOUNT = {"name": "amount", "kind": "column", "column": "amount"}
CHANNEL = {"name": "channel", "kind": "column", "column": "channel"}


def without_categories() -> list[dict[str, Any]]:
    return [{k: v for k, v in c.items() if k != "categories"} for c in case_data()["columns"]]


def test_the_fraud_plan_has_the_names_of_the_use_case_in_order() -> None:
    names = FeaturePlan.of(fraud()).names
    assert names[:4] == ("amount", "during_weekend", "during_night", "customer_count_1d")
    assert names[-1] == "terminal_risk_30d"
    assert len(names) == 15


def test_a_frame_of_features_is_float32_with_the_index_of_its_events() -> None:
    events = card_frame(card_event(1), card_event(2, timedelta(hours=1)))
    events.index = pd.Index([7, 3])
    features = PLAN.build(events, label_frame(), AS_OF)
    assert features.index.tolist() == [7, 3]
    assert tuple(features.columns) == PLAN.names
    assert set(features.dtypes) == {np.dtype(np.float32)}


def test_a_vector_of_features_is_float32_in_c_order() -> None:
    schema = EventSchema.of(case())
    state = MemoryWindows(PLAN.specs)
    row = PLAN.row(schema.event(card_event()), state)
    assert row.dtype == np.float32
    assert row.flags["C_CONTIGUOUS"]
    assert row.shape == (10,)
    assert PLAN.rows([], state).shape == (0, 10)


def test_the_values_of_a_small_history_are_as_worked_out_by_hand() -> None:
    hour = timedelta(hours=1)
    events = card_frame(
        card_event(1, amount=10.0, fee=1.0),
        card_event(2, hour, amount=20.0, shop="s2"),
        card_event(3, 26 * hour, amount=40.0, fee=4.0, channel="app", online=False),
    )
    labels = label_frame(label(1, 1, 20 * hour), label(2, 1, hour))
    last = PLAN.build(events, labels, AS_OF).iloc[2].to_dict()
    assert last == {
        "amount": 40.0, "fee": 4.0, "online": 0.0, "channel": 0.0, "hour": 14.0, "card_count": 3.0,
        "card_mean": np.float32(70 / 3), "card_fee_mean": 4.0, "shop_count": 1.0, "shop_risk": 1.0,
    }  # fmt: skip


def test_a_plan_travels_through_json_without_change() -> None:
    for original in (
        PLAN,
        FeaturePlan.of(fraud()),
        FeaturePlan.union([PLAN, plan(window("n", "card", "sum", "1d", column="fee"))]),
    ):
        again = FeaturePlan.from_json(json.loads(json.dumps(original.to_json())))
        assert again == original
        assert again.fingerprint == original.fingerprint
        assert again.definitions == original.definitions


def broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(PLAN.to_json()))
    change(data)
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(version=2),
        lambda d: d.pop("features"),
        lambda d: d.pop("event_id"),
        lambda d: d["features"][0].update(kind="magic"),
        lambda d: d["features"][0].update(surprise=1),
        lambda d: d["features"][4].update(part="century"),
        lambda d: d["features"][5].update(agg="median"),
        lambda d: d["features"][5].update(over="soon"),
        lambda d: d["features"][5].pop("own"),
        lambda d: d.update(features=[1]),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(FeatureError):
        FeaturePlan.from_json(broken(change))


def test_the_fingerprint_follows_everything_that_a_value_depends_on() -> None:
    night = {"name": "night", "kind": "calendar", "part": "night"}
    columns = [dict(c) | ({"decimals": 3} if c["name"] == "amount" else {}) for c in case_data()["columns"]]
    mean = window("m", "card", "mean", "1d", column="amount")
    ranking = case_data()["label"] | {"sources": ["analyst", "chargeback"]}
    plans = [
        plan(night),
        plan(night, timezone="Europe/Paris"),
        plan(night, night=["22:00", "06:00"]),
        plan(mean),
        plan(mean, columns=columns),
        plan(COUNT_1D),
        plan(COUNT_2D),
        plan(COUNT_1D | {"include_current": False}),
        plan(COUNT_1D | {"delay": "1d"}),
        plan(COUNT_1D, AMOUNT),
        plan(AMOUNT, COUNT_1D),
        plan(COUNT_1D, label=ranking),
    ]
    assert len({p.fingerprint for p in plans}) == len(plans)


def test_the_fingerprint_ignores_what_no_value_depends_on() -> None:
    assert plan(COUNT_1D, timezone="Europe/Paris", night=["22:00", "06:00"]) == plan(COUNT_1D)
    assert plan(COUNT_1D, day_starts_at="06:00", description="other") == plan(COUNT_1D)
    assert plan(COUNT_1D | {"over": "24h"}) == plan(COUNT_1D | {"over": "1440m"})


def test_a_union_holds_each_feature_once_in_order_of_first_sight() -> None:
    union = FeaturePlan.union([plan(AMOUNT, COUNT_1D), plan(CHANNEL, AMOUNT)])
    assert union.names == ("amount", "n", "channel")
    assert FeaturePlan.union([PLAN]) == PLAN
    assert FeaturePlan.union([union, plan(AMOUNT)]) == union
    with pytest.raises(FeatureError, match="at least one"):
        FeaturePlan.union([])


def test_a_feature_whose_definition_changed_stands_beside_the_old_one() -> None:
    old, new = plan(AMOUNT, COUNT_1D), plan(COUNT_2D, AMOUNT)
    union = FeaturePlan.union([old, new])
    assert len(union.names) == 3
    assert union.names[0] == "amount"
    assert all(name.startswith("n__") for name in union.names[1:])
    assert old.positions_in(union).tolist() == [0, 1]
    assert new.positions_in(union).tolist() == [2, 0]
    assert FeaturePlan.union([union, old, new]) == union


def test_slicing_a_union_gives_the_vector_of_each_plan() -> None:
    old, new = plan(AMOUNT, COUNT_1D), plan(COUNT_2D, CHANNEL, AMOUNT)
    union = FeaturePlan.union([old, new])
    schema = EventSchema.of(case())
    events = [schema.event(card_event(n, timedelta(hours=13 * n))) for n in range(5)]
    whole = union.rows(events, MemoryWindows(union.specs))
    for part in (old, new):
        alone = part.rows(events, MemoryWindows(part.specs))
        assert np.array_equal(whole[:, part.positions_in(union)], alone)
        wide_state = MemoryWindows(union.specs)
        assert np.array_equal(part.rows(events, wide_state), alone)


def test_a_feature_that_is_not_served_is_named() -> None:
    with pytest.raises(FeatureError, match="'n' is not part of the served union"):
        plan(COUNT_1D).positions_in(plan(COUNT_2D, AMOUNT))
    schema = EventSchema.of(case())
    with pytest.raises(FeatureError, match="build it from the union"):
        plan(COUNT_1D).row(schema.event(card_event()), MemoryWindows(plan(COUNT_2D).specs))


def test_plans_over_other_event_columns_cannot_be_served_together() -> None:
    columns = [*case_data()["columns"], {"name": "ref", "type": "identifier"}]
    other = plan(AMOUNT, columns=columns, event_id="ref")
    with pytest.raises(FeatureError, match="other event_id"):
        FeaturePlan.union([plan(AMOUNT), other])


def test_open_categories_are_taken_from_training_data_and_then_fixed() -> None:
    usecase = case(columns=without_categories(), features=[CHANNEL])
    schema, opened = EventSchema.of(usecase), FeaturePlan.of(usecase)
    events = card_frame(card_event(1, channel="web"), card_event(2, channel="app"), usecase=usecase)
    with pytest.raises(FeatureError, match="with_categories"):
        opened.build(events, label_frame(), AS_OF)
    fixed = opened.with_categories(events)
    assert fixed.with_categories(events.iloc[:1]) == fixed
    assert FeaturePlan.from_json(fixed.to_json()) == fixed
    assert fixed != opened
    assert fixed.build(events, label_frame(), AS_OF)["channel"].tolist() == [1.0, 0.0]
    strange = schema.event(card_event(3, channel="phone"))
    assert fixed.row(strange, MemoryWindows(fixed.specs)).tolist() == [2.0]
    assert fixed.build(schema.frame([strange]), label_frame(), AS_OF)["channel"].tolist() == [2.0]


def test_repeated_ids_and_unranked_sources_are_refused() -> None:
    twice = card_frame(card_event(1), card_event(1))
    with pytest.raises(FeatureError, match="distinct ids"):
        PLAN.build(twice, label_frame(), AS_OF)
    strange = label_frame(label(1, 1, timedelta(days=1), source="rumour"))
    with pytest.raises(FeatureError, match=r"'rumour' is not ranked; allowed: chargeback, analyst"):
        PLAN.build(card_frame(card_event(1)), strange, AS_OF)
    with pytest.raises(FeatureError, match="'rumour' is not ranked"):
        PLAN.load(MemoryWindows(PLAN.specs), card_frame(card_event(1)), strange)


def test_a_number_too_large_for_a_sum_is_refused_offline() -> None:
    events = card_frame(card_event(1)).assign(amount=1e18)
    with pytest.raises(FeatureError, match="fewer decimals"):
        PLAN.build(events, label_frame(), AS_OF)


def test_an_empty_frame_gives_an_empty_frame() -> None:
    features = PLAN.build(card_frame(), label_frame(), AS_OF)
    assert features.shape == (0, 10)


def test_events_that_are_not_scored_still_count() -> None:
    schema, counting = EventSchema.of(case()), plan(COUNT_1D)
    state = MemoryWindows(counting.specs)
    first, second = (schema.event(card_event(n, timedelta(hours=n))) for n in (1, 2))
    assert counting.add([first, first], state) == 1
    assert counting.row(second, state).tolist() == [2.0]


def test_one_plan_serves_several_states_and_schemas() -> None:
    counting = plan(COUNT_1D)
    reordered = case(columns=list(reversed(case_data()["columns"])), features=[COUNT_1D])
    for usecase in (case(), reordered, case()):
        event = EventSchema.of(usecase).event(card_event())
        assert counting.row(event, MemoryWindows(counting.specs)).tolist() == [1.0]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"])
def test_calendar_parts_are_those_of_the_local_wall_clock_one_by_one_and_at_once(zone: str) -> None:
    rng = np.random.default_rng(5)
    changes = [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
    ]
    near = [int((c.timestamp() + s) * 1_000_000) for c in changes for s in range(-7200, 7200, 600)]
    times = np.concatenate([rng.integers(0, 7 * 10**15, 300), near, [0]])
    local = pd.Series(pd.to_datetime(times, unit="us", utc=True)).dt.tz_convert(ZoneInfo(zone))
    expected = {
        "hour": local.dt.hour, "weekday": local.dt.weekday, "weekend": (local.dt.weekday >= 5) * 1,
        "month": local.dt.month, "day_of_month": local.dt.day,
        "night": ((local.dt.hour >= 22) | (local.dt.hour < 6)) * 1,
    }  # fmt: skip
    for part, values in expected.items():
        at_once = part_of(part, local_seconds(times, zone), (22 * 60, 6 * 60))
        singly = [part_of(part, local_seconds(t, zone), (22 * 60, 6 * 60)) for t in times.tolist()]
        assert at_once.tolist() == singly == values.tolist()


def test_a_night_that_ends_when_it_starts_is_empty_and_one_within_a_day_is_not_wrapped() -> None:
    minutes = np.arange(1440) * 60
    assert part_of("night", minutes, (300, 300)).sum() == 0
    assert part_of("night", minutes, (0, 420)).sum() == 420
    assert part_of("night", minutes, (1320, 360)).sum() == 480


def test_offsets_are_exact_around_every_clock_change_of_odd_zones() -> None:
    for zone in ("Africa/Monrovia", "America/St_Johns", "Asia/Tehran"):
        times = np.arange(63_500_000, 63_700_000, 137, dtype=np.int64) * 1_000_000
        assert local_seconds(times, zone).tolist() == [local_seconds(t, zone) for t in times.tolist()]
