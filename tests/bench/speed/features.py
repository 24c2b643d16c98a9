"""How fast the feature build is against pandas group-and-roll, over the same frame in one run.

The rival is the code of the Fraud Detection Handbook (Le Borgne and others, chapter 3): for each
customer and each terminal ``groupby.apply`` of ``rolling`` windows. A second rival, shown for
fairness, is ``groupby.rolling`` without ``apply``, which the book's pandas did not need.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.workspace.progress import report_step

DAYS = (1, 7, 30)
DELAY = 7
_EVERYTHING = datetime(2100, 1, 1, tzinfo=UTC)

Progress = Callable[[str, int, int], None]


def bench_features(path: Path | None = None, repeats: int = 3, progress: Progress = report_step) -> dict[str, Any]:
    """Time both executions and compare their values.

    Args:
        path: Parquet file with the handbook's columns; without one the simulator's world is used.
        repeats: runs of our build, of which the median counts; the rival runs once.
        progress: told of each step.

    Returns:
        ``rows``, ``ours_s`` and ``pandas_s`` (processor seconds from the same events frame to 15 features),
        ``ratio`` (pandas_s / ours_s), ``max_abs_difference`` over all rows and features. The ratio to
        ``groupby.rolling`` is written to standard error.
    """
    usecase = load_usecase("fraud")
    progress("read transactions", 0, 4)
    events, labels = _read(usecase, path)
    plan = FeaturePlan.of(usecase)
    progress("our build", 1, 4)
    ours_s, ours = _timed(lambda: plan.build(events, labels, _EVERYTHING), repeats)
    y = events["transaction_id"].map(labels.set_index("event_id")["y"]).fillna(0).astype(np.int64)
    table = events.assign(fraud=y)
    progress("pandas groupby.rolling", 2, 4)
    modern_s, modern = _timed(lambda: pandas_features(table, _roll_groups), 1)
    progress("pandas groupby.apply(rolling), as in the book", 3, 4)
    pandas_s, theirs = _timed(lambda: pandas_features(table, _roll_each_group), 1)
    progress("done", 4, 4)
    sys.stderr.write(
        f"groupby.rolling without apply: {modern_s:.2f} s, {modern_s / ours_s:.1f} times ours, "
        f"largest difference {largest_difference(ours, modern, events):.2g}\n"
    )
    return {
        "rows": len(events),
        "ours_s": round(ours_s, 3),
        "pandas_s": round(pandas_s, 3),
        "ratio": round(pandas_s / ours_s, 1),
        "max_abs_difference": largest_difference(ours, theirs, events),
    }


Roll = Callable[[pd.DataFrame, str, list[str], Sequence[int]], pd.DataFrame]
"""(table, entity, columns, days) to rolling sums named ``column_days``, in the table's order."""


def pandas_features(table: pd.DataFrame, roll: Roll) -> pd.DataFrame:
    """The fifteen features of the fraud case by pandas alone, columns in plan order.

    Args:
        table: events of the fraud case in time order with a column ``fraud`` of 0 and 1.
        roll: how rolling sums by entity are made.
    """
    local = table["tx_time"].dt
    columns = {
        "amount": table["amount"],
        "during_weekend": (local.weekday >= 5).astype(int),
        "during_night": (local.hour <= 6).astype(int),
    }
    table = table.assign(one=1)
    spent = roll(table, "customer_id", ["one", "amount"], DAYS)
    for days in DAYS:
        columns[f"customer_count_{days}d"] = spent[f"one_{days}"]
        columns[f"customer_mean_amount_{days}d"] = spent[f"amount_{days}"] / spent[f"one_{days}"]
    seen = roll(table, "terminal_id", ["one", "fraud"], (DELAY, *(DELAY + days for days in DAYS)))
    for days in DAYS:
        count = seen[f"one_{DELAY + days}"] - seen[f"one_{DELAY}"]
        columns[f"terminal_count_{days}d"] = count
        columns[f"terminal_risk_{days}d"] = ((seen[f"fraud_{DELAY + days}"] - seen[f"fraud_{DELAY}"]) / count).fillna(0)
    return pd.DataFrame(columns)


def largest_difference(ours: pd.DataFrame, theirs: pd.DataFrame, events: pd.DataFrame) -> float:
    """Largest absolute difference of any value.

    A row that shares customer and moment with an earlier row is corrected first: pandas counts rows
    above it, while events of one moment cannot see each other in ours.
    """
    theirs = theirs.copy()
    moments = events.groupby(["customer_id", "tx_time"], sort=False)
    above = moments.cumcount().to_numpy()
    spent = (moments["amount"].cumsum() - events["amount"]).to_numpy()
    tied = above > 0
    for days in DAYS:
        count, mean = f"customer_count_{days}d", f"customer_mean_amount_{days}d"
        total = theirs[count] * theirs[mean] - spent
        theirs.loc[tied, count] -= above[tied]
        theirs.loc[tied, mean] = (total / theirs[count])[tied]
    gap = np.abs(ours.to_numpy(np.float64) - theirs[ours.columns].to_numpy(np.float64))
    return float(gap.max())


def _roll_each_group(table: pd.DataFrame, entity: str, columns: list[str], days: Sequence[int]) -> pd.DataFrame:
    """The book's way: for each entity its rows are sorted, indexed by time, rolled and put together again."""

    def one_entity(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.sort_values("tx_time", kind="stable")
        places = rows.index
        rows.index = rows["tx_time"]
        for d in days:
            for c in columns:
                # The book counts with count() and sums with sum().
                window = rows[c].rolling(f"{d}d")
                rows[f"{c}_{d}"] = list(window.count() if c == "one" else window.sum())
        rows.index = places
        return rows

    rolled = table.groupby(entity)[["tx_time", *columns]].apply(one_entity)
    return rolled.droplevel(0).sort_index()


def _roll_groups(table: pd.DataFrame, entity: str, columns: list[str], days: Sequence[int]) -> pd.DataFrame:
    """The modern way: grouped windows inside pandas."""
    ordered = table.sort_values([entity, "tx_time"], kind="stable")
    groups = ordered.groupby(entity, sort=True)
    sums = [groups.rolling(f"{d}d", on="tx_time")[columns].sum()[columns].add_suffix(f"_{d}") for d in days]
    return pd.concat([s.set_axis(ordered.index) for s in sums], axis=1).sort_index()


def _read(usecase: UseCase, path: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    if path is not None:
        events, labels, _ = EventSchema.of(usecase).read_labelled(pd.read_parquet(path))
        return events, labels
    from flows.sources import open_source

    source = open_source(usecase, "simulator")
    read = source.read(source.extent())
    return read.events, read.labels


def _timed(build: Callable[[], pd.DataFrame], repeats: int) -> tuple[float, pd.DataFrame]:
    seconds = []
    for _ in range(repeats):
        # Both sides run on one core; processor time is not disturbed by whatever else the machine does.
        start = time.process_time()
        features = build()
        seconds.append(time.process_time() - start)
    return median(seconds), features
