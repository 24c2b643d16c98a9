"""MLServer in a virtual environment of its own: its requirements do not fit beside ours.

The CPU package of XGBoost, no worker process of its own and adaptive batching make it as quick as we could.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from flows.errors import StackError
from monitoring.core.hashing import sha256_hex

PINS = (
    "mlserver==1.7.1",
    "xgboost-cpu==3.2.0" if sys.platform == "linux" else "xgboost==3.2.0",
    "scikit-learn==1.9.1",
    "numpy==2.4.6",
    "pandas==3.1.1",
)
BARE_PINS = ("mlserver-xgboost==1.7.1",)
"""Installed without their own requirements: those name the XGBoost with 680 MB of GPU parts."""
MODEL = "fraud"
_PATIENCE = 900


def mlserver_program(folder: Path) -> Path:
    """The ``mlserver`` command; the environment is made in ``folder`` when it is not there yet.

    Raises:
        StackError: it cannot be installed; the message holds pip's last line.
    """
    mark = folder / "installed"
    wanted = sha256_hex(" ".join((*PINS, *BARE_PINS, sys.version)).encode())
    program = folder / "bin" / "mlserver"
    if program.is_file() and mark.is_file() and mark.read_text() == wanted:
        return program
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *PINS])
    _run([*pip, "--no-deps", *BARE_PINS])
    mark.write_text(wanted)
    return program


def write_model(folder: Path, booster: Path, ports: tuple[int, int, int]) -> Path:
    """A model folder for ``mlserver start``: one process, adaptive batching on; ports are HTTP, gRPC, metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(booster, folder / "model.ubj")
    http, grpc, metrics = ports
    server = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    # With a worker process of its own MLServer is slower here: it copies every request to it.
    (folder / "settings.json").write_text(json.dumps(server | {"parallel_workers": 0, "debug": False}))
    model = {
        "name": MODEL,
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": "./model.ubj", "version": "1"},
        "max_batch_size": 64,
        "max_batch_time": 0.005,
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    return folder


def _run(command: list[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as exc:
        raise StackError(f"MLServer was not installed within {_PATIENCE} s") from exc
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise StackError(f"MLServer cannot be installed: {said[-1] if said else f'code {done.returncode}'}")
