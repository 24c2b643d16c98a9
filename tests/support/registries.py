"""Real MLflow registries for tests: MLflow takes seconds to create its tables, so they are made once."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from bentos.registry.mlflow import MlflowRegistry


@cache
def _empty_database() -> Path:
    folder = Path(mkdtemp(prefix="incumbent-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}").versions("none")
    return folder / "mlflow.db"


def mlflow_registry(folder: Path) -> MlflowRegistry:
    """A registry in ``folder`` (``mlflow.db`` and ``artifacts``), with all tables and no model."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_database(), folder / "mlflow.db")
    return MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
