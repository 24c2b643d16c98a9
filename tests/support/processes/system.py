"""Programs of the system that some tests need; without one the test is skipped, or fails where all must be there."""

from __future__ import annotations

import os
import shutil

import pytest


def system_program(name: str, package: str) -> str:
    """Path of a program, or a skip that names Debian's package for it.

    Under ``INCUMBENT_REQUIRE_SYSTEM=1`` a missing program fails the test.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    message = f"{name} is missing: apt-get install {package}"
    if os.environ.get("INCUMBENT_REQUIRE_SYSTEM") == "1":
        pytest.fail(message)
    pytest.skip(message)
