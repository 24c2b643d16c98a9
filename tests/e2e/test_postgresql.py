"""Everything on PostgreSQL: service, scribe, labels, comparison, promotion; MLflow and Prefect too."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest

from flows.drills.load.homes import BenchHome
from flows.drills.load.models import fit_model, training_rows
from flows.drills.load.run_load import RunningLoad, read_answers
from flows.drills.load.temporary_postgresql import Postgres, temporary_postgresql
from flows.drills.prediction_log import Victims, compare_answers, drain_spool, endless_load
from flows.steps.operations.backups import write_backup
from flows.workspace.installation import PROJECT
from flows.workspace.logins import make_logins
from flows.workspace.processes import Child, Command, free_port
from monitoring.core.verdict import Verdict
from tests.support.processes.postgresql import programs
from tests.support.processes.servers import event
from tests.support.releases import promote

pytestmark = [pytest.mark.slow, pytest.mark.needs_postgresql, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    programs()
    with temporary_postgresql() as running:
        with psycopg.connect(running.url.replace("+psycopg", ""), autocommit=True) as session:
            for name in ("mlflow", "prefect"):
                session.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]  # our own text
        yield running


def url_of(server: Postgres, database: str, driver: str = "psycopg") -> str:
    return server.url.replace("@/postgres?", f"@/{database}?").replace("+psycopg", f"+{driver}")


@pytest.fixture(scope="module")
def home(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> BenchHome:
    made = BenchHome(
        tmp_path_factory.mktemp("postgresql") / "home",
        database_url=server.url,
        mlflow_uri=url_of(server, "mlflow"),
        prefect_database_url=url_of(server, "prefect", "asyncpg"),
    )
    made.home.make()
    features, y = training_rows(made.usecase, customers=150, terminals=300, days=40)
    made.seat([fit_model(made.usecase, features, y, seed, trees=30, depth=3) for seed in (1, 2)])
    return made


def until(came_true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not came_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def command(home: BenchHome, *words: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words, "--json"],
        cwd=PROJECT, env=home.environment(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_from_the_first_request_to_a_change_of_office(home: BenchHome, tmp_path: Path) -> None:
    victims, record = Victims(home), tmp_path / "answers.txt"
    try:
        victims.start()
        with RunningLoad(endless_load(victims.port, 4, record)) as running:
            time.sleep(5.0)
            measured = running.stop()
        assert measured.statuses == {}
        answers = list(read_answers(record))
        label = {"event_id": answers[0].event_id, "label": 1, "observed_at": "2026-03-02T00:00:00Z"}
        said = httpx.post(f"http://127.0.0.1:{victims.port}/labels", json=label | {"source": "chargeback"})
        assert said.status_code < 300, said.text
        assert drain_spool(home)["balanced"]
        found = compare_answers(home, record)
        assert found["answered"] == found["stored"] == len(answers) > 100
        with home.store() as store:
            until(lambda: store.shadow.progress("fraud", f"{home.model}/2").pending == 0)
            assert store.shadow.progress("fraud", f"{home.model}/2").scored == len(answers)
            until(lambda: len(store.labels.history("fraud")) == 1)
            assert store.labels.parked("fraud") == 0
        code, compared = command(home, "compare")
        assert code == 0, compared
        with home.store() as store:
            refs = home.registry.roles(home.model)
            challenger, champion = refs["challenger"].label, refs["champion"].label
            verdict = Verdict("comparison", "promote", (), challenger, champion, datetime.now(UTC), ("a test",))
            outcome = promote(
                home.registry, store, verdict, usecase=home.usecase, actor="test", now=datetime.now(UTC),
                wait_seconds=20.0,
            )  # fmt: skip
            assert (outcome.state, outcome.acknowledged) == ("DONE", True)
            assert store.decisions.verify() == []
        answer = httpx.post(f"http://127.0.0.1:{victims.port}/score", json=event("after-the-promotion")).json()
        assert answer["model"]["version"] == "2"
    finally:
        victims.stop()


def test_the_prefect_server_keeps_its_state_there_and_all_three_databases_are_backed_up(
    home: BenchHome, server: Postgres, tmp_path: Path
) -> None:
    port = free_port()
    make_logins(home.root)
    argv = [sys.executable, "-m", "flows.workspace.prefect_server", "--host", "127.0.0.1", "--port", str(port)]
    health = f"http://127.0.0.1:{port}/api/health"
    child = Child(Command("prefect-server", argv, home.environment(), tmp_path / "prefect.log", health))
    try:
        child.wait_ready()
        assert httpx.get(f"http://127.0.0.1:{port}/api/admin/version").status_code == 401
    finally:
        child.ask_to_stop()
        child.wait_gone()
    with psycopg.connect(url_of(server, "prefect").replace("+psycopg", "")) as session:
        (count,) = session.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_name = 'flow_run'"
        ).fetchone()  # type: ignore[misc]  # one row
    assert count == 1
    parts = write_backup(home.home, tmp_path / "set").manifest["parts"]
    assert {name: parts[name]["kind"] for name in ("log", "mlflow", "prefect")} == dict.fromkeys(
        ("log", "mlflow", "prefect"), "postgresql"
    )
