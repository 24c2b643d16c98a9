"""The pins run, not only resolve: a real Prefect server answers the call that newer FastAPI releases break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    words = [
        str(Path(sys.executable).with_name("prefect")),
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        f"{port}",
    ]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/api", process, home / "server.log")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return url
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(f"no Prefect server came up:\n{log.read_text()[-3000:]}")


def test_a_real_server_answers_a_null_body(server: str) -> None:
    answer = httpx.post(f"{server}/flows/filter", content=b"null", headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == []


def test_a_real_server_answers_without_a_body(server: str) -> None:
    answer = httpx.post(f"{server}/deployments/count")
    assert answer.status_code == 200, answer.text
    assert answer.json() == 0


def test_evidently_writes_a_report_under_the_pins(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, pandas as pd\n"
        "from evidently import Report, Dataset, DataDefinition\n"
        "from evidently.presets import DataDriftPreset\n"
        "rng = np.random.default_rng(7)\n"
        "frame = pd.DataFrame({'a': rng.normal(size=300)})\n"
        "data = Dataset.from_pandas(frame, DataDefinition(numerical_columns=['a']))\n"
        "Report([DataDriftPreset()]).run(data, data).save_html(sys.argv[1])\n"
    )
    page = tmp_path / "drift.html"
    result = subprocess.run(
        [sys.executable, "-c", script, str(page)], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert page.stat().st_size > 100_000
