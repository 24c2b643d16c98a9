"""A window read part by part, on every database."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.errors import StoreError
from monitoring.store import PlanRecord, Store
from monitoring.store.predictions.answered_batches import newest_champion, read_answered_parts
from tests.support.log.logged import PLAN, at, days, numbers, scored, unscored

WINDOW = days(0, 2)


def read(store: Store, chunk: int, wanted: tuple[str, ...] = PLAN.names) -> tuple[list[int], list[list[float]], int]:
    """Event numbers, feature rows, and the largest part."""
    parts = list(read_answered_parts(store.database, "fraud", WINDOW, wanted, chunk))
    rows = [row for part in parts for row in part.features.to_numpy().tolist()]
    ids = [number for part in parts for number in numbers(part.ids)]
    return ids, rows, max((len(part.ids) for part in parts), default=0)


def test_parts_of_any_size_hold_every_answered_event_of_the_window_once_and_in_order(store: Store) -> None:
    store.log.declare_plan(PLAN)
    # Many events of one instant: a part ends between them.
    store.log.append([scored(n, 0.5 if n < 7 else 1.0) for n in range(11)] + [scored(50, 2.0), scored(51, -0.1)])
    store.log.append([unscored(60, 0.7), scored(61, 0.1), scored(62, 0.2, usecase="churn")])
    ids = [61, *range(11)]
    for chunk in (1, 2, 3, 7, 12, 100):
        found, rows, largest = read(store, chunk)
        assert found == ids
        assert rows == [[float(n), 1.0] for n in ids]
        assert largest <= chunk


def test_a_part_has_the_wanted_features_whatever_plan_a_row_was_logged_with(store: Store) -> None:
    store.log.declare_plan(PLAN)
    store.log.declare_plan(PlanRecord("plan-2", ("count", "night")))
    store.log.append([scored(1), scored(2, plan_id="plan-2", features=np.array([8, 9], dtype="<f4").tobytes())])
    _, rows, _ = read(store, 10, ("night", "amount", "never"))
    np.testing.assert_array_equal(rows, [[np.nan, 1.0, np.nan], [9.0, np.nan, np.nan]])
    (part,) = read_answered_parts(store.database, "fraud", WINDOW, ("night",))
    assert part.features["night"].dtype == np.float32
    assert [moment.to_pydatetime() for moment in part.times] == [at(0), at(0)]


def test_an_empty_window_has_no_part_and_an_undeclared_plan_is_an_error(store: Store) -> None:
    assert read(store, 10) == ([], [], 0)
    store.log.append([scored(1)])
    with pytest.raises(StoreError, match="plan-1"):
        read(store, 10)


def test_the_newest_answer_as_champion_names_who_was_in_office(store: Store) -> None:
    assert newest_champion(store.database, "fraud", WINDOW, "dev-fraud") is None
    store.log.append(
        [
            scored(1, 0.1),
            scored(2, 0.9, version="2"),
            scored(3, 1.5, version="3", alias="challenger"),
            scored(4, 1.6, model="other", version="9"),
            scored(5, 2.0, version="4"),
            unscored(6, 1.9),
        ]
    )
    assert newest_champion(store.database, "fraud", WINDOW, "dev-fraud") == "dev-fraud/2"
    assert newest_champion(store.database, "fraud", days(0, 3), "dev-fraud") == "dev-fraud/4"
