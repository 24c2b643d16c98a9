"""A source of events is one class and one row: the use case names it, flows read it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from bentos.usecase import options
from bentos.usecase.definition import SourceOptions, UseCase
from bentos.usecase.loading import load_usecase
from flows.errors import SourceOptionsError
from flows.runs.parameters import Kind
from flows.sources import SOURCES, EventSource, open_source
from flows.sources.csv import CsvSource
from monitoring.core.calendar import TimeWindow
from monitoring.store import Store

DAY = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


def open_semicolons(usecase: UseCase, wanted: SourceOptions, store: Store | None) -> EventSource:
    """A CSV with semicolons, rewritten beside itself and read as any other."""
    file = Path(str(wanted.path))
    plain = file.with_suffix(".csv")
    plain.write_text(file.read_text().replace(";", ","))
    return CsvSource(usecase, str(plain))


def test_a_source_of_ones_own_is_named_and_read_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "semicolons", open_semicolons)
    monkeypatch.setattr(options, "SOURCE_KINDS", [*options.SOURCE_KINDS, "semicolons"])
    usecase = load_usecase("fraud")
    events = (
        open_source(usecase, "simulator", customers=20, terminals=20, days=1, start=DAY.start.date()).read(DAY).events
    )
    names = {column.name: column.external_name for column in usecase.columns}
    events.rename(columns=names).to_csv(tmp_path / "events.txt", index=False, sep=";")
    named = usecase.model_copy(update={"source": SourceOptions(kind="semicolons", path=str(tmp_path / "events.txt"))})
    read = open_source(named).read(DAY)
    assert list(read.events[usecase.event_id]) == list(events[usecase.event_id])


def test_an_unknown_source_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SourceOptionsError, match=r"kind: .*'simulator', 'csv', 'parquet', 'sql', 'log'"):
        open_source(load_usecase("fraud"), "semicolons")


def test_every_word_of_a_use_case_and_of_the_form_has_its_row() -> None:
    assert list(SOURCES) == options.SOURCE_KINDS == list(get_args(Kind))
