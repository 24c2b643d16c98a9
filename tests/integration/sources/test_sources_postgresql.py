"""The SQL source on PostgreSQL, where times, numbers and truth have types of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import sqlalchemy as sa

from flows.sources import open_source
from monitoring.core.calendar import TimeWindow
from tests.integration.sources.source_cases import FRAUD, START, WINDOW, foreign, truth
from tests.support.processes.postgresql import cluster

pytestmark = pytest.mark.needs_postgresql

VIEW = """
CREATE VIEW bank.cards AS SELECT
    "TRANSACTION_ID" AS transaction_id, "TX_DATETIME" AS tx_time, "CUSTOMER_ID" AS customer_id,
    "TERMINAL_ID" AS terminal_id, "TX_AMOUNT"::numeric(12, 2) AS amount, "TX_FRAUD" = 1 AS is_fraud
FROM aware
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with cluster() as server:
        address = server.url(server.create())
        table = foreign(truth())
        times = table["TX_DATETIME"]
        engine = sa.create_engine(address)
        with engine.begin() as connection:
            table.to_sql("aware", connection, index=False)
            table.assign(TX_DATETIME=times.dt.tz_localize(None)).to_sql("naive", connection, index=False)
            table.assign(TX_DATETIME=[t.isoformat() for t in times]).to_sql("texts", connection, index=False)
            connection.execute(sa.text("CREATE SCHEMA bank"))
            connection.execute(sa.text(VIEW))
            # The zone of a session must not matter.
            connection.execute(sa.text("ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'"))
        engine.dispose()
        # Without a driver in the URL the one of the product is used.
        yield address.replace("postgresql+psycopg:", "postgresql:")


@pytest.mark.parametrize("table", ["aware", "naive", "texts", "bank.cards"])
def test_every_type_of_time_gives_the_same_frames(table: str, url: str) -> None:
    source = open_source(FRAUD, "sql", url=url, table=table)
    read = source.read(WINDOW)
    pd.testing.assert_frame_equal(read.events, truth().events)
    pd.testing.assert_frame_equal(read.labels, truth().labels)
    assert len(source.read(source.extent()).events) == len(truth().events)


@pytest.mark.parametrize("table", ["aware", "naive", "texts"])
def test_a_window_is_exact(table: str, url: str) -> None:
    times = truth().events["tx_time"]
    window = TimeWindow(START, times.iloc[50].to_pydatetime())
    read = open_source(FRAUD, "sql", url=url, table=table).read(window)
    assert len(read.events) == int((times < window.end).sum())
