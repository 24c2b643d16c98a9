"""What is particular to databases: pushdown, secrets, names."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from flows.errors import SchemaProblem, SourceError, SourceOptionsError, SourceUnavailable
from flows.sources import EventSource, open_source
from flows.sources.sql import SqlSource
from monitoring.core.calendar import TimeWindow
from tests.integration.sources.source_cases import FRAUD, WINDOW, foreign, sql_table, truth

PASSWORD = "c0rrect-h0rse"


def statements(source: EventSource, window: TimeWindow) -> list[str]:
    """Every SELECT that a read sends, with its values in place."""
    sent: list[str] = []

    def note(_c: object, _cur: object, statement: str, values: object, *_: object) -> None:
        sent.append(f"{statement} {values}")

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        source.read(window)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    return [s for s in sent if s.startswith("SELECT") and "cards" in s and "sqlite_master" not in s]


def test_the_window_and_the_columns_reach_the_database(tmp_path: Path) -> None:
    day = TimeWindow(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC))
    (query,) = statements(sql_table(foreign(truth()), tmp_path), day)
    assert "TX_FRAUD_SCENARIO" not in query
    assert "WHERE" in query
    assert "2026-01-04" in query
    assert "2026-01-08" in query


def test_a_row_with_unreadable_text_as_time_is_seen_by_every_window(tmp_path: Path) -> None:
    from tests.integration.sources.source_cases import sql_text

    source = sql_text(foreign(truth()), tmp_path)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'bank.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE cards SET TX_DATETIME = 'yesterday' WHERE rowid = 3"))
    engine.dispose()
    read = source.read(TimeWindow(WINDOW.start + timedelta(days=2), WINDOW.end))
    assert read.quarantine["reason"].tolist() == ["bad_time"]


def test_a_table_of_integers_as_times_is_a_schema_problem(tmp_path: Path) -> None:
    table = foreign(truth())
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'bank.db'}")
    with engine.begin() as connection:
        table.assign(TX_DATETIME=range(len(table))).to_sql("cards", connection, index=False)
    engine.dispose()
    source = open_source(FRAUD, "sql", url=f"sqlite:///{tmp_path / 'bank.db'}", table="cards")
    with pytest.raises(SchemaProblem, match="TX_DATETIME is BIGINT; event times are date-times or text"):
        source.read(WINDOW)


def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    sql_table(foreign(truth()), tmp_path)
    source = open_source(FRAUD, "sql", url=f"sqlite:///{tmp_path / 'bank.db'}", table="nowhere")
    with pytest.raises(SourceOptionsError, match=r"bank.db table nowhere: no such table or view"):
        source.read(WINDOW)


def test_a_table_in_a_named_schema_is_found(tmp_path: Path) -> None:
    sql_table(foreign(truth()), tmp_path)
    source = open_source(FRAUD, "sql", url=f"sqlite:///{tmp_path / 'bank.db'}", table="main.cards")
    pd.testing.assert_frame_equal(source.read(WINDOW).events, truth().events)


def test_the_url_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql_table(foreign(truth()), tmp_path)
    monkeypatch.setenv("BANK_DB", str(tmp_path / "bank.db"))
    read = open_source(FRAUD, "sql", url="sqlite:///${BANK_DB}", table="cards").read(WINDOW)
    assert read.origin == "sql sqlite:///${BANK_DB} table cards"
    assert len(read.events) == len(truth().events)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:${BANK_PASSWORD}@127.0.0.1:1/cards",
        f"postgresql://reader:{PASSWORD}@127.0.0.1:1/cards",
        f"postgresql://127.0.0.1:1/cards?user=reader&password={PASSWORD}",
        f"postgresql://reader:{PASSWORD}@127.0.0.1:not-a-port/cards",
        f"nodriver://reader:{PASSWORD}@127.0.0.1/cards",
        "${BANK_PASSWORD}",
    ],
)
def test_no_password_is_shown_when_a_database_refuses(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_PASSWORD", PASSWORD)
    with pytest.raises(SourceError) as refused:
        open_source(FRAUD, "sql", url=url, table="cards").read(WINDOW)
    shown = "".join(traceback.format_exception(refused.value))
    assert PASSWORD not in shown.replace(url, "")
    assert PASSWORD not in str(refused.value)


def test_an_unreachable_database_can_be_tried_again() -> None:
    with pytest.raises(SourceUnavailable, match=r"^source_unavailable: sql postgresql://127.0.0.1:1/x table cards"):
        SqlSource(FRAUD, "postgresql://127.0.0.1:1/x", "cards").read(WINDOW)


def test_no_connection_stays_open_after_a_read(tmp_path: Path) -> None:
    source = sql_table(foreign(truth()), tmp_path)
    source.read(WINDOW)
    (tmp_path / "bank.db").rename(tmp_path / "moved.db")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'moved.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM cards"))
    engine.dispose()
