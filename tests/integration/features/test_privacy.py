"""Hashed ids and guarded columns from end to end: history from a file, events over HTTP, nothing left in the home."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.registry.ports import ModelRef
from bentos.usecase.loading import load_usecase
from monitoring.core.calendar import TimeWindow
from tests.support.builders import tiny_model
from tests.support.processes.servers import PROJECT, House, Server, event, serving

WINDOW = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
CARD = "4111 1111 1111 1111"


@dataclass
class Place:
    """A running service with hashed customers, and the file it was told about."""

    workspace: House
    usecase: Path
    server: Server

    def incumbent(self, *words: str) -> subprocess.CompletedProcess[str]:
        return command(self.workspace, self.usecase, *words)


def command(workspace: House, usecase: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("incumbent")), *words, "--usecase", str(usecase), "--json"],
        cwd=PROJECT, env=workspace.environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("private")
    text = (PROJECT / "bentos" / "usecases" / "fraud" / "usecase.toml").read_text(encoding="utf-8")
    note = '[[columns]]\nname = "note"\ntype = "string"\nnullable = true\npan_guard = true\n\n'
    usecase = folder / "private.toml"
    usecase.write_text(
        text.replace("[[features]]", note + "[[features]]", 1)
        + '\n[privacy]\nhashed = ["customer_id", "terminal_id"]\n'
    )
    workspace = House(folder / "home")
    model = tiny_model(load_usecase(usecase), threshold=0.1)
    workspace.add(model)
    workspace.appoint(ModelRef(workspace.model, "1"), model.contract_digest)
    rows = [f"h-{n},2026-02-2{n + 4} 10:00:00,customer-secret-4711,terminal-secret-1,{n + 0.5},," for n in range(5)]
    history = folder / "history.csv"
    header = "transaction_id,tx_time,customer_id,terminal_id,amount,is_fraud,note"
    history.write_text("\n".join([header, *rows, f"h-9,2026-02-26 10:00:00,x,y,1,,{CARD}"]))
    done = command(workspace, usecase, "windows", "load", "--source", "csv", "--path", str(history))
    assert "hash.key" in done.stderr
    assert json.loads(done.stdout)["events"] == 5
    assert json.loads(done.stdout)["quarantined"] == 1
    with serving(workspace, INCUMBENT_USECASE=str(usecase)) as server:
        yield Place(workspace, usecase, server)


def test_windows_of_hashed_ids_count_history_from_files_and_events_over_http(place: Place) -> None:
    for number in range(2):
        sent = event(f"t-private-{number}", customer_id="customer-secret-4711", terminal_id="terminal-secret-2")
        sent["tx_time"] = f"2026-03-01T12:0{number}:00Z"
        answer = place.server.score(sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["event_id"] == f"t-private-{number}"
    place.workspace.ship()
    with place.workspace.store() as store:
        names, features = store.log.features("fraud", WINDOW)
    counts = features.set_index("event_id")["customer_count_7d"]
    assert "customer_count_7d" in names
    assert [counts[f"t-private-{n}"] for n in range(2)] == [6.0, 7.0]


def test_a_retry_is_the_same_event_and_another_customer_is_not(place: Place) -> None:
    sent = event("t-private-9", customer_id="customer-secret-9")
    assert place.server.score(sent).content == place.server.score(sent).content
    assert place.server.score(sent | {"customer_id": "customer-secret-8"}).status_code == 409


def test_a_card_number_is_refused_and_named_by_its_column_only(place: Place) -> None:
    answer = place.server.score(event("t-card", note=f"paid with {CARD}"))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "column 'note': a card number may not be sent here"
    assert place.server.score(event("t-no-card", note="paid with a card")).status_code == 200


def test_what_the_log_holds_can_be_sent_again(place: Place) -> None:
    place.server.score(event("t-again", customer_id="customer-secret-5"))
    place.workspace.ship()
    with place.workspace.store() as store:
        stored = {e.event_id: e.body for part in store.log.stream("fraud", 0, 100) for e in part}
    assert place.server.post("/score", stored["t-again"]).status_code == 200


def test_no_file_of_the_home_holds_an_id_or_a_card_number(place: Place) -> None:
    place.server.score(event("t-files", customer_id="customer-secret-6", terminal_id="terminal-secret-6"))
    held = [file for file in place.workspace.home.rglob("*") if file.is_file()]
    assert {"hash.key", "dev-log.db"} <= {file.name for file in held}
    for file in held:
        content = file.read_bytes()
        for word in (b"-secret-", CARD.encode()):
            assert word not in content, file
