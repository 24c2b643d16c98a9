"""MLflow's server as the product starts it, with its login, on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from flows.workspace.processes import free_port

LOGIN = "admin:correct-horse"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server whose store and log lie in a folder."""
    port = str(free_port())
    program = [sys.executable, "-m", "flows.workspace.mlflow_server", "--port", port]
    stores = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}", "INCUMBENT_MLFLOW_LOGIN": LOGIN,
              "MLFLOW_ARTIFACTS_DESTINATION": str(folder)}  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "INCUMBENT_HOME": str(folder)}
        process = subprocess.Popen(program, env=quiet | stores, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_for(url: str) -> None:
    for _ in range(480):
        with suppress(httpx.HTTPError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"{url} did not answer")
