"""The command line on a small house: what it prints, what it changes, how it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.cli import main
from tests.worlds import World, small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("cli"), history=False) as made:
        yield made


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands move their process into the home; put the environment back, and start elsewhere."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


def said(capsys: pytest.CaptureFixture[str], world: World, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with ``--json`` and return what it printed on standard output."""
    named = [] if "--usecase" in words else ["--usecase", world.reference]
    assert main([*words, *named, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1, out
    found: dict[str, Any] = json.loads(out)
    return found


def refused(capsys: pytest.CaptureFixture[str], world: World, *words: str) -> str:
    """Run a command that is refused and return its one line on standard error."""
    assert main([*words, "--usecase", world.reference]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.strip().splitlines()[-1]


def test_nothing_to_do_yet_is_said_in_one_line(capsys: pytest.CaptureFixture[str], world: World) -> None:
    assert "no @champion" in refused(capsys, world, "drift", "--as-of", "2026-02-01")
    assert "nobody holds office" in refused(capsys, world, "compare")
    assert "no comparison" in refused(capsys, world, "promote", "--reason", "why not")
    assert "no @previous" in refused(capsys, world, "rollback")
    assert "no @challenger" in refused(capsys, world, "evaluate")


def test_a_house_is_filled_and_a_model_trained_from_a_persons_own_csv(
    capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path
) -> None:
    made = said(capsys, world, "simulate", "--out", "made.csv", "--days", "34")
    foreign = {"transaction_id": "Ref", "tx_time": "When", "customer_id": "Card", "terminal_id": "Shop"}
    pd.read_csv("made.csv").rename(columns=foreign | {"is_fraud": "Bad"}).to_csv("own.csv", index=False)
    own = Path(world.reference).read_text(encoding="utf-8")
    for ours, theirs in {
        "TRANSACTION_ID": "Ref", "TX_DATETIME": "When", "CUSTOMER_ID": "Card", "TERMINAL_ID": "Shop",
        "TX_AMOUNT": "amount", "TX_FRAUD": "Bad",
    }.items():  # fmt: skip
        own = own.replace(f'source_name = "{ours}"', f'source_name = "{theirs}"')
    Path("own.toml").write_text(own, encoding="utf-8")
    loaded = said(capsys, world, "windows", "load", "--source", "csv", "--path", "own.csv", "--usecase", "own.toml")
    assert loaded["events"] == made["rows"]
    until = world.live_from.date().isoformat()
    trained = said(
        capsys, world, "train", "--source", "csv", "--path", "own.csv", "--until", until, "--usecase", "own.toml"
    )
    assert trained["role"] == "champion"
    assert trained["verdict"]["outcome"] == "pass"
    status = said(capsys, world, "status")
    assert status["roles"]["champion"]["version"] == "1"
    assert status["log"]["events"] == made["rows"]


def test_the_chain_of_decisions_is_shown_and_verified(capsys: pytest.CaptureFixture[str], world: World) -> None:
    shown = said(capsys, world, "audit", "show")
    assert shown["decisions"][0]["kind"] == "installation.planned"
    assert said(capsys, world, "audit", "verify") == {"problems": []}


def test_people_get_text_without_json(capsys: pytest.CaptureFixture[str], world: World) -> None:
    assert main(["status", "--usecase", world.reference]) == 0
    out = capsys.readouterr().out
    assert "@champion" in out
    assert not out.startswith("{")


def test_a_check_without_enough_rows_is_no_refusal(capsys: pytest.CaptureFixture[str], world: World) -> None:
    found = said(capsys, world, "drift", "--as-of", "2026-02-05", "--html", "never")
    assert found["status"] == "insufficient_data"


def test_a_bench_prints_one_object_or_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INCUMBENT_BENCH_DATA", raising=False)
    assert main(["bench", "handbook", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--data FILE" in captured.err


def test_a_command_finds_its_home_from_any_folder(
    capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    os.chdir(tmp_path / "deep" / "er")
    assert said(capsys, world, "status")["roles"]["champion"]["version"] == "1"


def test_nothing_is_up_and_so_nothing_is_stopped(capsys: pytest.CaptureFixture[str], world: World) -> None:
    assert said(capsys, world, "down") == {"stopped": []}


def test_a_time_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], world: World) -> None:
    assert main(["drift", "--as-of", "yesterday", "--usecase", world.reference]) == 2
    assert "2026-03-01" in capsys.readouterr().err
