"""Published data sets that tests read where they lie beside the project."""

from __future__ import annotations

import os
from pathlib import Path


def published(name: str) -> Path | None:
    """A data set in the folder that ``INCUMBENT_BENCH_DATA`` names, or in ``shared/data`` beside the project."""
    folders = [os.environ.get("INCUMBENT_BENCH_DATA"), Path(__file__).resolve().parents[2].parent / "shared" / "data"]
    for folder in folders:
        if folder and (file := Path(folder) / name).is_file():
            return file
    return None
