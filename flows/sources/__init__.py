"""Sources of events: simulator, CSV, Parquet, SQL, and the product's own log.

Flows call :func:`open_source` and read windows; they do not know which adapter answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from bentos.usecase.definition import SimulatorOptions, SourceOptions, UseCase
from flows.errors import SourceOptionsError
from flows.sources.base import EventSource, SourceRead

if TYPE_CHECKING:
    from monitoring.store import Store

__all__ = ["SOURCES", "EventSource", "SourceRead", "open_source"]


def open_source(
    usecase: UseCase, kind: str | None = None, *, store: Store | None = None, **overrides: Any
) -> EventSource:
    """The source that the use case declares, or another one. Nothing is read yet.

    Args:
        usecase: its ``[source]`` section holds the defaults.
        kind: ``simulator``, ``csv``, ``parquet``, ``sql`` or ``log``; none takes the use case's.
        store: what ``log`` reads; none opens the database of the settings.
        overrides: fields of :class:`~bentos.usecase.definition.SourceOptions` (``path``, ``url``, ``table``) or
            of :class:`~bentos.usecase.definition.SimulatorOptions` (``seed``, ``days``, ``shifts``, ...) that
            win over the file. ``None`` means not given, so that a command can pass all its options.

    Raises:
        SourceOptionsError: an option is unknown, missing or wrong.
    """
    options = _options(usecase.source, kind, {k: v for k, v in overrides.items() if v is not None})
    return SOURCES[options.kind](usecase, options, store)


def _simulator(usecase: UseCase, options: SourceOptions, store: Store | None) -> EventSource:
    from flows.sources.simulator import SimulatorSource

    return SimulatorSource(usecase, options.simulator)


def _csv(usecase: UseCase, options: SourceOptions, store: Store | None) -> EventSource:
    if usecase.snapshot is not None:
        return _derived(usecase, options)
    from flows.sources.csv import CsvSource

    return CsvSource(usecase, _require_option(options, "path"))


def _parquet(usecase: UseCase, options: SourceOptions, store: Store | None) -> EventSource:
    if usecase.snapshot is not None:
        return _derived(usecase, options)
    from flows.sources.parquet import ParquetSource

    return ParquetSource(usecase, _require_option(options, "path"))


def _derived(usecase: UseCase, options: SourceOptions) -> EventSource:
    from flows.sources.derived import DerivedSource

    return DerivedSource(usecase, options.kind, _require_option(options, "path"))


def _sql(usecase: UseCase, options: SourceOptions, store: Store | None) -> EventSource:
    from flows.sources.sql import SqlSource

    return SqlSource(usecase, _require_option(options, "url"), _require_option(options, "table"))


def _log(usecase: UseCase, options: SourceOptions, store: Store | None) -> EventSource:
    from flows.sources.log import LogSource

    return LogSource(usecase, store or _own_store())


SOURCES: Final[dict[str, Callable[[UseCase, SourceOptions, Store | None], EventSource]]] = {
    "simulator": _simulator,
    "csv": _csv,
    "parquet": _parquet,
    "sql": _sql,
    "log": _log,
}
"""Kind to what opens it. Each adapter is imported on its own: reading a CSV needs no database driver."""


def _options(declared: SourceOptions, kind: str | None, overrides: dict[str, Any]) -> SourceOptions:
    option_names = set(SourceOptions.model_fields) - {"kind", "simulator"}
    unknown = sorted(set(overrides) - option_names - set(SimulatorOptions.model_fields))
    if unknown:
        allowed = ", ".join(sorted(option_names | set(SimulatorOptions.model_fields)))
        raise SourceOptionsError(f"unknown option {unknown[0]!r}; allowed: {allowed}")
    world = declared.simulator.model_dump() | {k: v for k, v in overrides.items() if k not in option_names}
    plain = declared.model_dump(exclude={"simulator"}) | {k: v for k, v in overrides.items() if k in option_names}
    try:
        return SourceOptions(**plain | {"kind": kind or declared.kind, "simulator": SimulatorOptions(**world)})
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        raise SourceOptionsError(f"{'.'.join(map(str, error['loc']))}: {error['msg']}") from exc


def _require_option(options: SourceOptions, name: str) -> str:
    value = getattr(options, name)
    if not value:
        raise SourceOptionsError(f"source {options.kind!r} needs {name!r}: pass it, or write it under [source]")
    return str(value)


def _own_store() -> Store:
    from bentos.settings import read_settings
    from monitoring.store import open_store

    return open_store(read_settings().log_url)
