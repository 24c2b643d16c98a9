"""Programs that live in an environment of their own, because their dependencies are not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def program(name: str, folder: Path, variable: str, *requirements: str) -> str:
    """Path of a program; from ``variable`` where it is set, else installed under ``folder``.

    Skips where no package index answers, and fails there when ``INCUMBENT_REQUIRE_SYSTEM`` is set.
    """
    if given := os.environ.get(variable):
        return given
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    place = folder / "environment"
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(place)], check=True)
    python = str(place / "bin" / "python")
    done = subprocess.run(
        [uv, "pip", "install", "-q", "-p", python, *requirements], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        if os.environ.get("INCUMBENT_REQUIRE_SYSTEM"):
            pytest.fail(f"{requirements} cannot be installed: {done.stderr[-500:]}")
        pytest.skip(f"{requirements} cannot be installed here")
    return str(place / "bin" / name)
