from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from bentos.windows import memory as windows
from bentos.windows.label_spans import FOREVER, positive_spans
from bentos.windows.memory import MemoryWindows, WindowInput, WindowSpec

HOUR = 3_600_000_000
DAY = 24 * HOUR
COUNT = WindowSpec("card", "count", None, 0, DAY, 0, True)
BEFORE = WindowSpec("card", "count", None, 0, DAY, 0, False)
MEAN = WindowSpec("card", "mean", "amount", 2, DAY, 0, True)
SUM = WindowSpec("card", "sum", "amount", 2, DAY, 0, False)
RISK = WindowSpec("card", "label_rate", None, 0, DAY, HOUR, False)


@pytest.fixture(autouse=True)
def _sweep_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SWEEP", 1)


def at(hour: float, number: int | None = None, card: str | None = "c1", cents: int | None = 100) -> WindowInput:
    name = f"e{hour if number is None else number}"
    return WindowInput(name, round(hour * HOUR), (card,), (cents,))


def state(*specs: WindowSpec, events: Iterable[WindowInput] = (), lateness: int = DAY) -> MemoryWindows:
    made = MemoryWindows(specs or (COUNT, MEAN), lateness)
    made.add(events if made.amounts else [e._replace(amounts=()) for e in events])
    return made


def read(made: MemoryWindows, event: WindowInput) -> list[float]:
    return made.read_add([event if made.amounts else event._replace(amounts=())])[0]


def test_a_state_says_what_each_event_must_bring() -> None:
    made = MemoryWindows([RISK, MEAN, MEAN, COUNT])
    assert made.specs == (RISK, MEAN, COUNT)
    assert made.entities == ("card",)
    assert made.amounts == (("amount", 2),)


def test_an_unseen_entity_has_empty_windows_and_itself() -> None:
    assert read(state(COUNT, BEFORE, MEAN, SUM, RISK), at(5, cents=250)) == [1.0, 0.0, 2.5, 0.0, 0.0]


def test_an_event_without_the_entity_is_alone() -> None:
    made = state(COUNT, MEAN)
    made.read_add([at(1, 1, None, 300), at(2, 2, None, 500)])
    assert read(made, at(3, 3, None, 700)) == [1.0, 7.0]
    assert made.stats().entities == 0


def test_the_start_of_a_window_is_out_and_its_end_is_in() -> None:
    late = WindowSpec("card", "count", None, 0, DAY, HOUR, False)
    made = state(BEFORE, late, events=[at(0), at(1), at(24), at(25)])
    assert read(made, at(25, 98)) == [1.0, 2.0], "(1, 25) holds 24; (0, 24] holds 1 and 24"
    assert read(made, at(24, 99)) == [1.0, 2.0], "(0, 24) holds 1; (-1, 23] holds 0 and 1"


def test_events_at_the_same_moment_do_not_see_each_other() -> None:
    made = state(COUNT)
    assert made.read_add([at(1, n)._replace(amounts=()) for n in range(3)]) == [[1.0]] * 3
    assert read(made, at(1.5)) == [4.0]


def test_a_repeated_id_adds_nothing() -> None:
    made = state(COUNT, MEAN)
    assert made.add([at(1), at(1), at(2)]) == 2
    assert read(made, at(1)) == [1.0, 1.0]
    assert read(made, at(3)) == [3.0, 1.0]
    assert made.stats().events == 3


def test_a_late_event_is_counted_by_every_later_read() -> None:
    made = state(SUM, BEFORE, events=[at(1), at(5, cents=300), at(3, cents=1000)])
    assert read(made, at(4)) == [11.0, 2.0]
    assert read(made, at(6)) == [15.0, 4.0]


def test_a_missing_amount_is_left_out_of_the_mean_but_counted() -> None:
    made = state(COUNT, MEAN, SUM, events=[at(1, cents=200), at(2, cents=None), at(3, cents=400)])
    assert read(made, at(4, cents=None)) == [4.0, 3.0, 6.0]
    assert read(made, at(5, cents=900)) == [5.0, 5.0, 6.0]
    only = state(MEAN, events=[at(1, cents=None)])
    assert read(only, at(2, cents=None)) == [0.0]


def test_a_label_counts_from_the_moment_it_was_observed() -> None:
    made = state(RISK, events=[at(0, 1), at(1, 2)])
    made.label("e1", 1, 5 * HOUR, 0)
    assert read(made, at(4, 10)) == [0.0]
    assert read(made, at(5, 11)) == [1 / 3]


def test_an_early_label_waits_for_the_delay_of_its_event() -> None:
    made = state(RISK, events=[at(2, 1)])
    made.label("e1", 1, 2 * HOUR, 0)
    assert read(made, at(2.9)) == [0.0]
    assert read(made, at(3)) == [1.0]


def test_a_label_before_its_event_waits_for_it() -> None:
    made = state(RISK)
    made.label("e1", 1, 2 * HOUR, 0)
    assert made.stats().parked == 1
    made.add([at(1, 1)._replace(amounts=())])
    assert made.stats().parked == 0
    assert read(made, at(3)) == [1.0]


def test_a_stronger_source_revises_a_weaker_one_from_then_on() -> None:
    made = state(RISK, events=[at(0, 1)])
    made.label("e1", 1, 2 * HOUR, 1)
    made.label("e1", 0, 6 * HOUR, 0)
    assert [read(made, at(h, int(h * 10)))[0] > 0 for h in (1.5, 2, 5.9, 6, 7)] == [False, True, True, False, False]


def test_a_repeated_label_changes_nothing() -> None:
    made = state(RISK, events=[at(0, 1), at(0.5, 2)])
    for _ in range(3):
        made.label("e1", 1, 2 * HOUR, 0)
    assert read(made, at(3)) == [0.5]


@pytest.mark.parametrize(
    ("said", "spans"),
    [
        ([], ()),
        ([(5, 0, 0)], ()),
        ([(5, 0, 1)], ((5, FOREVER),)),
        ([(5, 1, 1), (9, 0, 1)], ((5, FOREVER),)),
        ([(5, 1, 1), (9, 0, 0)], ((5, 9),)),
        ([(5, 0, 0), (9, 1, 1)], ()),
        ([(5, 1, 0), (9, 0, 1)], ((9, FOREVER),)),
        ([(5, 0, 1), (9, 0, 0)], ((5, 9),)),
        ([(5, 0, 0), (9, 0, 1)], ()),
        ([(5, 0, 1), (5, 0, 0)], ()),
        ([(5, 2, 1), (7, 1, 0), (9, 0, 1)], ((5, 7), (9, FOREVER))),
    ],
)
def test_the_strongest_source_decides_and_a_contradiction_leaves_the_label_unknown(
    said: list[tuple[int, int, int]], spans: tuple[tuple[int, int], ...]
) -> None:
    assert positive_spans(said) == spans
    assert positive_spans(reversed(said)) == spans


def test_old_events_are_dropped_and_reads_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 8)
    rng = random.Random(1)
    events = [at(n / 4, n, f"c{rng.randrange(5)}", rng.randrange(1000)) for n in range(4000)]
    small, full = MemoryWindows((COUNT, MEAN), HOUR), MemoryWindows((COUNT, MEAN), 10**18)
    for event in events:
        assert small.read_add([event]) == full.read_add([event])
    assert full.stats().events == 4000
    assert small.stats().events < 130
    assert small.stats().bytes < full.stats().bytes / 10


def test_an_entity_that_falls_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 8)
    made = state(COUNT, RISK, events=[at(0, n, f"old{n}") for n in range(50)])
    made.label("e1", 1, HOUR, 0)
    made.add([at(100 + n / 100, 1000 + n)._replace(amounts=()) for n in range(60)])
    assert made.stats().entities == 1
    assert made.stats().events == 60


def test_an_event_older_than_the_state_reaches_is_answered_and_not_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 4)
    made = state(COUNT, events=[at(100, n) for n in range(8)])
    made.label("e9", 1, HOUR, 0)
    assert read(made, at(10, 9)) == [1.0]
    assert read(made, at(10, 9)) == [1.0]
    assert made.stats().too_late == 2
    assert made.stats().events == 8


def test_a_date_far_in_the_future_does_not_age_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 8)
    made = state(COUNT, events=[at(n / 10, n) for n in range(40)])
    assert made.add([at(10**6, 999)._replace(amounts=())]) == 1
    made.add([at(4 + n / 10, 100 + n)._replace(amounts=()) for n in range(40)])
    assert read(made, at(9)) == [81.0]
    made.add([at(100 + n / 10, 1000 + n)._replace(amounts=()) for n in range(200)])
    assert made.stats().events == 201, "the strange date must not keep others from being dropped"


def test_labels_of_unknown_events_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_SAMPLE", 8)
    monkeypatch.setattr(windows, "_CROWDED", 10)
    made = state(RISK)
    for hour in range(0, 1000, 2):
        made.add([at(hour + n / 10)._replace(amounts=()) for n in range(8)])
        made.label(f"stranger{hour}", 1, hour * HOUR, 0)
    assert made.stats().parked < 100


def test_sums_beyond_64_bits_wrap_as_numpy_sums_do() -> None:
    huge = 2**62
    made = state(SUM, events=[at(n, cents=huge) for n in range(3)])
    assert read(made, at(4)) == [float(3 * huge - 2**64) / 100]
    many = state(SUM, events=[at(n / 1000, cents=huge) for n in range(100)])
    many.add([at(30, cents=500)])
    assert read(many, at(31)) == [5.0]


def test_answers_are_remembered_until_they_are_too_old() -> None:
    made = state()
    made.remember("a", "hash", b"{}", at_us=10)
    made.remember("b", "hash", b"{}", at_us=20)
    made.remember("a", "hash2", b"[]", at_us=30)
    assert made.answered("a") == ("hash2", b"[]")
    assert made.answered("c") is None
    assert made.forget_answers(before_us=25) == 1
    assert made.answered("a") == ("hash2", b"[]")
    assert made.answered("b") is None
    assert made.forget_answers(before_us=31) == 1
    assert made.stats().answered == 0


def test_a_state_without_windows_still_remembers_answers() -> None:
    made = MemoryWindows([])
    assert made.read_add([WindowInput("e", 1, (), ())]) == [[]]
    assert made.add([WindowInput("e", 1, (), ())]) == 0
