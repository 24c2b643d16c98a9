"""What the log says about arms, on every kind of database."""

from __future__ import annotations

from monitoring.store import Store
from monitoring.store.predictions.arm_counts import ArmCount
from tests.support.log.logged import CHAMPION, days, scored, shadowed


def fill(store: Store) -> None:
    """Six routed events of two cards, one of them answered for by the champion, and one without a card."""
    ours = {"arm": "champion", "routing": "p1"}
    theirs = {"arm": "challenger", "routing": "p1", "version": "2", "alias": "challenger"}
    store.log.append(
        [
            scored(1, body=b'{"card":"a"}', **ours),
            scored(2, body=b'{"card":"a"}', decision=True, **ours),
            scored(3, body=b'{"card":"b"}', decision=True, **theirs),
            scored(4, body=b'{"card":"b"}', **theirs),
            scored(5, body=b'{"card":"b"}', **theirs | {"version": "1", "alias": "champion"}),
            scored(6, body=b'{"card":null}', **theirs),
            scored(7, body=b'{"card":"c"}', **ours | {"routing": "p2"}),
            scored(8, body=b'{"card":"d"}'),
        ]
    )


def test_events_and_alerts_are_counted_by_arm_and_by_the_role_that_answered(store: Store) -> None:
    fill(store)
    assert store.arms.counts("fraud", ["p1"]) == [
        ArmCount("challenger", "challenger", 3, 1),
        ArmCount("challenger", "champion", 1, 0),
        ArmCount("champion", "champion", 2, 1),
    ]
    assert store.arms.counts("fraud", ["p3"]) == []
    assert store.arms.counts("churn", ["p1"]) == []


def test_units_are_entities_and_events_without_one_are_their_own(store: Store) -> None:
    fill(store)
    assert store.arms.units("fraud", ["p1"], "card") == {"champion": 1, "challenger": 2}
    assert store.arms.units("fraud", ["p1", "p2"], "card") == {"champion": 2, "challenger": 2}
    assert store.arms.units("fraud", ["p1"], None) == {"champion": 2, "challenger": 4}
    assert store.arms.units("fraud", ["p3"], "card") == {}


def test_what_the_champion_says_in_shadow_stands_in_for_an_arm(store: Store) -> None:
    fill(store)
    said = {"version": "1", "role": "champion"}
    store.shadow.append([shadowed(3, **said), shadowed(4, decision=False, **said), shadowed(8, **said)])
    assert store.arms.shadow_counts("fraud", ["p1"], CHAMPION) == (2, 1)
    assert store.arms.shadow_counts("fraud", ["p3"], CHAMPION) == (0, 0)


def test_answers_of_a_span_name_arm_role_and_decision(store: Store) -> None:
    fill(store)
    frame = store.arms.answers("fraud", ["p1"], days(0, 1))
    assert frame["event_id"].tolist() == [f"e{n:05d}" for n in range(1, 7)]
    assert frame["decision"].tolist() == [False, True, True, False, False, False]
    assert store.arms.answers("fraud", ["p1"], days(1, 2)).empty
