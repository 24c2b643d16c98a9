"""The window state from the log: after a restart, and when a larger one is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.features.plan import FeaturePlan
from bentos.registry.ports import ModelRef
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.active_models import ActiveModels, ModelHolder
from bentos.scoring.intake import Intake
from bentos.scoring.scorer import Scorer
from bentos.serving.window_history import LogHistory
from bentos.serving.window_keeper import WindowKeeper
from bentos.spool.segments import spooled_records
from bentos.spool.shipper import Scribe
from bentos.spool.writer import SpoolWriter
from bentos.windows.memory import MemoryWindows, WindowState
from monitoring.errors import StoreUnavailable
from monitoring.store import Store, memory_store
from monitoring.store.database.records import LabelRecord, StoredLabel
from tests.support.builders import fraud, tiny_model

USECASE = fraud()
SCHEMA = EventSchema.of(USECASE)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = FeaturePlan.of(USECASE)


def event(number: int, customer: str = "c-1", day: float = 0.0, amount: float = 10.0) -> Event:
    values = {"transaction_id": f"t-{number}", "customer_id": customer, "terminal_id": "m-1", "amount": amount}
    return SCHEMA.event(values | {"tx_time": START + timedelta(days=day, seconds=number)})


def us(when: datetime) -> int:
    return int(when.timestamp()) * 1_000_000


class Place:
    """Spool, database and scribe of one service that restarts at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Store = memory_store()
        self.away = False
        self.spool = SpoolWriter(folder, writer="w1")
        self.states: list[WindowState] = []
        self.posted: list[Callable[[], None]] = []
        self.horizon = 0

    def database(self) -> Store:
        if self.away:
            raise StoreUnavailable("down")
        return self.store

    def history(self) -> LogHistory:
        return LogHistory(
            "fraud",
            SCHEMA,
            USECASE.label.sources,
            self.database,
            lambda: spooled_records(self.folder),
            lambda: self.horizon,
        )

    def keeper(self) -> WindowKeeper:
        return WindowKeeper(self.history(), USECASE.label.sources, self.posted.append, self.states.append)

    def fresh_state(self, plan: FeaturePlan = PLAN) -> WindowState:
        state = MemoryWindows(plan.specs)
        self.history().fill(FeaturePlan.union([plan]), state)
        return state

    def ship(self) -> None:
        """Move everything into the database."""
        self.spool.close()
        Scribe(self.store, self.folder, "fraud", USECASE.label).run_once()
        self.spool = SpoolWriter(self.folder, writer=f"w{len(list(self.folder.iterdir())) + 2}")

    def service(self, state: WindowState, keeper: WindowKeeper | None = None) -> Scorer:
        model = tiny_model()
        plan = FeaturePlan.union([model.plan])
        active_models = ActiveModels.of(ModelHolder(ModelRef("dev-fraud", "1"), model, "d" * 64), plan, state, START)
        return Scorer(Intake("fraud", lambda: active_models, self.spool, keeper))

    def label(self, name: str, y: int = 1, day: float = 9.0, source: str = "analyst") -> LabelRecord:
        at = us(START + timedelta(days=day))
        return LabelRecord("fraud", name, y, at, source, at)

    def finish(self, keeper: WindowKeeper) -> None:
        """Wait for the build and do what it left for the scoring thread."""
        assert keeper._building is not None
        keeper._building.join(20)
        while self.posted:
            self.posted.pop(0)()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.spool.close()
    found.store.close()


def probe(state: WindowState) -> np.ndarray:
    """Features of one late event, which sees everything before it."""
    return PLAN.rows([event(10_000, day=10.0)], state)


def test_after_a_restart_features_and_answers_are_those_of_the_process_that_died(place: Place) -> None:
    first = MemoryWindows(PLAN.specs)
    scorer = place.service(first)
    events = [event(n, f"c-{n % 3}", day=n / 10, amount=n + 0.5) for n in range(60)]
    answers = scorer.run(events)
    place.spool.append([place.label("t-3"), place.label("t-4", 0)])
    for statement in (place.label("t-3"), place.label("t-4", 0)):
        first.label(statement.event_id, statement.y, statement.observed_at, 1)
    expected = probe(first)
    spooled = place.fresh_state()
    assert np.array_equal(probe(spooled), expected)
    assert place.service(spooled).run(events) == answers
    place.ship()
    shipped = place.fresh_state()
    assert np.array_equal(probe(shipped), expected)
    assert place.service(shipped).run(events) == answers


def test_imported_history_warms_the_windows(place: Place) -> None:
    events = [event(n, day=n / 4) for n in range(8)]
    warm = MemoryWindows(PLAN.specs)
    PLAN.add(events, warm)
    place.store.log.import_history("fraud", SCHEMA.frame(events), "transaction_id", "tx_time")
    assert np.array_equal(probe(place.fresh_state()), probe(warm))


def test_answers_older_than_the_horizon_are_forgotten(place: Place) -> None:
    place.service(MemoryWindows(PLAN.specs)).run([event(1)])
    place.horizon = 2**62
    assert place.fresh_state().answered("t-1") is None


def test_events_that_no_window_can_reach_are_left_out(place: Place) -> None:
    scorer = place.service(MemoryWindows(PLAN.specs))
    scorer.run([event(1)])
    scorer.run([event(2, day=300.0)])
    place.ship()
    state = place.fresh_state()
    assert isinstance(state, MemoryWindows)
    assert state.stats().events == 1


def test_one_event_dated_far_in_the_future_does_not_empty_the_windows(place: Place) -> None:
    events = [event(n, day=n / 4) for n in range(4)]
    place.service(MemoryWindows(PLAN.specs)).run([*events, event(99, "c-9", day=60_000.0)])
    place.ship()
    warm = MemoryWindows(PLAN.specs)
    PLAN.add(events, warm)
    assert probe(place.fresh_state())[0, 3] == probe(warm)[0, 3]


def test_what_happens_while_a_state_is_built_is_in_it(place: Place) -> None:
    gate = threading.Event()
    history = place.history()

    class Slow:
        def fill(self, plan: FeaturePlan, state: WindowState) -> int:
            cursor = history.fill(plan, state)
            gate.wait(20)
            return cursor

    keeper = WindowKeeper(Slow(), USECASE.label.sources, place.posted.append, place.states.append)
    live = MemoryWindows(PLAN.specs)
    scorer = place.service(live, keeper)
    scorer.run([event(1)])
    keeper.want(PLAN)
    _until(lambda: keeper._tap is not None)
    said = scorer.run([event(2, day=1.0)])
    statement = place.label("t-2")
    live.label("t-2", 1, statement.observed_at, 1)
    keeper.label([StoredLabel(1, "t-2", 1, statement.observed_at, "analyst", 0)])
    gate.set()
    place.finish(keeper)
    built = place.states[0]
    assert keeper.state is built
    answered = built.answered("t-2")
    assert answered is not None
    assert [answered[1]] == said
    assert np.array_equal(probe(built), probe(live))


def test_a_larger_state_is_built_once_and_holds_the_windows_of_both_plans(place: Place) -> None:
    small = FeaturePlan.of(USECASE.model_copy(update={"features": USECASE.features[:5]}))
    keeper = place.keeper()
    keeper.want(small)
    place.finish(keeper)
    keeper.want(small)
    assert len(place.states) == 1
    place.service(MemoryWindows(PLAN.specs)).run([event(1), event(2, day=0.5)])
    keeper.want(PLAN)
    place.finish(keeper)
    assert len(place.states) == 2
    assert set(place.states[1].specs) >= {*small.specs, *PLAN.specs}
    expected = MemoryWindows(PLAN.specs)
    PLAN.add([event(1), event(2, day=0.5)], expected)
    assert np.array_equal(probe(place.states[1]), probe(expected))


def test_label_sources_are_ranked_as_the_use_case_says_whatever_a_plan_was_trained_with(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    strong, weak = USECASE.label.sources[:2]
    place.service(MemoryWindows(PLAN.specs)).run([event(1)])
    place.spool.append([place.label("t-1", 1, 8.0, weak), place.label("t-1", 0, 9.0, strong)])
    place.ship()
    rates = []
    for sources in ([strong, weak], [weak, strong], [strong]):
        keeper = place.keeper()
        keeper.want(PLAN.ranked(sources))
        place.finish(keeper)
        assert keeper.state is not None
        rates.append(
            PLAN.rows([event(2, day=8.5), event(3, day=9.5)], keeper.state)[
                :, PLAN.names.index("terminal_risk_30d")
            ].tolist()
        )
    assert rates == [[1.0, 0.0]] * 3
    assert caplog.text.count("another ranking") == 2


def test_while_the_database_is_away_the_state_waits_for_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.serving.window_keeper._RETRY_SECONDS", 0.01)
    place.away = True
    keeper = place.keeper()
    keeper.want(PLAN)
    assert keeper._building is not None
    keeper._building.join(0.2)
    assert keeper.state is None
    place.away = False
    place.finish(keeper)
    assert keeper.state is not None


def test_a_build_that_waits_can_be_given_up(place: Place) -> None:
    place.away = True
    keeper = place.keeper()
    keeper.want(PLAN)
    keeper.stop()
    assert keeper._building is not None
    keeper._building.join(20)
    assert not keeper._building.is_alive()


def test_labels_of_unranked_sources_are_ignored(place: Place) -> None:
    keeper = place.keeper()
    keeper.want(PLAN)
    place.finish(keeper)
    keeper.label([StoredLabel(1, "t-1", 1, 0, "gossip", 0)])
    assert isinstance(keeper.state, MemoryWindows)
    assert keeper.state.stats().parked == 0


def test_a_late_label_changes_windows_from_the_moment_it_was_known(place: Place) -> None:
    place.service(MemoryWindows(PLAN.specs)).run([event(1)])
    place.spool.append([place.label("t-1", day=12.0)])
    place.ship()
    state = place.fresh_state()
    risk = PLAN.names.index("terminal_risk_30d")
    before, after = (PLAN.rows([event(n, day=d)], state)[0, risk] for n, d in ((2, 10.0), (3, 13.0)))
    assert (before, after) == (0.0, 1.0)


def test_the_frame_of_no_labels_is_a_labels_frame(place: Place) -> None:
    frame = place.history()._label_frame([])
    assert isinstance(frame, pd.DataFrame)
    assert str(frame["observed_at"].dtype) == "datetime64[us, UTC]"


def _until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(2_000):
        if condition():
            return
        done.wait(0.005)
    raise AssertionError("it did not happen")
