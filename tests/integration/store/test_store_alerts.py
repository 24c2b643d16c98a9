"""Open alerts of the latest day by expected loss, the same on every database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from monitoring.store import ActionRecord, ScoreRecord, Store
from monitoring.store.database.frames import to_us
from tests.support.log.logged import at, label, labels_policy, scored


def flagged(number: int, day: float, score: float, **changes: Any) -> ScoreRecord:
    return scored(number, day, decision=True, score=score, **changes)


def ids(store: Store, limit: int = 20) -> list[str]:
    return [alert.event_id for alert in store.alerts.open("fraud", limit)]


def test_alerts_are_ranked_by_score_times_the_amount_of_the_event(store: Store) -> None:
    store.alerts.price("fraud", "amount", 7.0)
    store.log.append([flagged(10, 1.0, 0.9), flagged(90, 1.1, 0.6), flagged(50, 1.2, 0.7), scored(70, 1.3)])
    found = store.alerts.open("fraud")
    assert [(alert.place, alert.event_id) for alert in found] == [(1, "e00090"), (2, "e00050"), (3, "e00010")]
    assert found[0].expected_loss == pytest.approx(0.6 * 90.5)
    assert (found[0].model, found[0].event_time) == ("dev-fraud/1", at(1.1))
    assert ids(store, 1) == ["e00090"]
    count, loss = store.alerts.total("fraud")
    assert (count, loss) == (3, pytest.approx(0.6 * 90.5 + 0.7 * 50.5 + 0.9 * 10.5))


def test_a_constant_price_ranks_by_score_and_an_event_without_the_amount_takes_it(store: Store) -> None:
    store.alerts.price("fraud", None, 100.0)
    store.log.append([flagged(10, 1.0, 0.8), flagged(90, 1.0, 0.6)])
    assert [alert.expected_loss for alert in store.alerts.open("fraud")] == pytest.approx([80.0, 60.0])
    store.alerts.price("fraud", "amount", 2.0)
    store.log.append([flagged(11, 1.0, 0.8, body=b'{"id":"e00011"}')])
    assert {a.event_id: a.expected_loss for a in store.alerts.open("fraud")}["e00011"] == pytest.approx(1.6)


def test_an_alert_with_a_label_or_an_action_is_closed_and_so_is_one_of_yesterday(store: Store) -> None:
    store.alerts.price("fraud", None, 100.0)
    store.log.append([flagged(n, 1.0, 0.8) for n in (1, 2, 3)] + [flagged(4, 0.0, 0.9), flagged(5, 1.01, 0.1)])
    assert ids(store) == ["e00001", "e00002", "e00003", "e00005"]
    store.labels.add([label(1, 0, 1.1)], labels_policy())
    now = to_us(at(1.1))
    store.actions.add([ActionRecord("fraud", "e00002", "let_through", "analyst", now, now)])
    assert ids(store) == ["e00003", "e00005"]


def test_imported_history_late_answers_and_other_use_cases_are_no_alerts(store: Store) -> None:
    store.alerts.price("fraud", None, 100.0)
    store.alerts.price("cards", None, 1.0)
    store.log.append(
        [
            flagged(1, 1.0, 0.8, origin="history"),
            flagged(2, 1.0, 0.8, usecase="churn"),
            flagged(3, 1.0, 0.8, usecase="cards"),
        ]
    )
    assert ids(store) == []
    assert len(store.alerts.open("cards")) == 1
    assert store.alerts.total("fraud") == (0, 0.0)


def test_the_view_is_there_for_sql_tools(store: Store) -> None:
    store.alerts.price("fraud", None, 100.0)
    store.log.append([flagged(1, 1.0, 0.8)])
    with store.database.read() as connection:
        rows = connection.execute(text("SELECT usecase, place, event_id, expected_loss FROM alerts_today")).all()
    assert [tuple(row) for row in rows] == [("fraud", 1, "e00001", pytest.approx(80.0))]


def test_the_newest_label_is_that_known_at_the_time(store: Store) -> None:
    assert store.labels.newest("fraud", at(9)) is None
    store.labels.add([label(1, 1, 2.0), label(2, 0, 5.0)], labels_policy())
    assert store.labels.newest("fraud", at(3)) == at(2.0)
    assert store.labels.newest("fraud", at(9)) == at(5.0)
