"""Retraining by itself in simulated time: what happens on a stream that turns round, and on real prices."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.usecase.loading import builtin_usecases
from flows.sources import open_source
from flows.workspace.installation import open_home
from flows.workspace.workspace import open_workspace
from tests.bench.__main__ import main as bench
from tests.bench.quality.stream import bench_stream
from tests.support.published import published
from tests.support.registries import mlflow_registry

DAYS = 34
COOLDOWN = timedelta(days=5)
SHORTER = {
    'train = "420d"': 'train = "8d"',
    'calibration = "4d"': 'calibration = "2d"',
    'test = "7d"': 'test = "3d"',
    "min_matured_rows = 1000": "min_matured_rows = 100",
    "trees = 100": "trees = 20",
    'window = "7d"': 'window = "1d"',
    "windows_needed = 2": "windows_needed = 2\nmin_rows = 40",
    'train = "46d"': 'train = "5d"',
    'max_age = "28d"': 'max_age = "5d"',
    'cooldown = "28d"': 'cooldown = "5d"\nmax_per_month = 2',
    'wait_after_change = "7d"': 'wait_after_change = "1d"',
}


def turning_stream(file: Path, turn: int) -> None:
    """Half-hours in which a high price means yes, and no from day ``turn`` on, when prices are higher too."""
    rng = np.random.default_rng(5)
    rows = DAYS * 48
    day = np.arange(rows) // 48
    turned = day >= turn
    level = rng.uniform(0.0, 0.5, rows)
    yes = (level + rng.normal(0.0, 0.05, rows) > 0.25) ^ turned
    names = ("nswdemand", "vicprice", "vicdemand", "transfer")
    noise = {name: rng.uniform(0.0, 1.0, rows) for name in names}
    price = level + np.where(turned, 0.3, 0.0)
    table = {"seq": np.arange(rows), "period": np.arange(rows) % 48 / 47, "nswprice": price, **noise}
    pd.DataFrame(table | {"class_up": yes.astype(np.int8)}).to_parquet(file)


def short_case(folder: Path) -> str:
    """The electricity case with folds, windows and a cooldown of days instead of weeks."""
    text = builtin_usecases()["electricity"].read_text(encoding="utf-8")
    for old, new in SHORTER.items():
        assert old in text, old
        text = text.replace(old, new, 1)
    (folder / "short.toml").write_text(text, encoding="utf-8")
    return str(folder / "short.toml")


def live(folder: Path, turn: int, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """The figures of the bench, and everything that held a retraining back."""
    mlflow_registry(folder / "home")
    for name in [name for name in os.environ if name.startswith("INCUMBENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INCUMBENT_HOME", str(folder / "home"))
    turning_stream(folder / "stream.parquet", turn)
    workspace = open_workspace(short_case(folder))
    open_home(usecase=workspace.reference).make()
    try:
        found = bench_stream(workspace, open_source(workspace.usecase, "parquet", path=str(folder / "stream.parquet")))
        asked = workspace.store.reports.list(workspace.usecase.name, "retraining")
        return found, [text for one in asked for text in one.payload["blocked_by"]]
    finally:
        workspace.store.close()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_loop_notices_that_the_world_turns_and_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, blocked = live(tmp_path, DAYS // 2 + 2, monkeypatch)
    first, made = pd.Timestamp(found["first_day"]), found["decisions"]
    # Two windows of a day must agree, so the turn on the third day is seen on the fifth morning at the earliest.
    noticed = pd.Timestamp(found["drift_noticed"][0])
    assert first + pd.Timedelta(days=4) <= noticed <= first + pd.Timedelta(days=6)
    days = [pd.Timestamp(one["day"]) for one in made]
    assert found["retrainings"] == len(days) == 2
    assert all(later - earlier >= COOLDOWN for earlier, later in pairwise(days))
    for obstacle in ("the cooldown is 5d", "days since the change", "2 retrainings in the last 30 days (limit 2)"):
        assert any(obstacle in text for text in blocked), obstacle
    assert days[1] > noticed
    assert any("severe drift with a moved score" in reason for reason in made[1]["reasons"])
    assert (made[1]["role"], made[1]["in_office"]) == ("champion", made[1]["day"])
    assert found["auc_static"] + 0.1 < found["auc_loop"]
    assert len(found["auc_fixed_phases"]) == 4


PRICES = published("elec2.parquet")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(PRICES is None, reason="set INCUMBENT_BENCH_DATA to the folder of elec2.parquet")
def test_real_drift_pays(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["stream", "--data", str(PRICES), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drift_noticed"]
    assert found["auc_static"] == pytest.approx(0.785, abs=0.01)
    assert found["auc_loop"] >= 0.82
    assert 1 <= found["retrainings"] <= 17
    assert found["auc_loop"] >= found["auc_fixed_schedule"] - 0.005


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["stream", "--data", "nowhere.parquet", "--json"]) == 2
    assert "nowhere.parquet: no such file" in capsys.readouterr().err
