"""What a table suggests for a first use case: types, ranges, and guesses at id, time and target, to be judged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd

from flows.sources.foreign_table import ROW_ID, convert_texts, reading_of

_TARGET = re.compile(
    r"fraud|churn|default|label|target|outcome|lapsed|bad|risk|claim|cancel|class|click|convert|respon|surviv"
    r"|betrug|ausfall|gek.ndigt|k.ndigung|impay|fraude|attrition|delinquen",
    re.IGNORECASE,
)
_PLAIN_TARGET = {"y", "target", "label", "class", "outcome"}
_ID = re.compile(r"(^|[^a-z])(id|nr|no|number|key|ref|uuid|seq)($|[^a-z])|id$", re.IGNORECASE)
_ENTITY = re.compile(r"(^|[^a-z])(id|key|ref|uuid|user|customer|client|account|merchant|terminal)$|[a-z]I[dD]$|_ID$")
_POSITIVE = ("yes", "y", "true", "1", "bad", "default", "fraud", "churned", "positive", "ja", "oui", "si", "sí", "sim")
_NOT_THE_TIME = re.compile(r"birth|dob|geburt|naiss|due|end|clos|expir|updat", re.IGNORECASE)
_FEW = 50
_CLASSES = 20
SUSPECT_AUC = 0.99
"""A column that alone ranks the target this well (area under the ROC curve) is rather the answer than a cause."""
ENOUGH_ROWS = 100
"""Fewer rows rank by chance."""
MIN_DAYS = 60
"""A shorter history cannot be split by time: labels take a while, and each fold needs days of its own."""

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class ColumnGuess:
    """One column of the table.

    Attributes:
        source: its name in the table.
        name: its name in the use case.
        type: the type of column that fits, or ``ignored``.
        detail: what was seen: distinct values, range, missing share.
        missing: share of missing values.
        reading: how its texts are read, see :func:`~flows.sources.foreign_table.reading_of`.
        tells: how well it alone ranks the target: 0.5 like chance, 1 perfectly; none where nobody looked.
        low: smallest number, where it is one.
    """

    source: str
    name: str
    type: str
    detail: str
    missing: float
    reading: str = "text"
    tells: float | None = None
    low: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether it is more likely the answer than something known before."""
        return self.tells is not None and self.tells >= SUSPECT_AUC


@dataclass(frozen=True)
class TableProfile:
    """What a table suggests; ``event_time`` is none where it has no usable time.

    Attributes:
        columns: every column but the target.
        event_id: the id by its name in the use case.
        event_time: the time, or none.
        target: the target's name in the table.
        kind: what the target is; only a binary one can be trained.
        positive: the text that means positive, or none where the target is 0 and 1.
        values: the most frequent values of the target and how often each is there.
        others: further columns with two values, which may be the target instead.
        share: share of positives among the rows with a target.
        unlabelled: rows without a target.
        rows: rows of the table.
        days: days between the first and the last time.
        made_id: whether the table has no id, so that the copy numbers its rows.
    """

    columns: tuple[ColumnGuess, ...]
    event_id: str
    event_time: str | None
    target: str
    kind: Kind
    positive: str | None
    values: tuple[tuple[str, int], ...]
    others: tuple[str, ...]
    share: float
    unlabelled: int
    rows: int
    days: float
    made_id: bool

    @property
    def timed(self) -> bool:
        """Whether there is time enough to split by it."""
        return self.event_time is not None and self.days >= MIN_DAYS


def guess_table(parts: Iterable[pd.DataFrame], target: str | None = None) -> TableProfile:
    """Look at a table: at its first part for types, at all of it for what must hold in every row.

    Args:
        parts: cells as text or missing, see :func:`~flows.sources.foreign_table.chunks`.
        target: the target's column, where it is known.

    Raises:
        ValueError: there are no rows, two columns share a name, or no column can be the target.
    """
    later_parts = iter(parts)
    first = next(later_parts, None)
    if first is None or first.empty:
        raise ValueError("the table has a header and no rows" if first is not None else "the table is empty")
    if duplicates := sorted({str(c) for c in first.columns[first.columns.duplicated()]}):
        raise ValueError(f"two columns are called {duplicates[0]!r}; rename one")
    target_column = target or _target(first)
    names = _names([str(c) for c in first.columns if c != target_column])
    columns = tuple(_column(first[source], source, name) for source, name in names.items())
    ids = [c for c in columns if c.type in ("identifier", "integer", "category") and not c.missing]
    survey = _survey_rows(
        chain([first], later_parts), target_column, [c for c in ids if first[c.source].is_unique], _times(columns)
    )
    kind, values = _kind(survey.target), survey.target
    zero_one = set(values.index) <= {"0", "1", "0.0", "1.0"}
    positive = None if zero_one or kind != "binary" else _positive(values)
    share = float(values.get(positive, 0) if positive else values[values.index.isin(("1", "1.0"))].sum())
    event_id = _choose_id(survey.unique)
    time = None if survey.time is None else survey.time.name
    if kind == "binary":
        truth = _truth(first[target_column], positive)
        columns = tuple(replace(c, tells=_column_auc(first[c.source], c, truth)) for c in columns)
    columns = tuple(replace(c, type="identifier") if event_id and c.name == event_id.name else c for c in columns)
    if time is None or survey.days < MIN_DAYS:
        # A use case without a time has a column of this name already.
        columns = tuple(replace(c, name="event_time_2") if c.name == "event_time" else c for c in columns)
    labelled = int(values.sum())
    return TableProfile(
        columns, event_id.name if event_id else ROW_ID, time, target_column, kind, positive,
        tuple((str(v), int(n)) for v, n in values.head(_CLASSES).items()), tuple(_others(first, target_column)),
        share / max(labelled, 1), survey.rows - labelled, survey.rows, survey.days, event_id is None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Survey:
    """What all rows say: their number, values of the target, ids that never repeat, the time and its span."""

    rows: int
    target: pd.Series[Any]
    unique: list[ColumnGuess]
    time: ColumnGuess | None
    days: float


def _survey_rows(
    parts: Iterator[pd.DataFrame], target: str, ids: list[ColumnGuess], times: list[ColumnGuess]
) -> _Survey:
    rows, counts, complete = 0, [], {c.source: True for c in times}
    hashes: dict[str, list[Any]] = {c.source: [] for c in ids}
    edges: dict[str, list[Any]] = {c.source: [] for c in times}
    for part in parts:
        rows += len(part)
        counts.append(part[target].value_counts())
        for source, source_hashes in hashes.items():
            source_hashes.append(pd.util.hash_array(part[source].to_numpy(object), categorize=False))
        for time in times:
            stamps = convert_texts(part[time.source], time.reading)
            complete[time.source] &= bool(stamps.notna().all())
            edges[time.source] += [stamps.min(), stamps.max()]
    values = pd.concat(counts).groupby(level=0).sum().sort_values(ascending=False)
    unique = [c for c in ids if len(np.unique(np.concatenate(hashes[c.source]))) == rows]
    usable = [c for c in times if complete[c.source]]
    time_column = next((c for c in usable if not _NOT_THE_TIME.search(c.source)), usable[0] if usable else None)
    stamps_of_time = [] if time_column is None else [e for e in edges[time_column.source] if not pd.isna(e)]
    return _Survey(
        rows,
        values,
        unique,
        time_column,
        (max(stamps_of_time) - min(stamps_of_time)) / pd.Timedelta(days=1) if stamps_of_time else 0.0,
    )


def _times(columns: tuple[ColumnGuess, ...]) -> list[ColumnGuess]:
    return [c for c in columns if c.type == "datetime" and not c.missing]


def _choose_id(unique: list[ColumnGuess]) -> ColumnGuess | None:
    """The id: a column that never repeats, by its name, or the first of text; numbers alone may be amounts."""
    by_name = [c for c in unique if _ID.search(c.source)]
    return next(iter(by_name + [c for c in unique if c.type == "identifier"]), None)


def _names(sources: list[str]) -> dict[str, str]:
    """A short plain name for each column, distinct."""
    names: dict[str, str] = {}
    for position, source in enumerate(sources, 1):
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", source).replace("ß", "ss")
        plain = unicodedata.normalize("NFKD", spaced)
        plain = "".join(c for c in plain if not unicodedata.combining(c)).lower()
        name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:50] or f"column_{position}"
        name = name if name[0].isalpha() else f"c_{name}"
        while name in names.values() or name in ("target", ROW_ID):
            name += "_2"
        names[source] = name
    return names


def _target(table: pd.DataFrame) -> str:
    """The column that looks most like an outcome: by its name, two values, and its place at an edge."""
    binary = _binary(table)
    places = {str(c): at for at, c in enumerate(table.columns)}
    last = len(places) - 1

    def weight(name: str) -> int:
        plain = 3 if name.strip().lower() in _PLAIN_TARGET else 2 if _TARGET.search(name) else 0
        return plain + (2 if places[name] == last else 1 if places[name] == 0 else 0)

    plain = [c for c in places if c.strip().lower() in _PLAIN_TARGET]
    candidates = [*binary, *(c for c in plain if c not in binary)]
    if not candidates:
        raise ValueError("no column has exactly two values; name the target with --target (it must be binary)")
    return max(candidates, key=lambda name: (weight(name), places[name]))


def _binary(table: pd.DataFrame) -> list[str]:
    return [str(c) for c in table.columns if table[c].nunique() == 2]


def _others(table: pd.DataFrame, target: str) -> list[str]:
    return [name for name in _binary(table) if name != target]


def _kind(values: pd.Series[Any]) -> Kind:
    if len(values) <= 2:
        return "binary"
    numbers = pd.to_numeric(pd.Series(values.index), errors="coerce")
    return "regression" if numbers.notna().all() and len(values) > _CLASSES else "multiclass"


def _positive(values: pd.Series[Any]) -> str:
    candidates = [str(v) for v in values.index if str(v).lower() in _POSITIVE or _TARGET.search(str(v))]
    return candidates[0] if len(candidates) == 1 else str(values.index[-1])


def _truth(values: pd.Series[Any], positive: str | None) -> pd.Series[Any]:
    """1, 0, or missing."""
    positive_values = (positive,) if positive else ("1", "1.0")
    return values.isin(positive_values).astype(np.float64).mask(values.isna())


def _column_auc(values: pd.Series[Any], column: ColumnGuess, truth: pd.Series[Any]) -> float | None:
    """The area under the ROC curve of one column alone, whichever way it points; a missing value is a value."""
    has_target = truth.notna()
    y = truth[has_target].to_numpy() == 1.0
    if len(y) < ENOUGH_ROWS or y.all() or not y.any() or column.type not in ("float", "integer", "boolean", "category"):
        return None
    if column.type == "category":
        levels = values[has_target].fillna("")
        return _area(truth[has_target].groupby(levels).transform("mean").to_numpy(), y)
    numbers = convert_texts(values[has_target], column.reading)
    sides = [_area(numbers.fillna(edge).to_numpy(), y) for edge in (-np.inf, np.inf)]
    return max(max(a, 1.0 - a) for a in sides)


def _area(score: Any, y: Any) -> float:
    ranks = pd.Series(score).rank().to_numpy()
    n = int(y.sum())
    return float((ranks[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def _column(values: pd.Series[Any], source: str, name: str) -> ColumnGuess:
    present = values.dropna()
    missing, distinct = float(values.isna().mean()), present.nunique()
    summary = f"{distinct:,} distinct" + (f", {missing:.1%} missing" if missing else "")
    if distinct == 0:
        return ColumnGuess(source, name, "ignored", "always empty", missing)
    if distinct == 1:
        return ColumnGuess(
            source, name, "ignored", f"always {present.iloc[0][:40]!r}" + (" or empty" if missing else ""), missing
        )
    reading = reading_of(present, source)
    if reading in ("number", "comma", "grouped"):
        return _number(present, reading, ColumnGuess(source, name, "float", summary, missing, reading))
    if reading != "text":
        times = convert_texts(present, reading)
        span = f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}" + (f", {missing:.1%} missing" if missing else "")
        return ColumnGuess(source, name, "datetime", span, missing, reading)
    if distinct <= _FEW:
        return ColumnGuess(
            source, name, "category", f"{_list_values(present)}{f', {missing:.1%} missing' if missing else ''}", missing
        )
    kind = "identifier" if present.str.len().max() <= 64 and not present.str.contains(" ").any() else "ignored"
    return ColumnGuess(source, name, kind, summary, missing)


def _number(present: pd.Series[Any], reading: str, column: ColumnGuess) -> ColumnGuess:
    numbers = convert_texts(present, reading)
    if numbers.isna().any():
        word_values = present[numbers.isna()].iloc[0]
        return replace(column, type="ignored", reading="text", detail=f"numbers and words such as {word_values[:20]!r}")
    if set(present) <= {"0", "1"}:
        return replace(
            column,
            type="boolean",
            detail=f"{numbers.mean():.1%} are 1, {column.detail.partition(', ')[2]}".rstrip(", "),
        )
    whole = bool((numbers % 1 == 0).all()) and reading == "number" and not present.str.contains(".", regex=False).any()
    detail = f"{numbers.min():g} to {numbers.max():g}, {column.detail}"
    if whole and numbers.min() >= 0 and present.nunique() > _FEW and _ENTITY.search(column.source):
        return replace(column, type="identifier", reading="text", detail=detail)
    return replace(column, type="integer" if whole else "float", detail=detail, low=float(numbers.min()))


def _list_values(present: pd.Series[Any]) -> str:
    counts = present.value_counts()
    text = ", ".join(str(v)[:20] for v in counts.index[:4])
    return text if len(counts) <= 4 else f"{text}, and {len(counts) - 4} more"
