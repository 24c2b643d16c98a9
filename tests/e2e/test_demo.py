"""The whole demo, as a newcomer runs it: minutes long, so part of the longer suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KEYS = {
    "rows_scored", "rows_logged", "failed_requests", "days", "shift_day", "noticed_day", "champion_version",
    "challenger_version", "champion", "challenger", "promotion_seconds", "rollback_seconds",
}  # fmt: skip


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that know this home."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(home).encode() in environ.read_bytes():
                found.append(environ.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def told(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Run the demo as a stranger would; returns its summary after looking for traces."""
    user, home = tmp_path / "user", tmp_path / "state"
    user.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INCUMBENT_", "PREFECT_", "XDG_"))}
    environment = kept | {"HOME": str(user), "INCUMBENT_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((home / "demo" / "summary.json").read_text())
    assert set(summary) >= KEYS
    assert summary["failed_requests"] == 0
    assert summary["rows_scored"] == summary["rows_logged"]
    assert summary["shift_day"] <= summary["noticed_day"] <= summary["shift_day"] + 7
    assert summary["challenger"]["recall"]["low"] > summary["champion"]["recall"]["value"]
    assert summary["challenger"]["cost"]["high"] < summary["champion"]["cost"]["low"]
    for swap in ("promotion_seconds", "rollback_seconds"):
        assert 0 <= summary[swap] <= 10
    assert processes_of(home) == []
    assert [str(p.relative_to(user)) for p in user.rglob("*")] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state", "user"]
    assert (home / "demo" / "reports" / "status.html").is_file()
    return dict(summary)


def test_the_demo_tells_its_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    summary = told(tmp_path)
    assert summary["rows_logged"] > 50_000


def test_the_demo_tells_the_same_story_of_customers_who_may_leave(tmp_path: Path) -> None:
    summary = told(tmp_path, "--usecase", "churn")
    assert summary["rows_logged"] > 15_000
    for gates in summary["gates"].values():
        assert gates["auc_roc"]["low"] > 0.8
        assert gates["profit_per_customer"]["low"] > 5
        assert gates["profit_above_everybody"]["low"] > 0
