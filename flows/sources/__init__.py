"""Sources of events: simulator, CSV, Parquet, SQL, and the product's own log.

Flows call :func:`open_source` and read windows; they do not know which adapter answers.
"""

from __future__ import annotations

from typing import Any

from bentos.usecase import UseCase
from flows.sources.base import EventSource, SourceRead

__all__ = ["EventSource", "SourceRead", "open_source"]


def open_source(usecase: UseCase, kind: str | None = None, **overrides: Any) -> EventSource:
    """The source that the use case declares, or another one.

    Args:
        usecase: its ``[source]`` section holds the defaults.
        kind: ``simulator``, ``csv``, ``parquet``, ``sql`` or ``log``; none takes the use case's.
        overrides: fields of :class:`~bentos.usecase.SourceOptions` (``path``, ``url``, ``table``) or
            of :class:`~bentos.usecase.SimulatorOptions` (``seed``, ``days``, ``shifts``, ...) that
            win over the file; ``store`` (a :class:`monitoring.store.Store`) for ``log``.

    Raises:
        SourceOptionsError: an option is unknown, missing or wrong.
    """
    raise NotImplementedError
