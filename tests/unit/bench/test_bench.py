"""The bench's own parts: bodies, load generator, figures, search."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.schema.event_schema import EventSchema
from flows.drills.load.bodies import BATCH, BodySpec, make_bodies
from flows.drills.load.load_generator import LoadRound, RoundFigures
from flows.drills.load.run_load import RunningLoad, read_answers, run_load
from flows.workspace.installation import PROJECT
from tests.bench.serving.compare import bracketed
from tests.bench.serving.profiling import HTTP, STAGES, shares
from tests.bench.serving.rounds import (
    HEADERS,
    Round,
    notes_for_people,
    ratios,
    relative_cost,
    rows_for_people,
    summaries,
)
from tests.support.builders import fraud


class Handler(BaseHTTPRequestHandler):
    """Answers like the service, or not, by the path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answers: dict[str, tuple[int, bytes]] = {
            "/score": (
                200,
                json.dumps({"event_id": asked["transaction_id"], "score": 0.5}).encode().replace(b" ", b""),
            ),
            "/other": (200, b'{"event_id":"somebody","score":0.5}'),
            "/busy": (429, b"{}"),
        }
        status, body = answers[self.path]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def measured(rps: float, p99: float = 10.0) -> RoundFigures:
    return RoundFigures(rps, p99 / 2, p99, p99, int(rps), 0, int(rps), int(rps), {})


def test_every_event_body_is_accepted_by_the_schema_and_business_time_moves_on() -> None:
    schema = EventSchema.of(fraud())
    bodies = make_bodies(BodySpec("event", 3, first=10))
    events = [schema.decode(before + b"b-1" + after) for before, after in bodies]
    assert [e.time_us for e in events] == sorted({e.time_us for e in events})
    assert events[0].time_us > schema.decode(b"b-1".join(make_bodies(BodySpec("event", 1))[0])).time_us


def test_a_batch_has_a_place_for_the_id_of_each_of_its_events() -> None:
    (pieces,) = make_bodies(BodySpec("batch", 1))
    assert len(pieces) == BATCH + 1
    assert len(EventSchema.of(fraud()).decode_many(_joined(pieces), 1000)) == BATCH


def _joined(pieces: tuple[bytes, ...]) -> bytes:
    return b"".join(piece + (b"e%d" % at if at < BATCH else b"") for at, piece in enumerate(pieces))


@pytest.mark.parametrize(("kind", "holes"), [("row", 1), ("rows", 1), ("v2", 0), ("split", 0)])
def test_feature_bodies_are_json_and_hold_the_row(kind: Any, holes: int, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1.5, 0.1]], np.float32))
    spec = BodySpec(kind, 1, features=str(tmp_path / "x.npy"), names=("a", "b"))
    (pieces,) = make_bodies(spec)
    assert len(pieces) == holes + 1
    text = b"id".join(pieces)
    json.loads(text)
    assert b"0.1" in text


def test_a_closed_loop_sends_every_event_once_and_records_each_answer(port: int, tmp_path: Path) -> None:
    record = tmp_path / "answers.txt"
    found = run_load(LoadRound(port, "/score", BodySpec("event", 50), 4, 0.5, 0.1, None, "t-", record=str(record)))
    assert found.errors == 0
    assert 0 < found.answered <= found.requests
    ids = [answer.event_id for answer in read_answers(record)]
    assert len(ids) == len(set(ids)) == found.requests
    assert {answer.status for answer in read_answers(record)} == {200}


def test_an_open_loop_sends_no_more_requests_than_are_due(port: int) -> None:
    found = run_load(LoadRound(port, "/score", BodySpec("event", 50), 4, 1.0, 0.0, 50.0))
    assert found.errors == 0
    assert 0 < found.requests <= 50


@pytest.mark.parametrize(("path", "status"), [("/other", "wrong answer"), ("/busy", "429")])
def test_an_answer_without_the_events_id_and_another_status_are_errors(port: int, path: str, status: str) -> None:
    found = run_load(LoadRound(port, path, BodySpec("event", 50), 2, 0.3, 0.0))
    assert found.answered == 0
    assert found.statuses == {status: found.errors}


def test_a_load_without_an_end_stops_when_it_is_told(port: int) -> None:
    with RunningLoad(LoadRound(port, "/score", BodySpec("event", 50), 2, 0.0, 0.0, 20.0, give_up=False)) as running:
        threading.Event().wait(1.5)
        assert running.stop().errors == 0


def test_ratios_are_made_within_rounds_and_void_rounds_do_not_count() -> None:
    rounds = {
        "ours_event": [Round(measured(500, 1)), Round(measured(900, 2)), Round(measured(9), void=True)],
        "fastapi": [Round(measured(100, 10)), Round(measured(150, 40)), Round(measured(100))],
        "ours_no_shadow": [Round(measured(1000)), Round(measured(1000)), Round(measured(1000))],
    }
    found = ratios(rounds)["ours_event"]["fastapi"]
    assert (found["rps"]["min"], found["rps"]["max"]) == (5.0, 6.0)
    assert found["p99"]["median"] == pytest.approx(0.075)
    assert relative_cost(rounds, "ours_event", "ours_no_shadow") == pytest.approx(0.3)
    assert relative_cost(rounds, "ours_explain", "ours_event") is None
    summary = summaries(rounds)["ours_event"]
    assert (summary["rounds"], summary["void"], summary["rps"]) == (2, 1, 700.0)


def test_where_every_round_is_void_there_are_no_figures_and_the_notes_say_so() -> None:
    rounds = {"ours_event": [Round(measured(500), void=True)] * 2, "fastapi": [Round(measured(100))]}
    closed = {"32": summaries(rounds)}
    assert closed["32"]["ours_event"] == {
        "rps": None, "p50_ms": None, "p99_ms": None, "errors": None, "cpu_us": None, "rounds": 0, "void": 2,
    }  # fmt: skip
    assert rows_for_people({"closed": closed})[0] == (32, "ours_event", *[None] * 7)
    nothing: dict[str, Any] = {"ratios": {}, "open": {}, "lone_request": {}, "profile": {}, "skipped": {}}
    notes = notes_for_people(nothing | {"closed": closed, "shadow_cost": None, "explain_cost": None, "soak": None})
    assert notes == ["ours_event at 32 connections: every round was void, the log fell behind"]


def test_the_table_has_a_cell_for_every_header() -> None:
    closed = {"32": summaries({"fastapi": [Round(measured(100))], "ours_event": [Round(measured(500))]})}
    rows = rows_for_people({"closed": closed})
    assert [len(row) for row in rows] == [len(HEADERS)] * 2
    assert rows[1][-2:] == (5.0, None)


@pytest.mark.parametrize("limit", [700.0, 1000.0, 2500.0])
def test_the_search_finds_the_highest_good_rate_to_five_percent(limit: float) -> None:
    assert limit * 0.94 <= bracketed(lambda rate: rate <= limit, 1000.0, tries=12) <= limit


def test_the_search_gives_nothing_where_no_rate_is_good() -> None:
    assert bracketed(lambda rate: False, 1000.0) == 0.0


def test_the_search_stops_when_the_time_is_over() -> None:
    tried: list[float] = []
    assert bracketed(lambda rate: not tried.append(rate), 1000.0, over=lambda: len(tried) >= 2) == tried[-1]  # type: ignore[func-returns-value]  # append returns none
    assert len(tried) == 2


def test_a_profile_counts_for_the_innermost_function_that_belongs_to_a_stage() -> None:
    lines = [
        "30 numpy/core.py:clip|/x/bentos/model/calibration.py:logit|"
        "/x/bentos/scoring/active_models.py:scores|/x/bentos/scoring/scorer.py:_score",
        "50 /x/bentos/windows/entity_series.py:read|"
        "/x/bentos/windows/memory.py:read_add|/x/bentos/scoring/scorer.py:_score",
        "20 /lib/asyncio/runners.py:run",
    ]
    assert shares(lines) == {"windows and features": 0.5, "calibration": 0.3, HTTP: 0.2}
    assert shares([]) == {}


def test_every_file_that_a_stage_names_is_there() -> None:
    ours = [file for _, files in STAGES for file in files if file.endswith(".py")]
    assert [file for file in ours if not (PROJECT / file).is_file()] == []
