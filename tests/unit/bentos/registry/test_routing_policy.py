"""Routing policies: what they may say, and which arm an entity is in."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.errors import RoutingError
from bentos.registry.routing_policy import Arm, Router, RoutingPolicy, canary, parse_arms
from bentos.schema.event_schema import EventSchema
from monitoring.rollout.sample_ratio import sticky_share
from tests.support.builders import card_event, case

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCHEMA = EventSchema.of(case())
BASE = RoutingPolicy("shadow", "dev-cards", "1", "2", (), "exp-2024-01", "card", NOW, "me", "a try")
UNITS = st.text(min_size=1, max_size=30)
SHARES = st.floats(0.0, 1.0)


def side(policy: RoutingPolicy, unit: str) -> bool:
    router = Router(policy)
    return router.is_challenger[router.place(unit)]


@given(UNITS, SHARES, SHARES)
def test_a_larger_share_only_adds_entities(unit: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert side(canary(BASE, small), unit) <= side(canary(BASE, large), unit)


@given(UNITS, SHARES)
def test_an_entity_is_with_the_challenger_when_its_number_is_below_the_share(unit: str, share: float) -> None:
    at = sticky_share(BASE.salt, unit)
    if abs(at - share) > 1e-15:
        assert side(canary(BASE, share), unit) == (at < share)


@given(UNITS)
def test_nobody_is_in_a_share_of_0_and_everybody_in_a_share_of_1(unit: str) -> None:
    assert not side(canary(BASE, 0.0), unit)
    assert side(canary(BASE, 1.0), unit)


@given(UNITS, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_named_arms_have_a_place_for_everybody(unit: str, weights: list[float]) -> None:
    total = sum(weights)
    shares = [w / total for w in weights] if total > 0 else [1.0] + [0.0] * (len(weights) - 1)
    arms = tuple(Arm(f"arm {i}", "challenger" if i % 2 else "champion", s) for i, s in enumerate(shares))
    router = Router(dataclasses.replace(BASE, mode="ab", arms=arms))
    assert router.names[router.place(unit)] in {arm.name for arm in arms}


@given(UNITS, st.floats(0.01, 0.99))
def test_a_named_challenger_arm_holds_whom_a_canary_of_its_share_would_hold(unit: str, share: float) -> None:
    arms = (Arm("control", "champion", 1.0 - share), Arm("new", "challenger", share))
    split = dataclasses.replace(BASE, mode="ab", arms=arms)
    assert side(split, unit) == side(canary(BASE, share), unit)


def test_the_published_entities_fall_where_their_numbers_say() -> None:
    # .8468842887 and .2728908275 under the first salt, .1092762526 under the second
    assert not side(canary(BASE, 0.8468842), "cust-000123")
    assert side(canary(BASE, 0.8468843), "cust-000123")
    assert side(canary(BASE, 0.2728909), "cust-000124")
    other = dataclasses.replace(BASE, salt="exp-2024-02")
    assert [side(canary(other, s), "cust-000123") for s in (0.1092762, 0.1092763)] == [False, True]


def test_an_entity_stays_in_its_arm_and_an_event_without_one_is_its_own_unit() -> None:
    optional = dataclasses.replace(canary(BASE, 0.5), entity="shop")
    router = Router(optional)
    one = [SCHEMA.event(card_event(n, shop="s7")) for n in range(20)]
    assert len(set(router.places(one))) == 1
    none = [SCHEMA.event(card_event(n, shop=None)) for n in range(40)]
    assert router.places(none) == [router.place(event.event_id) for event in none]
    assert len(set(router.places(none))) == 2


def test_a_policy_reads_back_and_its_digest_tells_every_change() -> None:
    policy = canary(BASE, 0.05)
    assert RoutingPolicy.from_text(policy.to_text()) == policy
    others = [canary(BASE, 0.06), dataclasses.replace(policy, salt="x"), dataclasses.replace(policy, challenger="3")]
    assert len({p.digest for p in [policy, *others]}) == 4


def test_a_share_of_nothing_is_shadow_and_routes_nobody() -> None:
    assert canary(BASE, 0.0).mode == "shadow"
    assert not canary(BASE, 0.0).routes
    assert canary(BASE, 0.01).routes


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ((Arm("A", "champion", 0.5),), "sum up to 1"),
        ((Arm("A", "champion", 0.5), Arm("A", "challenger", 0.5)), "name of its own"),
        ((Arm("A", "champion", 1.5), Arm("B", "challenger", -0.5)), "between 0 and 1"),
        ((Arm("A", "champion", float("nan")), Arm("B", "challenger", 1.0)), "between 0 and 1"),
        ((Arm("A", "previous", 0.5), Arm("B", "challenger", 0.5)), "answered by"),  # type: ignore[arg-type]  # the point
    ],
)
def test_arms_that_make_no_sense_are_refused(arms: tuple[Arm, ...], words: str) -> None:
    with pytest.raises(RoutingError, match=words):
        dataclasses.replace(BASE, mode="ab", arms=arms)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"mode":"canary"}', "no json", '{"arms":[1]}', "null"])
def test_a_tag_that_is_no_policy_is_named_as_such(text: str) -> None:
    with pytest.raises(RoutingError, match="cannot be read"):
        RoutingPolicy.from_text(text)


def test_arms_are_written_in_percent() -> None:
    assert parse_arms("50,50") == (Arm("A", "champion", 0.5), Arm("B", "challenger", 0.5))
    assert parse_arms("old=champion:90, new=challenger:10")[1] == Arm("new", "challenger", 0.1)
    for wrong in ("A=nobody:50,B=challenger:50", "a,b", "A:50"):
        with pytest.raises(RoutingError, match="percent"):
            parse_arms(wrong)
