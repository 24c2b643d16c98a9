"""Rows of the future: on their way into quarantine, and in a log that was filled before there was a bound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from bentos.features.plan import FeaturePlan
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.future_bound import FutureBound
from bentos.scoring.intake import machine_time_us
from bentos.serving.shared_windows import shared_name, shared_windows_factory
from bentos.serving.window_history import LogHistory
from bentos.settings import read_settings
from bentos.spool.shipper import Scribe, accounting
from bentos.spool.writer import SpoolWriter
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis import RedisWindows
from bentos.windows.state import WindowState
from flows.cli import main
from flows.errors import FlowRefused
from flows.steps.operations.future_rows import ANEW, RESTART, repair_log
from flows.workspace.workspace import Workspace, open_workspace
from monitoring.metrics import serving as metrics
from monitoring.store import Store
from monitoring.store.database.day_partitions import DAY_US, days_with_tables
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import ActionRecord, LabelRecord, RefusedRecord, ScoreRecord
from monitoring.store.database.tables import labels, predictions, quarantine
from monitoring.store.predictions.future_rows import find_future_rows, move_future_rows
from tests.support.builders import fraud
from tests.support.log.logged import at, label, labels_policy, scored, shadowed, unscored
from tests.support.processes.redis_server import RedisServer, redis_server

USECASE = fraud()
SCHEMA = EventSchema.of(USECASE)
PLAN = FeaturePlan.of(USECASE)
WILD = datetime(2099, 1, 1, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def event(name: str, time: datetime, customer: str = "c-1") -> Event:
    values = {"transaction_id": name, "customer_id": customer, "terminal_id": "m-1", "amount": 10.0}
    return SCHEMA.event(values | {"tx_time": time})


def record(one: Event) -> ScoreRecord:
    """What a service without a bound logged of an event that was sent."""
    return ScoreRecord("fraud", one.event_id, one.time_us, to_us(now()), "event", one.as_json())


def count(store: Store, table: Any) -> int:
    with store.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def reasons(store: Store) -> dict[str, int]:
    query = select(quarantine.c.reason, func.count()).group_by(quarantine.c.reason)
    with store.database.read() as connection:
        return {str(reason): int(rows) for reason, rows in connection.execute(query)}


def test_refused_rows_travel_through_the_spool_into_quarantine_and_the_figures_balance(
    store: Store, tmp_path: Path
) -> None:
    spool = SpoolWriter(tmp_path, writer="w1")
    spool.append([scored(1, 0)])
    spool.append([RefusedRecord("fraud", "event", "in_future", to_us(WILD), 1, b'{"a":1}')] * 3)
    spool.append([RefusedRecord("fraud", "label", "in_future", to_us(WILD), 1, b"{}"), label(1, 1, 1)])
    before = accounting(store, tmp_path, "fraud")
    assert (before.accepted, before.spooled, before.is_balanced) == (6, 6, True)
    spool.close()
    Scribe(store, tmp_path, "fraud", labels_policy()).run_once()
    assert reasons(store) == {"in_future: event": 3, "in_future: label": 1}
    after = accounting(store, tmp_path, "fraud")
    assert (after.accepted, after.stored, after.quarantined, after.spooled, after.is_balanced) == (6, 2, 4, 0, True)
    assert (count(store, predictions), count(store, labels)) == (1, 1)
    with store.database.read() as connection:
        kept = connection.execute(select(quarantine.c.seq, quarantine.c.payload).order_by(quarantine.c.seq)).all()
    assert [(seq, bytes(payload)) for seq, payload in kept[:2]] == [(2, b'{"a":1}'), (3, b'{"a":1}')]


def test_rows_beyond_a_time_move_with_what_stands_beside_them_and_nothing_else(store: Store) -> None:
    limit = to_us(at(5))
    store.log.append([scored(1, 0), scored(2, 5), scored(3, 6), unscored(4, 7), scored(5, 9, usecase="other")])
    store.shadow.append([shadowed(1, scored_at=to_us(at(1))), shadowed(3, scored_at=to_us(at(1)))])
    store.labels.add([label(1, 1, 1), label(1, 0, 5.5), label(3, 1, 2)], labels_policy())
    action = ActionRecord("fraud", "e00001", "block", "rule", to_us(at(8)), 1)
    store.actions.add([action])
    found = {one.kind: (one.rows, one.first, one.last) for one in find_future_rows(store.database, "fraud", limit)}
    assert found == {"event": (2, at(6), at(7)), "label": (1, at(5.5), at(5.5)), "action": (1, at(8), at(8))}
    moved = list(move_future_rows(store.database, "fraud", limit))
    assert {kind: len(ids) for kind, ids in moved} == {"event": 2, "label": 1, "action": 1}
    assert reasons(store) == {"in_future: event": 2, "in_future: label": 1, "in_future: action": 1}
    assert find_future_rows(store.database, "fraud", limit) == []
    assert list(move_future_rows(store.database, "fraud", limit)) == []
    assert count(store, predictions) == 3, "the row exactly at the bound and the other use case's stay"
    assert store.log.append([scored(3, 1)]).stored == 1, "a moved id is free for the true event"
    if not store.database.is_sqlite:
        with store.database.read() as connection:
            assert max(days_with_tables(connection)) == to_us(at(9)) // DAY_US, "empty days beyond are gone"


class Old:
    """A home whose log was filled by a service without a bound."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
        for name, value in {"home": str(home), "usecase": "fraud", **settings}.items():
            monkeypatch.setenv(f"INCUMBENT_{name.upper()}", value)
        self.workspace: Workspace = open_workspace()
        self.today = now()
        self.real = [event(f"t-{n}", self.today - timedelta(hours=n + 1)) for n in range(100)]
        self.workspace.store.log.append([record(one) for one in self.real])

    def poison(self, rows: int = 1_000) -> None:
        wild = [event(f"w-{n}", WILD + timedelta(seconds=n)) for n in range(rows)]
        self.workspace.store.log.append([record(one) for one in wild])
        self.workspace.store.labels.add([LabelRecord("fraud", "t-1", 1, to_us(WILD), "analyst", 1)], USECASE.label)

    def rebuilt(self, state: WindowState | None = None) -> WindowState:
        """What a service has after a start, and an hour of real events."""
        made = MemoryWindows(PLAN.specs) if state is None else state
        bound = FutureBound(self.workspace.settings, machine_time_us)
        history = LogHistory(
            "fraud", SCHEMA, USECASE.label.sources, lambda: self.workspace.store, list, lambda: 0, bound.latest_us
        )
        history.fill(FeaturePlan.union([PLAN]), made)
        return made

    def features(self, state: WindowState) -> Any:
        PLAN.add([event(f"n-{n}", self.today - timedelta(seconds=n)) for n in range(200)], state)
        return PLAN.rows([event("probe", self.today + timedelta(seconds=1))], state)


def test_a_poisoned_log_is_shown_repaired_and_gives_the_windows_of_a_clean_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, old = Old(tmp_path / "clean", monkeypatch), Old(tmp_path / "old", monkeypatch)
    expected = clean.features(clean.rebuilt())
    old.poison()
    poisoned = old.rebuilt()
    assert metrics.LOGGED_FUTURE_EVENTS._value.get() == 1_000
    assert not np.array_equal(old.features(poisoned), expected)
    assert poisoned.stats().too_late >= 200, "no real event is added any more"
    shown = repair_log(old.workspace, None, "")
    assert (shown.moved, shown.decision) == ({}, None)
    assert {one.kind: one.rows for one in shown.found} == {"event": 1_000, "label": 1}
    assert count(old.workspace.store, quarantine) == 0
    done = repair_log(old.workspace, None, "a client sent 2099")
    assert done.moved == {"event": 1_000, "label": 1}
    assert done.next_step == RESTART
    mended = old.rebuilt()
    assert metrics.LOGGED_FUTURE_EVENTS._value.get() == 0
    fresh = clean.rebuilt()
    assert mended.stats() == fresh.stats()
    assert np.array_equal(old.features(mended), expected)
    (line,) = [one for one in old.workspace.store.decisions.list("fraud") if one.kind == "log.repaired"]
    assert line.payload["rows"]["event"]["rows"] == 1_000
    assert line.payload["reason"] == "a client sent 2099"
    assert old.workspace.store.decisions.verify() == []
    assert repair_log(old.workspace, None, "again").found == []


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


def test_replicas_that_share_windows_build_them_anew_after_a_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    old = Old(tmp_path, monkeypatch, redis_url=server.url)
    old.poison()
    make = shared_windows_factory(server.url, shared_name("dev", "fraud"), 10**16, SCHEMA)
    running = make(FeaturePlan.union([PLAN]))
    old.rebuilt(running)
    running.join([])
    running.remember("w-1", "0" * 64, b"", to_us(now()))
    running.settle()
    running.follow()
    assert running.answered("w-1") is not None
    assert repair_log(old.workspace, None, "a client sent 2099").next_step == ANEW
    with pytest.raises(Exception, match="began anew"):
        running.follow()
    assert running.lost, "the keeper builds a lost state from the log again"
    again = make(FeaturePlan.union([PLAN]))
    assert isinstance(again, RedisWindows)
    old.rebuilt(again)
    again.join([])
    assert again.answered("w-1") is None
    assert np.array_equal(old.features(again), old.features(old.rebuilt()))
    running.close()
    again.close()


def test_while_redis_is_away_nothing_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Old(tmp_path, monkeypatch, redis_url="unix:///nowhere/redis.sock")
    old.poison(3)
    with pytest.raises(Exception, match="Redis cannot be used"):
        repair_log(old.workspace, None, "why")
    assert count(old.workspace.store, quarantine) == 0
    assert old.workspace.store.decisions.list("fraud") == []


def test_the_command_shows_first_and_moves_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Old(tmp_path, monkeypatch)
    assert main(["log", "repair"]) == 0
    assert "no row of the future" in capsys.readouterr().out
    old.poison(3)
    assert main(["log", "repair"]) == 0
    assert "with --reason TEXT they do" in capsys.readouterr().out
    assert main(["log", "repair", "--reason", "a wrong year", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["moved"], found["next_step"]) == ({"event": 3, "label": 1}, RESTART)
    assert main(["log", "repair", "--after", "2020-01-01", "--reason", "x"]) == 1
    assert "rows up to now are none of the future" in capsys.readouterr().err
    assert count(old.workspace.store, predictions) == 100


def test_in_a_house_of_a_stream_the_time_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Old(tmp_path, monkeypatch, clock="stream")
    old.poison(3)
    with pytest.raises(FlowRefused, match="--after"):
        repair_log(old.workspace, None, "why")
    assert repair_log(old.workspace, WILD - timedelta(days=1), "why").moved == {"event": 3, "label": 1}


def test_events_that_an_older_service_left_in_the_spool_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Old(tmp_path, monkeypatch)
    spool = SpoolWriter.of(read_settings(), "fraud")
    spool.append([record(event("w-1", WILD))])
    spool.close()
    assert repair_log(old.workspace, None, "").spooled == 1
