"""Values of a file that is judged: times, numbers and labels, or a refusal that names the column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused

Floats = np.ndarray[Any, np.dtype[np.float64]]


def separator_hint(names: Sequence[str]) -> str:
    """A hint where one column's name looks like a whole line."""
    marks = {";": "semicolons", "\t": "tabs", "|": "bars"}
    separator = next((word for mark, word in marks.items() if len(names) == 1 and mark in names[0]), None)
    return f"; its columns look separated by {separator}: CSV is read with commas" if separator else ""


def parse_times(usecase: UseCase, values: pd.Series, name: str, file: Path) -> pd.Series:
    """UTC times; those without a zone are local times of the use case."""
    if pd.api.types.is_numeric_dtype(values.dtype) and values.notna().any():
        raise FlowRefused(f"column {name} of {file} holds numbers; times are wanted as ISO text or as a time type")
    try:
        parsed_times = pd.to_datetime(values, errors="raise", format=None if values.dtype != object else "ISO8601")
    except (ValueError, TypeError) as exc:
        raise FlowRefused(f"column {name} of {file} holds something else than ISO times") from exc
    if not isinstance(parsed_times.dtype, pd.DatetimeTZDtype):
        # An hour that the clocks repeat is taken for the first, summer one.
        summer = np.ones(len(parsed_times), dtype=bool)
        local = parsed_times.astype("datetime64[us]").dt
        parsed_times = local.tz_localize(usecase.zone, ambiguous=summer, nonexistent="shift_forward")
    utc_times: pd.Series = parsed_times.dt.tz_convert("UTC").dt.as_unit("us")
    return utc_times


def parse_numbers(values: pd.Series, name: str, file: Path) -> Floats:
    """Finite numbers; what is none, or infinite, is missing."""
    try:
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as exc:
        raise FlowRefused(f"column {name} of {file} must hold numbers") from exc
    return np.where(np.isfinite(floats), floats, np.nan)


def parse_labels(values: pd.Series, name: str, file: Path) -> Floats:
    """1, 0, or missing."""
    message = f"column {name} of {file} must hold 1 for positive, 0 for negative, or nothing"
    try:
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as exc:
        raise FlowRefused(message) from exc
    if not np.isin(floats[~np.isnan(floats)], (0.0, 1.0)).all():
        raise FlowRefused(message)
    return floats
