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


def separated(names: Sequence[str]) -> str:
    """A hint where one column's name looks like a whole line."""
    marks = {";": "semicolons", "\t": "tabs", "|": "bars"}
    found = next((word for mark, word in marks.items() if len(names) == 1 and mark in names[0]), None)
    return f"; its columns look separated by {found}: CSV is read with commas" if found else ""


def times(usecase: UseCase, values: pd.Series, name: str, file: Path) -> pd.Series:
    """UTC times; those without a zone are local times of the use case."""
    if pd.api.types.is_numeric_dtype(values.dtype) and values.notna().any():
        raise FlowRefused(f"column {name} of {file} holds numbers; times are wanted as ISO text or as a time type")
    try:
        found = pd.to_datetime(values, errors="raise", format=None if values.dtype != object else "ISO8601")
    except (ValueError, TypeError) as exc:
        raise FlowRefused(f"column {name} of {file} holds something else than ISO times") from exc
    if not isinstance(found.dtype, pd.DatetimeTZDtype):
        # An hour that the clocks repeat is taken for the first, summer one.
        summer = np.ones(len(found), dtype=bool)
        local = found.astype("datetime64[us]").dt
        found = local.tz_localize(usecase.zone, ambiguous=summer, nonexistent="shift_forward")
    converted: pd.Series = found.dt.tz_convert("UTC").dt.as_unit("us")
    return converted


def numbers(values: pd.Series, name: str, file: Path) -> Floats:
    """Finite numbers; what is none, or infinite, is missing."""
    try:
        found = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as exc:
        raise FlowRefused(f"column {name} of {file} must hold numbers") from exc
    return np.where(np.isfinite(found), found, np.nan)


def labels(values: pd.Series, name: str, file: Path) -> Floats:
    """1, 0, or missing."""
    words = f"column {name} of {file} must hold 1 for positive, 0 for negative, or nothing"
    try:
        found = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as exc:
        raise FlowRefused(words) from exc
    if not np.isin(found[~np.isnan(found)], (0.0, 1.0)).all():
        raise FlowRefused(words)
    return found
