"""``incumbent tune`` on a small world: folds, MLflow runs, the winner's gates and seat, a kill in the middle."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import UseCaseError
from flows.cli import main
from flows.evaluation import evaluation
from flows.runs.run_record import call
from flows.steps.tuning.mlflow_trials import PARENT
from flows.tuning import tuning
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace
from tests.bench.__main__ import main as bench
from tests.support.published import published
from tests.support.worlds import DAY, World, small_world

CARDS = published("card_transactions.parquet")
SMALL = {
    "trials = 18": "trials = 5",
    "folds = 4": "folds = 2",
    'fold = "7d"': 'fold = "4d"',
    "trees = {low = 50, high = 400": "trees = {low = 5, high = 30",
    "trees = 100": "trees = 5",
    "max_depth = 3": "max_depth = 2",
    "max_calibration_error = 0.05": "max_calibration_error = 0.3\nmin_baseline_gain = -0.5",
}


@contextmanager
def tunable(folder: Path) -> Iterator[World]:
    """A small world with a small search."""
    folder.mkdir(exist_ok=True)
    with small_world(folder, history=False) as made:
        file = Path(made.reference)
        text = file.read_text(encoding="utf-8")
        for old, new in SMALL.items():
            assert old in text, old
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        yield World(open_workspace(str(file)), str(file), made.live_from)


def until(world: World) -> str:
    return (world.live_from + 10 * DAY).isoformat()


def tune(world: World, **more: Any) -> FlowOutcome:
    return call(tuning, usecase=world.reference, until=world.live_from + 10 * DAY, **more)


def runs(world: World) -> list[Any]:
    """Every MLflow run of the model's experiment, newest last."""
    client = world.workspace.registry.client
    found = client.search_runs([world.workspace.registry.experiment(world.workspace.model)])
    return list(reversed(found))


def below(world: World, parent: str) -> list[Any]:
    return [run for run in runs(world) if run.data.tags.get(PARENT) == parent]


@dataclass(frozen=True)
class Searched:
    """A world in which one search ran, what the command printed, and the report that was kept."""

    world: World
    text: str
    report: dict[str, Any]

    @property
    def search(self) -> dict[str, Any]:
        return dict(self.report["tuning"])


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    """One search and the training after it, by the command line, that many tests look at."""
    before = dict(os.environ)
    try:
        with tunable(tmp_path_factory.mktemp("tuning")) as world, redirect_stdout(io.StringIO()) as out:
            words = ["tune", "--usecase", world.reference, "--until", until(world), "--reason", "a test"]
            assert main(words) == 0
            report = world.workspace.store.reports.latest("fraud", "training")
            assert report is not None
            yield Searched(world, out.getvalue(), dict(report.payload))
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_winner_is_trained_passes_the_same_gates_and_gets_a_seat(searched: Searched) -> None:
    search = searched.search
    assert searched.report["verdict"]["outcome"] == "pass"
    assert (search["trials"], len(search["folds"])) == (5, 2)
    assert search["value"] >= search["own_value"]
    model = searched.world.workspace.load(searched.world.workspace.champion())
    assert {name: model.metadata.parameters[name] for name in search["parameters"]} == search["parameters"]
    assert (searched.report["role"], searched.report["reason"]) == ("champion", "a test")


def test_the_command_prints_what_was_found_and_the_lines_that_keep_it(searched: Searched) -> None:
    lines = searched.search["training_lines"]
    assert "5 trials on 2 folds: trial " in searched.text
    assert "matured_rows" in searched.text
    assert searched.text.endswith(f"put them into the file:\n\n{lines}\n")
    assert lines.startswith("[training]\ntrees = ")
    assert main(["tune", "--trials", "0"]) == main(["tune", "--minutes", "0"]) == 2
    assert bench(["tuning", "--trials", "0"]) == 2


def test_no_candidate_is_measured_on_the_test_fold(searched: Searched) -> None:
    tested = searched.report["evidence"]["window"]["start"]
    assert searched.search["folds"] == ["2026-01-27 to 2026-01-31", "2026-01-31 to 2026-02-04"]
    assert tested == "2026-02-04T00:00:00Z"


def test_trials_and_the_training_are_mlflow_runs_below_that_of_the_search(searched: Searched) -> None:
    world, parent = searched.world, searched.search["mlflow_run"]
    children = below(world, parent)
    trials = [run for run in children if run.data.tags["kind"] == "tuning trial"]
    assert [run.data.tags["trial"] for run in trials] == ["0", "1", "2", "3", "4"]
    assert all(run.info.status == "FINISHED" and "average_precision" in run.data.metrics for run in trials)
    assert {"trees", "max_depth", "learning_rate"} <= set(trials[0].data.params)
    assert searched.report["mlflow_run"] in [run.info.run_id for run in children]
    own = next(run for run in runs(world) if run.info.run_id == parent)
    assert own.info.status == "FINISHED"
    assert own.data.metrics["average_precision"] == pytest.approx(searched.search["value"])
    assert own.data.params["data_digest"] == searched.report["data_digest"]


def test_the_run_is_recorded_as_tuning(searched: Searched) -> None:
    run = searched.world.workspace.store.runs.latest("fraud", "tuning")
    assert run is not None
    assert (run.state, run.message.split(":")[0]) == ("completed", "done")


def test_the_same_search_again_measures_nothing_and_logs_no_trial_twice(searched: Searched) -> None:
    world = searched.world
    assert tune(world).data["tuning"] == searched.search
    trials = [run for run in below(world, searched.search["mlflow_run"]) if run.data.tags["kind"] == "tuning trial"]
    assert len(trials) == 5
    assert call(evaluation, usecase=world.reference, version="1").data["model"] == "dev-fraud/1"


def test_a_use_case_without_a_search_says_what_to_write(tmp_path: Path) -> None:
    with tunable(tmp_path) as world:
        file = Path(world.reference)
        head, _, rest = file.read_text(encoding="utf-8").partition("[tuning]")
        file.write_text(head + "[evaluation]" + rest.partition("[evaluation]")[2], encoding="utf-8")
        with pytest.raises(UseCaseError, match=r"small\.toml: tuning: found nothing; allowed: .*\[tuning\.space\]"):
            tune(world)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tuning_killed_in_the_middle_ends_like_one_that_was_not(tmp_path: Path) -> None:
    with tunable(tmp_path / "straight") as world:
        straight = tune(world, trials=12).data["tuning"]
    with tunable(tmp_path / "killed") as world:
        words = [sys.executable, "-m", "flows.cli", "tune", "--usecase", world.reference, "--until", until(world)]
        child = subprocess.Popen([*words, "--trials", "12"])
        folder = world.workspace.settings.root / "tuning"
        while not any(file.read_text().count('"op_code":4') >= 5 for file in folder.glob("*.journal")):
            assert child.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        resumed = tune(world, trials=12).data["tuning"]
        same = ("trials", "pruned", "winner", "value", "own_value", "parameters")
        assert {name: resumed[name] for name in same} == {name: straight[name] for name in same}
        trials = [r for r in below(world, resumed["mlflow_run"]) if r.data.tags.get("kind") == "tuning trial"]
        finished = sorted(int(run.data.tags["trial"]) for run in trials if run.info.status == "FINISHED")
        assert finished == list(range(12))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_attempts_are_tasks_of_prefects_task_runner_and_find_the_same(searched: Searched, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    with tunable(tmp_path) as world, prefect_test_harness(server_startup_timeout=120):
        found = tuning(usecase=world.reference, until=world.live_from + 10 * DAY)
        with get_client(sync_client=True) as client:
            names = sorted(run.name for run in client.read_task_runs(limit=200))
    same = ("trials", "pruned", "winner", "value", "parameters")
    assert {k: found.data["tuning"][k] for k in same} == {k: searched.search[k] for k in same}
    assert {"trial-0-fold-1", "trial-0-fold-2", "trial-4-fold-1"} <= set(names)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(CARDS is None, reason="set INCUMBENT_BENCH_DATA to the folder of card_transactions.parquet")
def test_settings_chosen_before_the_test_weeks_are_no_worse_than_untuned_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench(["tuning", "--data", str(CARDS), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 18
    assert found["average_precision"] >= found["untuned_average_precision"]
    assert found["average_precision"] >= found["defaults_average_precision"]
