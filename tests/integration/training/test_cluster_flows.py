"""Training and scoring through the flows and the command on a cluster of two processes; the bench beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.errors import ClusterUnreachable
from flows.runs.parameters import LOG, EngineChoice
from flows.runs.run_record import call
from flows.scoring import scoring
from flows.sources import open_source
from flows.training import training
from flows.workspace.installation import PROJECT
from tests.bench.speed.scale import bench_scale, simulated
from tests.integration.training.test_cluster import LOCAL
from tests.support.worlds import World, small_world

pytestmark = pytest.mark.slow

MACHINE = ("single_event_p99_ms", "model_mb")
"""Checks whose figures are those of a machine or of digits in a text, not of the rows."""
CARDS = Path(os.environ.get("INCUMBENT_BENCH_DATA", "")) / "card_transactions.parquet"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(**LOCAL, n_workers=2, threads_per_worker=1, processes=True) as made:
        yield made.scheduler_address


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as found:
        yield found


def test_flows_train_from_the_log_and_score_a_table_on_a_cluster(
    world: World, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineChoice(engine="dask", scheduler=scheduler)
    words: dict[str, Any] = {"usecase": world.reference, "until": world.live_from, "source": LOG}
    first = call(training, **words, engine=engine)
    assert (first.status, first.data["model"]) == ("done", "dev-fraud/1")
    # The champion knows these rows and is not measured on them; both engines find the same figures.
    again, here = call(training, **words, engine=engine), call(training, **words)
    assert again.status == here.status == "done"
    told = [{c.name: c.value for c in found.checks if c.name not in MACHINE} for found in (again, here)]
    assert told[0] == pytest.approx(told[1], abs=1e-6)
    assert "average_precision" in told[0]
    assert "champion_gain" not in told[0]

    source = open_source(world.workspace.usecase, "simulator")
    source.read(source.extent()).events.to_parquet(tmp_path / "in.parquet", index=False)
    files = {"table_in": str(tmp_path / "in.parquet"), "version": "1", "usecase": world.reference}
    call(scoring, table_out=str(tmp_path / "one.parquet"), **files)
    monkeypatch.setenv("INCUMBENT_ENGINE", "dask")
    monkeypatch.setenv("INCUMBENT_SCHEDULER", scheduler)
    call(scoring, table_out=str(tmp_path / "two.parquet"), **files)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "one.parquet"), pd.read_parquet(tmp_path / "two.parquet"))


def test_the_command_says_in_one_line_that_no_scheduler_answers(world: World) -> None:
    words = ("train", "--usecase", world.reference, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9")
    found = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 1
    assert f"{ClusterUnreachable.code}: no Dask scheduler answers at tcp://127.0.0.1:9" in found.stderr
    assert "Traceback" not in found.stderr


def same(found: dict[str, Any]) -> None:
    assert found["max_feature_difference"] == 0.0
    assert found["metric_difference"] <= 0.005
    assert found["scores_equal"] is True
    assert found["peak_mb_per_worker"] == max(found["cluster"]["peaks_mb"]) <= found["cluster"]["memory_mb"]


def test_a_simulated_set_gives_the_same_features_figures_and_scores(tmp_path: Path) -> None:
    found = bench_scale(tmp_path / "bench", None, 150_000, 1500, lambda _: None)
    same(found)
    json.dumps(found, allow_nan=False)


def test_the_simulated_set_has_about_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    files = list(simulated(tmp_path / "events", 50_000).glob("*.parquet"))
    assert len(files) == 120
    assert 35_000 < sum(len(pd.read_parquet(file, columns=["TX_FRAUD"])) for file in files) < 65_000


@pytest.mark.skipif(not CARDS.is_file(), reason="needs card_transactions.parquet in the folder INCUMBENT_BENCH_DATA")
def test_the_card_transactions_give_the_same_features_figures_and_scores(tmp_path: Path) -> None:
    same(bench_scale(tmp_path / "bench", CARDS, 0, 1500, lambda _: None))
