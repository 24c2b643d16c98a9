"""The process that starts the workers, named in their environment. Imports nothing heavy: that process runs it."""

from __future__ import annotations

import os
from typing import Final

_SUPERVISOR: Final = "INCUMBENT_SERVICE_SUPERVISOR"


def name_supervisor() -> None:
    """Tell the workers that this process will start who their supervisor is."""
    os.environ[_SUPERVISOR] = str(os.getpid())


def supervisor() -> int:
    """Process id of who started this worker, as it was named: it may have died before anybody here asked."""
    return int(os.environ.get(_SUPERVISOR) or os.getppid())
