from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bentos.schema.event_schema import EventSchema
from monitoring.errors import RowRefused, StoreError
from monitoring.store import AppendResult, PlanRecord, Store
from monitoring.store.database.frames import to_us
from tests.support.builders import card_event, card_frame, case
from tests.support.log.logged import PLAN, at, days, numbers, scored, unscored

WINDOW = days(0, 10)


def test_an_event_is_stored_once_and_repeats_are_counted_exactly(store: Store) -> None:
    first = store.log.append([scored(1), scored(2), scored(1)])
    again = store.log.append([scored(2), scored(3), scored(1)])
    assert (first, again) == (AppendResult(2, 1), AppendResult(1, 2))
    assert numbers(store.log.answers("fraud", WINDOW)["event_id"]) == [1, 2, 3]


def test_a_repeat_does_not_change_the_first_answer(store: Store) -> None:
    store.log.append([scored(1, score=0.2)])
    store.log.append([scored(1, score=0.9)])
    assert store.log.answers("fraud", WINDOW)["score"].tolist() == [0.2]


def test_use_cases_do_not_see_each_other(store: Store) -> None:
    store.log.append([scored(1), scored(1, usecase="churn")])
    assert len(store.log.answers("fraud", WINDOW)) == len(store.log.answers("churn", WINDOW)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": float("nan")},
        {"score": None},
        {"score": 1.5},
        {"raw_score": -0.1},
        {"decision": None},
        {"model": None},
    ],
)
def test_an_answer_without_a_proper_score_is_refused_and_takes_its_batch_along(
    store: Store, wrong: dict[str, object]
) -> None:
    with pytest.raises(RowRefused):
        store.log.append([scored(1), scored(2, **wrong)])
    assert store.log.span("fraud") is None


@pytest.mark.parametrize("text", ["\ud800", "x\x00y"])
def test_a_text_that_a_database_cannot_hold_is_refused_or_kept_whole(store: Store, text: str) -> None:
    try:
        store.log.append([scored(1, event_id=text)])
    except RowRefused:
        return
    assert store.log.answers("fraud", WINDOW)["event_id"].tolist() == [text]


def test_an_unscored_event_is_in_the_events_but_not_in_the_answers(store: Store) -> None:
    store.log.append([scored(1), unscored(2)])
    assert len(store.log.answers("fraud", WINDOW)) == 1
    events = store.log.events("fraud", WINDOW, {"id": "identifier", "amount": "float"})
    assert events["amount"].tolist() == [1.5, 2.5]


def test_answers_say_who_answered_what_and_when(store: Store) -> None:
    store.log.append([scored(7, 1.5, raw_score=0.125, score=0.625, decision=True)])
    row = store.log.answers("fraud", WINDOW).iloc[0]
    assert row["event_time"] == pd.Timestamp(at(1.5))
    assert (row["model"], row["version"], row["alias"], row["origin"]) == ("dev-fraud/1", "1", "champion", "live")
    assert (row["raw_score"], row["score"], row["threshold"], bool(row["decision"])) == (0.125, 0.625, 0.5, True)


def test_a_window_holds_its_start_and_not_its_end(store: Store) -> None:
    store.log.append([scored(n, day) for n, day in ((1, 0), (2, 1), (3, 2))])
    assert numbers(store.log.answers("fraud", days(0, 2))["event_id"]) == [1, 2]
    assert numbers(store.log.answers("fraud", days(0, 9), as_of=at(1))["event_id"]) == [1, 2]


def test_an_empty_window_gives_empty_frames_with_the_usual_types(store: Store) -> None:
    answers = store.log.answers("fraud", WINDOW)
    assert answers.empty
    assert str(answers["event_time"].dtype) == "datetime64[us, UTC]"
    names, features = store.log.features("fraud", WINDOW)
    assert names == ()
    assert features.empty
    assert store.log.events("fraud", WINDOW, {"id": "identifier", "amount": "float"}).empty


def test_features_of_several_plans_are_joined_by_name(store: Store) -> None:
    store.log.declare_plan(PLAN)
    store.log.declare_plan(PlanRecord("plan-2", ("count", "night")))
    store.log.declare_plan(PLAN)
    store.log.append([scored(1), scored(2, plan_id="plan-2", features=np.array([8, 9], dtype="<f4").tobytes())])
    names, frame = store.log.features("fraud", WINDOW)
    assert names == ("amount", "count", "night")
    expected = np.array([[1, 1, np.nan], [np.nan, 8, 9]], dtype=np.float32)
    np.testing.assert_array_equal(frame[list(names)].to_numpy(), expected)
    assert all(frame[name].dtype == np.float32 for name in names)


def test_features_of_an_undeclared_plan_or_of_another_length_are_an_error(store: Store) -> None:
    store.log.append([scored(1)])
    with pytest.raises(StoreError, match="plan-1"):
        store.log.features("fraud", WINDOW)
    store.log.declare_plan(PlanRecord("plan-1", ("amount", "count", "night")))
    with pytest.raises(StoreError, match="another length"):
        store.log.features("fraud", WINDOW)


def test_history_comes_back_as_the_frame_that_went_in(store: Store) -> None:
    usecase = case()
    events = card_frame(card_event(1), card_event(2, shop=None, fee=1.25, online=False, card="가😀"))
    done = store.log.import_history("cards", events, "id", "at")
    assert done == AppendResult(2, 0)
    assert store.log.import_history("cards", events, "id", "at") == AppendResult(0, 2)
    columns = {column.name: column.type for column in usecase.columns}
    pd.testing.assert_frame_equal(store.log.events("cards", WINDOW, columns), events)
    assert store.log.answers("cards", WINDOW).empty


def test_the_body_that_the_service_logs_comes_back_as_the_frame_of_its_event(store: Store) -> None:
    usecase = case()
    schema = EventSchema.of(usecase)
    given = [card_event(1, fee=0.1 + 0.2), card_event(2, shop="가😀", fee=None, items=50, online=False)]
    events = [schema.event(one) for one in given]
    store.log.append([unscored(n, usecase="cards", body=e.as_json()) for n, e in enumerate(events)])
    columns = {column.name: column.type for column in usecase.columns}
    pd.testing.assert_frame_equal(store.log.events("cards", WINDOW, columns), card_frame(*given))


def test_a_body_that_does_not_fit_is_an_error_without_its_values(store: Store) -> None:
    store.log.append([scored(1)])
    with pytest.raises(StoreError) as caught:
        store.log.events("fraud", WINDOW, {"id": "integer"})
    assert "e00001" not in str(caught.value)


def test_the_stream_is_ordered_by_event_time_then_arrival_across_its_chunks(store: Store) -> None:
    store.log.append([scored(n, day) for n, day in ((5, 2), (1, 0), (4, 1), (2, 1), (3, 1), (6, 2))])
    store.log.append([scored(7, 0.5), unscored(8, 1)])
    chunks = list(store.log.stream("fraud", chunk=2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 2, 2]
    assert numbers([event.event_id for chunk in chunks for event in chunk]) == [1, 7, 4, 2, 3, 8, 5, 6]


def test_the_stream_starts_where_it_is_told_and_carries_the_answer(store: Store) -> None:
    store.log.append([scored(1, 0), scored(2, 1, decision=True), unscored(3, 2)])
    (chunk,) = store.log.stream("fraud", since_us=scored(2, 1).event_time)
    answered, silent = chunk
    assert (answered.score, answered.threshold, answered.decision, answered.version) == (0.2, 0.5, True, "1")
    assert (silent.origin, silent.score, silent.decision) == ("event", None, None)


def test_events_of_a_window_can_be_counted(store: Store) -> None:
    store.log.append([scored(1, 0), unscored(2, 1), scored(3, 2)])
    assert store.log.count("fraud", days(0, 2)) == 2


def test_the_span_tells_how_much_there_is(store: Store) -> None:
    store.log.append([scored(1, 3), scored(2, 1)])
    assert store.log.span("fraud") == (2, at(1), at(3))


def test_an_answer_takes_the_place_of_the_event_that_had_none(store: Store) -> None:
    store.log.append([unscored(1), unscored(2, origin="event"), scored(3)])
    again = store.log.append([scored(1), unscored(2), scored(3), scored(4)])
    assert again == AppendResult(stored=1, duplicates=3, replaced=1)
    assert sorted(numbers(store.log.answers("fraud", WINDOW)["event_id"])) == [1, 3, 4]
    assert store.log.span("fraud")[0] == 4  # type: ignore[index]  # there are four
    assert store.log.append([unscored(1), scored(1, score=0.9)]).replaced == 0
    assert store.log.answers("fraud", WINDOW)["score"].tolist() == [0.2] * 3


def test_an_answer_is_due_in_shadow_although_its_event_was_known(store: Store) -> None:
    store.log.append([unscored(1), scored(2)])
    store.shadow.watch("fraud", "dev-fraud/2")
    store.log.append([scored(1, received_at=to_us(at(3650)))])
    assert [row.event_id for row in store.shadow.pending("fraud", "dev-fraud/2", 10)] == ["e00001"]


def test_an_answer_in_one_batch_with_its_unscored_event_is_the_one_that_stays(store: Store) -> None:
    assert store.log.append([unscored(1), scored(1)]) == AppendResult(stored=1, duplicates=1, replaced=1)
    assert len(store.log.answers("fraud", WINDOW)) == 1


def test_an_imported_event_is_replaced_although_its_table_wrote_times_and_blanks_differently(store: Store) -> None:
    body = b'{"id":"e00001","at":"2026-03-02T01:00:00+01:00","amount":12,"shop":null}'
    store.log.append([unscored(1, body=b'{"id":"e00001","at":"2026-03-02T00:00:00.000000Z","amount":12.0}')])
    assert store.log.append([scored(1, body=body)]).replaced == 1


@pytest.mark.parametrize("change", [{"body": b'{"id":"e00001","amount":9.5}'}, {"day": 1.0}])
def test_an_answer_about_another_body_than_the_log_holds_is_refused(store: Store, change: dict[str, object]) -> None:
    store.log.append([unscored(1)])
    with pytest.raises(RowRefused, match="another body"):
        store.log.append([scored(1, **change), scored(2)])  # type: ignore[arg-type]  # by name
    assert store.log.answers("fraud", WINDOW).empty


def test_events_of_days_in_any_order_and_of_absurd_dates_are_kept(store: Store) -> None:
    far = [scored(n, event_time=at_us) for n, at_us in ((1, -5), (2, 0), (3, 2**62), (4, to_us(at(400))))]
    assert store.log.append([*far, scored(5, 3), scored(6, 1)]).stored == 6
    assert numbers([event.event_id for chunk in store.log.stream("fraud", -10) for event in chunk]) == [
        1,
        2,
        6,
        5,
        4,
        3,
    ]
    assert store.log.append(far) == AppendResult(0, 4)
