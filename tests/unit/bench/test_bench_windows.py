from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.bench.__main__ import main as bench
from tests.bench.speed.windows import bench_windows


@pytest.mark.slow
def test_the_bench_of_windows_counts_what_it_made(tmp_path: Path) -> None:
    found = bench_windows(tmp_path, events=3000, customers=100)
    assert found.events == 3000
    assert found.entities == 120
    assert found.events_per_s == pytest.approx(3000 / found.rebuild_s, rel=0.5)
    assert (found.redis_batch_ms is None) == (shutil.which("redis-server") is None)
    assert list(tmp_path.iterdir()) == [], "its log is removed again"


def test_the_bench_of_windows_speaks_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    assert bench(["windows", "--events", "500", "--customers", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"events", "entities", "rebuild_s", "events_per_s", "bytes_per_entity", "bytes_per_million_entities"}
    assert wanted | {"redis_batch_ms"} <= set(found)
    assert bench(["windows", "--events", "0", "--json"]) == 2
