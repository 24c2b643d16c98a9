"""Reading one column of a table: vectorised, with a reason for each value that is refused.

Every reader takes a series and gives the clean values with one reason code a row; 0 is clean. Tables
are read more kindly than requests where a table has no other way to say it: text may hold a number
(CSV), a blank is a missing value, integers name things (identifiers), and times without an offset
are local times of the use case's zone.
"""

from __future__ import annotations

from numbers import Number
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bentos.schema.column_types import NUMBER_TYPES, TEXT_TYPES, has_control
from bentos.schema.id_hashing import ForeignHash, Hasher, LazyHasher, holds_card_number
from bentos.usecase.definition import Column, CountedTime
from bentos.usecase.limits import EARLIEST, EARLIEST_US, EPOCH, LATEST, LATEST_US, MICROSECOND, bounds

REASONS = (
    "",
    "missing",
    "wrong_type",
    "not_an_integer",
    "out_of_range",
    "too_long",
    "control_character",
    "unknown_category",
    "bad_time",
    "ambiguous_local_time",
    "nonexistent_local_time",
    "bad_label",
    "duplicate_event_id",
    "card_number",
    "foreign_hash",
    "in_future",
)
"""Why a row is refused, by code."""
CODE = {reason: np.uint8(code) for code, reason in enumerate(REASONS)}
_WORDS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}
_OFFSET = r"[Tt ]\d{2}.*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"

Read = tuple[Any, "np.ndarray[Any, np.dtype[np.uint8]]"]
"""Clean values (an array or a series) and reason codes."""


def read_column(series: pd.Series[Any], column: Column, zone: ZoneInfo) -> Read:
    """The values of one declared column in the dtype that events frames have."""
    if column.type in NUMBER_TYPES:
        return read_numbers(series, column)
    if column.type in TEXT_TYPES:
        return read_texts(series, column)
    if column.type == "datetime":
        return read_times(series, zone, column.nullable)
    values, codes = read_booleans(series, column.nullable)
    return (values if column.nullable else values == 1.0), codes


def read_numbers(series: pd.Series[Any], column: Column) -> Read:
    """float64, or int64 for an integer column that may not be missing."""
    values, codes = _floats(series)
    low, high = bounds(column)
    all_read = column.type != "integer" and len(values) and not codes.any()
    # One look at the outermost values clears a clean column; none of them is missing here.
    if all_read and low <= values.min() and values.max() <= high:
        return values, codes
    missing = codes == CODE["missing"]
    is_clean = codes == 0
    if column.type == "integer":
        codes[is_clean & (np.floor(values) != values) & np.isfinite(values)] = CODE["not_an_integer"]
    codes[(codes == 0) & ~((values >= low) & (values <= high))] = CODE["out_of_range"]
    if column.nullable:
        codes[missing] = 0
    values[codes != 0] = np.nan
    if column.type == "integer" and not column.nullable:
        return np.nan_to_num(values).astype(np.int64), codes
    return values, codes


def read_booleans(series: pd.Series[Any], nullable: bool) -> Read:
    """float64 of 0 and 1 (NaN where missing or refused) from booleans, 0 and 1, or such text."""
    codes = np.zeros(len(series), dtype=np.uint8)
    if series.dtype.kind in "biuf":
        values = series.to_numpy(np.float64, na_value=np.nan, copy=True)
        missing = np.isnan(values)
        values[(values != 0.0) & (values != 1.0)] = np.nan
    else:
        raw = _objects(series)
        missing = _blank_mask(raw)
        values = np.array([_WORDS.get(str(v).strip().lower(), np.nan) for v in raw], dtype=np.float64)
    codes[np.isnan(values)] = CODE["wrong_type"]
    codes[missing] = 0 if nullable else CODE["missing"]
    return values, codes


def read_texts(series: pd.Series[Any], column: Column) -> Read:
    """Object array of ``str`` (``None`` where missing). Whole numbers become their decimal text."""
    texts, codes = _strings(series)
    for at in _doubtful_positions(texts, column):
        codes[at] = _text_reason(texts[at], column)
    if column.pan_guard:
        _refuse_card_numbers(texts, codes)
    if column.nullable:
        codes[codes == CODE["missing"]] = 0
    return texts, codes


def hash_texts(texts: np.ndarray[Any, np.dtype[np.object_]], codes: Any, hasher: Hasher | LazyHasher) -> None:
    """Replace each clean text by its keyed hash, in place; a hash of another key is refused."""
    texts[codes != 0] = None  # what is refused is kept nowhere
    text_codes, uniques = pd.factorize(texts)
    # A missing text has the place -1, which leads to the last one here.
    hashes = np.empty(len(uniques) + 1, dtype=object)
    is_foreign = np.zeros(len(hashes), dtype=np.bool_)
    for at, text in enumerate(uniques):
        try:
            hashes[at] = hasher(text)
        except ForeignHash:
            is_foreign[at] = True
    texts[:] = hashes[text_codes]
    codes[is_foreign[text_codes]] = CODE["foreign_hash"]


def _refuse_card_numbers(texts: np.ndarray[Any, np.dtype[np.object_]], codes: Any) -> None:
    """Refuse texts with a card number, and forget them."""
    for at, text in enumerate(texts.tolist()):
        if text is not None and holds_card_number(text):
            codes[at] = CODE["card_number"]
            texts[at] = None


def read_times(series: pd.Series[Any], zone: ZoneInfo, nullable: bool) -> Read:
    """``datetime64[us, UTC]``; times without an offset are local times of ``zone``."""
    codes = np.zeros(len(series), dtype=np.uint8)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        times = series.reset_index(drop=True)
        missing = times.isna().to_numpy()
    elif series.dtype.kind == "M":
        missing = series.isna().to_numpy()
        times = _localize(series.reset_index(drop=True), zone, codes)
    else:
        raw = _objects(series)
        missing = _blank_mask(raw)
        times = _parse_times(raw, missing, zone, codes)
    times = times.dt.tz_convert("UTC").dt.as_unit("us")
    in_calendar = ((times >= EARLIEST) & (times < LATEST)).to_numpy()
    codes[(codes == 0) & ~in_calendar] = CODE["bad_time"]
    codes[missing] = 0 if nullable else CODE["missing"]
    return times.mask(codes != 0), codes


def times_of_steps(series: pd.Series[Any], declaration: CountedTime, zone: ZoneInfo) -> pd.Series[Any]:
    """Times from step numbers, UTC; missing where there is no number or it leads out of the calendar."""
    origin = declaration.start if declaration.start.tzinfo else declaration.start.replace(tzinfo=zone)
    start, step = (origin - EPOCH) // MICROSECOND, declaration.step // MICROSECOND
    numbers, _ = _floats(series.reset_index(drop=True))
    # So far that no sum leaves the range of int64; EARLIEST and LATEST lie far within.
    in_range = np.abs(np.nan_to_num(numbers, nan=np.inf)) < LATEST_US * 2 / step
    stamps_us = (np.where(in_range, numbers, 0.0) * step).round().astype(np.int64) + start
    is_known = in_range & (stamps_us >= EARLIEST_US) & (stamps_us < LATEST_US)
    stamps = pd.Series(np.where(is_known, stamps_us, 0).view("M8[us]")).dt.tz_localize("UTC")
    return stamps.where(pd.Series(is_known))


def _floats(series: pd.Series[Any]) -> tuple[np.ndarray[Any, np.dtype[np.float64]], Any]:
    codes = np.zeros(len(series), dtype=np.uint8)
    if pd.api.types.is_bool_dtype(series.dtype) or series.dtype.kind in "mM":
        codes[:] = CODE["wrong_type"]
        return np.full(len(series), np.nan), codes
    if pd.api.types.is_numeric_dtype(series.dtype):
        values = series.to_numpy(np.float64, na_value=np.nan, copy=True)
        codes[np.isnan(values)] = CODE["missing"]
        return values, codes
    raw = _objects(series)
    # Booleans and times would be read as numbers.
    is_foreign = np.array([isinstance(v, bool) or not isinstance(v, (str, Number)) for v in raw], dtype=np.bool_)
    raw_numbers: Any = pd.Series(raw, dtype=object).mask(is_foreign)
    numbers = pd.to_numeric(raw_numbers, errors="coerce")
    values = numbers.to_numpy(np.float64, na_value=np.nan, copy=True)
    codes[np.isnan(values)] = CODE["wrong_type"]
    codes[_blank_mask(raw)] = CODE["missing"]
    return values, codes


def _strings(series: pd.Series[Any]) -> tuple[np.ndarray[Any, np.dtype[np.object_]], Any]:
    codes = np.zeros(len(series), dtype=np.uint8)
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iu":
        text_codes, uniques = pd.factorize(series.to_numpy())
        return np.array([*map(str, uniques.tolist()), None], dtype=object)[:-1][text_codes], codes
    if series.dtype == object and set(map(type, value_list := series.tolist())) == {str} and "" not in value_list:
        return series.to_numpy(copy=True), codes
    raw = _objects(series)
    value_list = raw.tolist()
    kinds = set(map(type, value_list))
    missing = np.array([v is None or v == "" for v in value_list], dtype=np.bool_)
    if not kinds <= {str, type(None)} or missing.any():
        raw = np.array([*map(_text_of, raw.tolist()), None], dtype=object)[:-1]
    codes[np.array([v is None for v in raw.tolist()], dtype=np.bool_)] = CODE["wrong_type"]
    codes[missing] = CODE["missing"]
    return raw, codes


def _text_of(value: object) -> str | None:
    if isinstance(value, str):
        return str(value) if value else None
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    # Integers with a missing value among them reach us as floats.
    if isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    return None


def _doubtful_positions(texts: np.ndarray[Any, np.dtype[np.object_]], column: Column) -> list[int]:
    """Positions of texts that may have to be refused."""
    present_texts: list[str] = texts.tolist()
    if None in present_texts:
        present_texts = [text for text in present_texts if text is not None]
    # One look at all texts together clears a clean column much faster than a look at each.
    if (
        not column.categories
        and max(map(len, present_texts), default=0) <= column.max_length
        and "".join(present_texts).isprintable()
    ):
        return []
    return [at for at, text in enumerate(texts.tolist()) if text is not None]


def _text_reason(text: str, column: Column) -> np.uint8:
    if len(text) > column.max_length:
        return CODE["too_long"]
    if has_control(text):
        return CODE["control_character"]
    if column.categories and text not in column.categories:
        return CODE["unknown_category"]
    return np.uint8(0)


def _parse_times(raw: Any, missing: Any, zone: ZoneInfo, codes: Any) -> pd.Series[Any]:
    """Times of an object column: ISO 8601 text or datetimes, with and without offset in one column."""
    texts = pd.Series([v if isinstance(v, str) else _iso(v) for v in raw], dtype=object)
    codes[texts.isna().to_numpy() & ~missing] = CODE["wrong_type"]
    has_offset = texts.str.contains(_OFFSET, regex=True, na=False)
    times = pd.to_datetime(texts.where(has_offset), format="ISO8601", errors="coerce", utc=True).dt.as_unit("us").copy()
    is_naive = ~has_offset & texts.notna()
    if is_naive.any():
        local = pd.to_datetime(texts[is_naive], format="ISO8601", errors="coerce").dt.as_unit("us")
        part_codes = np.zeros(len(local), dtype=np.uint8)
        times[is_naive] = _localize(local, zone, part_codes)
        codes[is_naive.to_numpy()] = part_codes
    return times


def _iso(value: object) -> str | None:
    if value is pd.NaT or not hasattr(value, "isoformat"):
        return None
    return str(value.isoformat())


def _localize(local: pd.Series[Any], zone: ZoneInfo, codes: Any) -> pd.Series[Any]:
    """Local wall times as UTC; notes the hours that a clock change repeats or skips."""
    local = local.dt.as_unit("us")
    times: pd.Series[Any] = local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    is_lost = (times.isna() & local.notna()).to_numpy()
    if is_lost.any():
        shifted_times = local[is_lost].dt.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
        codes[is_lost] = np.where(shifted_times.isna(), CODE["ambiguous_local_time"], CODE["nonexistent_local_time"])
    utc: pd.Series[Any] = times.dt.tz_convert("UTC")
    return utc


def _objects(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Python values, with ``None`` for every kind of missing value."""
    raw = series.astype(object).to_numpy(dtype=object, copy=True)
    raw[pd.isna(raw)] = None
    return raw


def _blank_mask(raw: np.ndarray[Any, np.dtype[np.object_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([v is None or (isinstance(v, str) and not v.strip()) for v in raw.tolist()], dtype=np.bool_)
