"""The whole demo, as a newcomer runs it: minutes long, so part of the longer suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_the_demo_tells_its_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    user, home = tmp_path / "user", tmp_path / "state"
    user.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INCUMBENT_", "PREFECT_", "XDG_"))}
    environment = kept | {"HOME": str(user), "INCUMBENT_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((home / "demo" / "summary.json").read_text())
    assert set(summary) >= KEYS
    assert summary["rows_scored"] == summary["rows_logged"] > 50_000
    assert summary["failed_requests"] == 0
    assert summary["shift_day"] <= summary["noticed_day"] <= summary["shift_day"] + 7
    assert summary["challenger"]["recall"]["low"] > summary["champion"]["recall"]["value"]
    assert summary["challenger"]["cost"]["high"] < summary["champion"]["cost"]["low"]
    for swap in ("promotion_seconds", "rollback_seconds"):
        assert 0 <= summary[swap] <= 10
    assert processes_of(home) == []
    assert [str(p.relative_to(user)) for p in user.rglob("*")] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state", "user"]
