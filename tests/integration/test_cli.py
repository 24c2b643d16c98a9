"""The command line on a small house: what it prints, what it changes, how it ends."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.cli import main
from monitoring.store.records import ActionRecord
from tests.worlds import World, small_world


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A house in which nothing has happened yet."""
    with small_world(tmp_path_factory.mktemp("empty"), history=False) as made:
        yield made


@dataclass(frozen=True)
class Filled:
    """What the commands said that filled a house from a person's own CSV."""

    made: dict[str, Any]
    loaded: dict[str, Any]
    trained: dict[str, Any]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Filled]]:
    before = dict(os.environ)
    folder = tmp_path_factory.mktemp("cli")
    with small_world(folder, history=False) as made:
        yield made, fill(made, folder)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def world(filled: tuple[World, Filled]) -> World:
    return filled[0]


def fill(world: World, folder: Path) -> Filled:
    """Simulate a table, give it foreign names, map them back in a use-case file, import and train."""
    csv, toml = str(folder / "own.csv"), str(folder / "own.toml")
    made = said(world, "simulate", "--out", csv, "--days", "34")
    foreign = {"transaction_id": "Ref", "tx_time": "When", "customer_id": "Card", "terminal_id": "Shop"}
    pd.read_csv(csv).rename(columns=foreign | {"is_fraud": "Bad"}).to_csv(csv, index=False)
    own = Path(world.reference).read_text(encoding="utf-8")
    for ours, theirs in {
        "TRANSACTION_ID": "Ref", "TX_DATETIME": "When", "CUSTOMER_ID": "Card", "TERMINAL_ID": "Shop",
        "TX_AMOUNT": "amount", "TX_FRAUD": "Bad",
    }.items():  # fmt: skip
        own = own.replace(f'source_name = "{ours}"', f'source_name = "{theirs}"')
    Path(toml).write_text(own, encoding="utf-8")
    loaded = said(world, "windows", "load", "--source", "csv", "--path", csv, "--usecase", toml)
    until = world.live_from.date().isoformat()
    trained = said(world, "train", "--source", "csv", "--path", csv, "--until", until, "--usecase", toml)
    return Filled(made, loaded, trained)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands move their process into the home; put the environment back, and start elsewhere."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


def said(world: World, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with ``--json`` and return what it printed on standard output."""
    os.environ["INCUMBENT_HOME"] = str(world.house.settings.root)
    named = [] if "--usecase" in words else ["--usecase", world.reference]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, *named, "--json"]) == code
    assert printed.getvalue().count("\n") == 1, printed.getvalue()
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def refused(capsys: pytest.CaptureFixture[str], world: World, *words: str) -> str:
    """Run a command that is refused and return its one line on standard error."""
    os.environ["INCUMBENT_HOME"] = str(world.house.settings.root)
    assert main([*words, "--usecase", world.reference]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.strip().splitlines()[-1]


def test_nothing_to_do_yet_is_said_in_one_line(capsys: pytest.CaptureFixture[str], empty: World) -> None:
    assert "no @champion" in refused(capsys, empty, "drift", "--as-of", "2026-02-01")
    assert "nobody holds office" in refused(capsys, empty, "compare")
    assert "no comparison" in refused(capsys, empty, "promote", "--reason", "why not")
    assert "no @previous" in refused(capsys, empty, "rollback")
    assert "no @challenger" in refused(capsys, empty, "evaluate")


def test_a_house_is_filled_and_a_model_trained_from_a_persons_own_csv(filled: tuple[World, Filled]) -> None:
    world, told = filled
    assert told.loaded["events"] == told.made["rows"]
    assert told.trained["role"] == "champion"
    assert told.trained["verdict"]["outcome"] == "pass"
    status = said(world, "status")
    assert status["roles"]["champion"]["version"] == "1"
    assert status["log"]["events"] == told.made["rows"]


def test_the_chain_of_decisions_is_shown_and_verified(world: World) -> None:
    shown = said(world, "audit", "show")
    assert shown["decisions"][0]["kind"] == "installation.planned"
    assert said(world, "audit", "verify") == {"problems": []}


def test_people_get_text_without_json(capsys: pytest.CaptureFixture[str], world: World) -> None:
    os.environ["INCUMBENT_HOME"] = str(world.house.settings.root)
    assert main(["status", "--usecase", world.reference]) == 0
    out = capsys.readouterr().out
    assert "@champion" in out
    assert not out.startswith("{")


def test_a_check_without_enough_rows_is_no_refusal(world: World) -> None:
    found = said(world, "drift", "--as-of", "2026-02-05", "--html", "never")
    assert found["status"] == "insufficient_data"


def test_a_bench_prints_one_object_or_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INCUMBENT_BENCH_DATA", raising=False)
    assert main(["bench", "handbook", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--data FILE" in captured.err


def test_a_command_finds_its_home_from_any_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    os.chdir(tmp_path / "deep" / "er")
    assert said(world, "status")["roles"]["champion"]["version"] == "1"


def test_old_actions_are_shown_and_pruned_like_every_other_table(world: World) -> None:
    at = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    world.house.store.actions.add([ActionRecord(world.house.usecase.name, "old-1", "block", "analyst", at, at)])
    shown = said(world, "log", "prune", "--older-than", "400d", "--table", "actions", "--dry-run")
    assert [(d["table"], d["rows"]) for d in shown["days"]] == [("actions", 1)]
    gone = said(world, "log", "prune", "--older-than", "400d", "--table", "actions")
    assert [(d["table"], d["rows"]) for d in gone["days"]] == [("actions", 1)]
    assert said(world, "log", "prune", "--older-than", "400d", "--table", "actions", "--dry-run")["days"] == []


def test_nothing_is_up_and_so_nothing_is_stopped(empty: World) -> None:
    assert said(empty, "down") == {"stopped": []}


def test_a_time_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], world: World) -> None:
    assert main(["drift", "--as-of", "yesterday", "--usecase", world.reference]) == 2
    assert "2026-03-01" in capsys.readouterr().err
