"""Small labelled folds without a use case behind them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from flows.steps.data.folds import Fold
from monitoring.core.calendar import TimeWindow

START = datetime(2026, 1, 1, tzinfo=UTC)


def noise(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Three float32 features and labels that the first one decides, with some noise; a fifth are positive."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, (x[:, 0] + rng.normal(0, 0.3, rows) > 0.9).astype(np.int8)


def fold_of(x: np.ndarray, y: np.ndarray, days: int = 8) -> Fold:
    """A fold whose rows are spread evenly over ``days``."""
    times = pd.Series(pd.to_datetime(START) + pd.to_timedelta(np.arange(len(y)) * days / max(1, len(y)), unit="D"))
    times = times.dt.as_unit("us")
    rows = pd.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(len(y))],
            "event_time": times,
            "day": times.dt.tz_localize(None).dt.normalize(),
            "y": y.astype(np.int8),
        }
    )
    return Fold("small", TimeWindow(START, START + timedelta(days=days)), x, rows)
