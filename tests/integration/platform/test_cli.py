"""The command line on a small home: what it prints, what it changes, how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bentos.registry.ports import ModelRef
from flows.cli import main
from flows.sources import open_source
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Verdict
from monitoring.performance.cost_curve import CostCurve
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import ActionRecord
from tests.bench.__main__ import main as bench
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers
from tests.support.releases import promote
from tests.support.worlds import World, small_world


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home in which nothing has happened yet."""
    with small_world(tmp_path_factory.mktemp("empty"), history=False) as made:
        yield made


@dataclass(frozen=True)
class Filled:
    """What the commands said that filled a home from a person's own CSV."""

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
    os.environ["INCUMBENT_HOME"] = str(world.workspace.settings.root)
    named = [] if "--usecase" in words else ["--usecase", world.reference]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, *named, "--json"]) == code
    assert printed.getvalue().count("\n") == 1, printed.getvalue()
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def refused(capsys: pytest.CaptureFixture[str], world: World, *words: str) -> str:
    """Run a command that is refused and return its one line on standard error."""
    os.environ["INCUMBENT_HOME"] = str(world.workspace.settings.root)
    assert main([*words, "--usecase", world.reference]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.strip().splitlines()[-1]


def test_nothing_to_do_yet_is_said_in_one_line(capsys: pytest.CaptureFixture[str], empty: World) -> None:
    assert "no @champion" in refused(capsys, empty, "drift", "--as-of", "2026-02-01")
    assert "nobody is champion" in refused(capsys, empty, "compare")
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
    made, planned = shown["decisions"][:2]
    assert (made["kind"], planned["kind"]) == ("training", "installation.planned")
    about, (trained,) = made["payload"], world.workspace.registry.versions(world.workspace.model)[:1]
    assert (about["work"], about["version"], about["run_id"]) == ("training", trained.ref.version, trained.run_id)
    assert (about["data_digest"], made["actor"]) == (trained.tags["data_digest"], world.workspace.actor)
    assert said(world, "audit", "verify") == {"problems": []}


def test_people_get_text_without_json(capsys: pytest.CaptureFixture[str], world: World) -> None:
    os.environ["INCUMBENT_HOME"] = str(world.workspace.settings.root)
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
    assert bench(["handbook", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--data FILE" in captured.err


def test_a_command_finds_its_home_from_any_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    os.chdir(tmp_path / "deep" / "er")
    assert said(world, "status")["roles"]["champion"]["version"] == "1"


def test_old_actions_are_shown_and_pruned_like_every_other_table(world: World) -> None:
    at = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    world.workspace.store.actions.add([ActionRecord(world.workspace.usecase.name, "old-1", "block", "analyst", at, at)])
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


@dataclass(frozen=True)
class Story:
    """What the commands said, in the order of their calls."""

    world: World
    young: dict[str, Any]
    grown: dict[str, Any]
    back: dict[str, Any]
    refit: dict[str, Any]
    again: dict[str, Any]


@pytest.fixture(scope="module")
def story(filled: tuple[World, Filled], tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 1 answers, version 2 alarms at nearly everything and is rolled back, version 3 is a refit of 1."""
    world, folder = filled[0], tmp_path_factory.mktemp("eager")
    young = said(world, "threshold", "show", "--as-of", world.day(1).isoformat())
    world.live(0, 9)
    grown = said(world, "threshold", "show", "--as-of", world.day(9).isoformat())
    office(world, world.challenger(0.0005, folder))
    back = said(world, "rollback", "--reason", "it flags everybody", "--as-of", world.day(9).isoformat())
    refit = said(world, "threshold", "--refit", "--source", "log", "--as-of", world.day(12).isoformat())
    again = said(world, "threshold", "show", "--version", "3", "--as-of", world.day(12).isoformat())
    return Story(world, young, grown, back, refit, again)


def office(world: World, ref: ModelRef) -> None:
    """The version becomes champion by a verdict and answers the tenth day."""
    workspace, now = world.workspace, world.day(8)
    verdict = Verdict("comparison", "promote", (), ref.label, f"{ref.name}/1", now, ("a test",))
    known = {"usecase": workspace.usecase, "actor": "test", "now": now, "check": lambda folder: None}
    promote(workspace.registry, workspace.store, verdict, **known)  # type: ignore[arg-type]  # options of many types
    window = TimeWindow(world.day(9), world.day(10))
    read = open_source(workspace.usecase, "simulator").read(
        TimeWindow(window.start - workspace.usecase.longest_window, window.end)
    )
    model = world.model(ref.version)
    wanted = (read.events[workspace.usecase.event_time] >= window.start).to_numpy()
    features = model.plan.build(read.events, read.revisions, window.end)[wanted].to_numpy()
    arrived = EventBatch(read.events[wanted].reset_index(drop=True), features, datetime.now(UTC) + timedelta(seconds=1))
    log_answers(workspace.store, workspace.usecase, LoadedVersion(ref, model), arrived)


def test_a_version_that_has_not_answered_yet_shows_the_curve_that_it_was_made_with(story: Story) -> None:
    assert (story.young["rows"], story.young["curve_of"]) == (0, "the fold that chose the threshold")
    curve = story.young["curve"]
    assert {len(values) for values in curve.values()} == {len(curve["threshold"])}
    assert curve["alerts"][0] == 0
    assert CostCurve.from_json(curve) == story.world.model().cost_curve


def test_matured_answers_take_the_place_of_that_curve(story: Story) -> None:
    assert story.grown["rows"] > 1000
    assert story.grown["curve_of"] == "matured answers"
    assert story.grown["curve"]["alerts"][-1] == story.grown["rows"]
    assert story.grown["curve"] != story.young["curve"]


def test_people_see_the_curve_with_the_threshold_in_use_among_its_rows(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["threshold", "show", "--usecase", story.world.reference, "--version", "3"]) == 0
    out = capsys.readouterr().out
    assert "cost of the fold that chose the threshold:" in out
    assert "calibrator" in out.splitlines()[0]


def test_a_version_from_before_curves_were_kept_says_so(story: Story, tmp_path: Path) -> None:
    workspace = story.world.workspace
    replace(story.world.model(), cost_curve=None).save(tmp_path)
    old = workspace.registry.register(tmp_path, workspace.model)
    found = said(story.world, "threshold", "show", "--version", old.version)
    assert (found["curve"], found["curve_of"], found["rows"]) == (None, None, 0)


def test_a_refit_by_the_command_is_a_patch_version_with_its_own_curve_and_a_seat(story: Story) -> None:
    parent, made = story.refit["parent"], story.refit["version"]
    assert (parent, made) == ("dev-fraud/1", "dev-fraud/3")
    assert story.refit["semantic_version"] == "1.0.1"
    assert story.refit["verdict"]["outcome"] == "pass"
    assert story.refit["role"] == "challenger"
    assert story.again["threshold"] == story.refit["threshold"]
    assert story.again["curve"] not in (None, story.young["curve"])
    assert story.world.workspace.store.decisions.verify() == []


def test_a_refit_with_too_little_behind_the_version_is_refused_in_words(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["threshold", "refit", "--usecase", story.world.reference, "--source", "log"]
    assert main([*words, "--as-of", story.world.day(0).isoformat()]) == 1
    assert "a refit takes 3" in capsys.readouterr().err


def test_a_rollback_lists_every_event_that_the_restored_version_would_have_decided_otherwise(story: Story) -> None:
    affected = story.back["affected"]
    assert affected["answered"] > 50
    assert affected["call"] > 10
    assert (affected["review"], affected["unknown"], affected["from_version"]) == (0, 0, "2")
    with Path(affected["file"]).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == affected["call"]
    cut = story.world.model().threshold.value
    for row in rows:
        assert row["direction"] == "call"
        assert float(row["restored_score"]) < cut
        assert row["customer_id"]
    assert [row["event_id"] for row in affected["rows"]] == [row["event_id"] for row in rows[:20]]
    assert f"{len(rows)} events to call about" in story.back["summary"]


def test_the_list_is_of_the_answers_since_the_promotion_only(story: Story) -> None:
    first, last = (to_us(story.world.day(n)) for n in (9, 10))
    with Path(story.back["affected"]["file"]).open(newline="") as stream:
        times = [to_us(datetime.fromisoformat(row["event_time"])) for row in csv.DictReader(stream)]
    assert times
    assert all(first <= time < last for time in times)
    (kept,) = story.world.workspace.store.decisions.list(kinds=("rollback.affected",))
    assert kept.payload["digest"] == story.back["affected"]["digest"]


def test_a_plan_learns_traffic_and_prevalence_from_the_log(story: Story) -> None:
    found = said(story.world, "plan", "--effect", "0.05", "--as-of", story.world.day(9).isoformat())
    assert "matured days of the log" in found["sources"]["prevalence"]
    assert 0.0 < found["prevalence"] < 0.2
    assert found["events_per_day"] > 100
