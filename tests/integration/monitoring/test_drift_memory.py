"""A window of the log is compared part by part: the same report, and memory that does not grow with it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.registry.ports import ModelRef
from flows.steps.drift.served_windows import ServedWindow, measure_window
from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import compare_profile
from monitoring.store import Store, open_store
from tests.support.builders import fraud, tiny_model
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers

START = datetime(2026, 3, 2, tzinfo=UTC)
ROWS, MODEL = 12_000, tiny_model()


def window(rows: int) -> TimeWindow:
    """The first rows of the log, one a second."""
    return TimeWindow(START, START + timedelta(seconds=rows))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("log") / "log.db"
    opened = open_store(f"sqlite:///{path}")
    rng = np.random.default_rng(3)
    events = pd.DataFrame(
        {
            "transaction_id": [f"t-{n}" for n in range(ROWS)],
            "tx_time": pd.to_datetime([START + timedelta(seconds=n) for n in range(ROWS)], utc=True).as_unit("us"),
            "customer_id": "c-1",
            "terminal_id": "m-1",
            "amount": rng.gamma(2.0, 20.0, ROWS).round(2),
        }
    )
    features = rng.gamma(2.0, 20.0, (ROWS, len(MODEL.plan.names))).astype(np.float32)
    log_answers(opened, fraud(), LoadedVersion(ModelRef("dev-fraud", "1"), MODEL), EventBatch(events, features, START))
    yield opened
    opened.close()


def look(store: Store, rows: int, chunk: int) -> ServedWindow:
    return measure_window(store, fraud(), MODEL, window(rows), rows=100, chunk=chunk)


def test_a_window_that_is_read_in_parts_has_the_report_of_the_whole(store: Store) -> None:
    whole = measure_window(store, fraud(), MODEL, window(ROWS), with_features=True).features
    assert whole is not None
    days = pd.Series(pd.Timestamp("2026-03-02"), index=whole.index).astype("datetime64[ns]")
    scores = MODEL.score(whole.to_numpy()).calibrated
    expected = compare_profile(MODEL.profile, whole, fraud().drift, scores, days=days, window=window(ROWS))
    for chunk in (999, 100_000):
        found = look(store, ROWS, chunk)
        assert found.report == expected
        assert found.sample.tolist() == look(store, ROWS, 100_000).sample.tolist()
    assert found.report.rows == ROWS


def test_memory_does_not_grow_with_the_window(store: Store) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            look(store, rows, 500)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    look(store, 1000, 500)  # what is made once
    assert peak(ROWS) < 1.2 * peak(ROWS // 6) + 50_000


def test_a_page_gets_a_bounded_sample(store: Store) -> None:
    found = measure_window(store, fraud(), MODEL, window(ROWS), rows=1700)
    assert found.sample.shape == (1700, len(MODEL.plan.names))
    few = measure_window(store, fraud(), MODEL, window(ROWS), rows=1000)
    assert found.explained.tolist() == few.sample.tolist(), "a part of the sample is the smaller sample"
    assert len(measure_window(store, fraud(), MODEL, window(300), rows=700).sample) == 300
