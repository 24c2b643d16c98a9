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

from flows.sources.foreign_table import MADE_ID, converted, reading_of

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
TELLS_ALL = 0.99
"""A column that alone ranks the target this well (area under the ROC curve) is rather the answer than a cause."""
ENOUGH_ROWS = 100
"""Fewer rows rank by chance."""
LEAST_DAYS = 60
"""A shorter history cannot be split by time: labels take a while, and each fold needs days of its own."""

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Guess:
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
        return self.tells is not None and self.tells >= TELLS_ALL


@dataclass(frozen=True)
class FirstFile:
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

    columns: tuple[Guess, ...]
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
        return self.event_time is not None and self.days >= LEAST_DAYS


def guess(parts: Iterable[pd.DataFrame], target: str | None = None) -> FirstFile:
    """Look at a table: at its first part for types, at all of it for what must hold in every row.

    Args:
        parts: cells as text or missing, see :func:`~flows.sources.foreign_table.chunks`.
        target: the target's column, where it is known.

    Raises:
        ValueError: there are no rows, two columns share a name, or no column can be the target.
    """
    following = iter(parts)
    first = next(following, None)
    if first is None or first.empty:
        raise ValueError("the table has a header and no rows" if first is not None else "the table is empty")
    if repeated := sorted({str(c) for c in first.columns[first.columns.duplicated()]}):
        raise ValueError(f"two columns are called {repeated[0]!r}; rename one")
    chosen = target or _target(first)
    names = _names([str(c) for c in first.columns if c != chosen])
    columns = tuple(_column(first[source], source, name) for source, name in names.items())
    ids = [c for c in columns if c.type in ("identifier", "integer", "category") and not c.missing]
    survey = _survey(chain([first], following), chosen, [c for c in ids if first[c.source].is_unique], _times(columns))
    kind, values = _kind(survey.target), survey.target
    zero_one = set(values.index) <= {"0", "1", "0.0", "1.0"}
    positive = None if zero_one or kind != "binary" else _positive(values)
    share = float(values.get(positive, 0) if positive else values[values.index.isin(("1", "1.0"))].sum())
    event_id = _named(survey.unique)
    time = None if survey.time is None else survey.time.name
    if kind == "binary":
        truth = _truth(first[chosen], positive)
        columns = tuple(replace(c, tells=_tells(first[c.source], c, truth)) for c in columns)
    columns = tuple(replace(c, type="identifier") if event_id and c.name == event_id.name else c for c in columns)
    if time is None or survey.days < LEAST_DAYS:
        # A use case without a time has a column of this name already.
        columns = tuple(replace(c, name="event_time_2") if c.name == "event_time" else c for c in columns)
    labelled = int(values.sum())
    return FirstFile(
        columns, event_id.name if event_id else MADE_ID, time, chosen, kind, positive,
        tuple((str(v), int(n)) for v, n in values.head(_CLASSES).items()), tuple(_others(first, chosen)),
        share / max(labelled, 1), survey.rows - labelled, survey.rows, survey.days, event_id is None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Survey:
    """What all rows say: their number, values of the target, ids that never repeat, the time and its span."""

    rows: int
    target: pd.Series[Any]
    unique: list[Guess]
    time: Guess | None
    days: float


def _survey(parts: Iterator[pd.DataFrame], target: str, ids: list[Guess], times: list[Guess]) -> _Survey:
    rows, counts, whole = 0, [], {c.source: True for c in times}
    hashes: dict[str, list[Any]] = {c.source: [] for c in ids}
    edges: dict[str, list[Any]] = {c.source: [] for c in times}
    for part in parts:
        rows += len(part)
        counts.append(part[target].value_counts())
        for source, kept in hashes.items():
            kept.append(pd.util.hash_array(part[source].to_numpy(object), categorize=False))
        for time in times:
            stamps = converted(part[time.source], time.reading)
            whole[time.source] &= bool(stamps.notna().all())
            edges[time.source] += [stamps.min(), stamps.max()]
    values = pd.concat(counts).groupby(level=0).sum().sort_values(ascending=False)
    unique = [c for c in ids if len(np.unique(np.concatenate(hashes[c.source]))) == rows]
    usable = [c for c in times if whole[c.source]]
    chosen = next((c for c in usable if not _NOT_THE_TIME.search(c.source)), usable[0] if usable else None)
    found = [] if chosen is None else [e for e in edges[chosen.source] if not pd.isna(e)]
    return _Survey(rows, values, unique, chosen, (max(found) - min(found)) / pd.Timedelta(days=1) if found else 0.0)


def _times(columns: tuple[Guess, ...]) -> list[Guess]:
    return [c for c in columns if c.type == "datetime" and not c.missing]


def _named(unique: list[Guess]) -> Guess | None:
    """The id: a column that never repeats, by its name, or the first of text; numbers alone may be amounts."""
    named = [c for c in unique if _ID.search(c.source)]
    return next(iter(named + [c for c in unique if c.type == "identifier"]), None)


def _names(sources: list[str]) -> dict[str, str]:
    """A short plain name for each column, distinct."""
    made: dict[str, str] = {}
    for place, source in enumerate(sources, 1):
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", source).replace("ß", "ss")
        plain = unicodedata.normalize("NFKD", spaced)
        plain = "".join(c for c in plain if not unicodedata.combining(c)).lower()
        name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:50] or f"column_{place}"
        name = name if name[0].isalpha() else f"c_{name}"
        while name in made.values() or name in ("target", MADE_ID):
            name += "_2"
        made[source] = name
    return made


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
    known = [str(v) for v in values.index if str(v).lower() in _POSITIVE or _TARGET.search(str(v))]
    return known[0] if len(known) == 1 else str(values.index[-1])


def _truth(values: pd.Series[Any], positive: str | None) -> pd.Series[Any]:
    """1, 0, or missing."""
    wanted = (positive,) if positive else ("1", "1.0")
    return values.isin(wanted).astype(np.float64).mask(values.isna())


def _tells(values: pd.Series[Any], column: Guess, truth: pd.Series[Any]) -> float | None:
    """The area under the ROC curve of one column alone, whichever way it points; a missing value is a value."""
    known = truth.notna()
    y = truth[known].to_numpy() == 1.0
    if len(y) < ENOUGH_ROWS or y.all() or not y.any() or column.type not in ("float", "integer", "boolean", "category"):
        return None
    if column.type == "category":
        levels = values[known].fillna("")
        return _area(truth[known].groupby(levels).transform("mean").to_numpy(), y)
    numbers = converted(values[known], column.reading)
    sides = [_area(numbers.fillna(edge).to_numpy(), y) for edge in (-np.inf, np.inf)]
    return max(max(a, 1.0 - a) for a in sides)


def _area(score: Any, y: Any) -> float:
    ranks = pd.Series(score).rank().to_numpy()
    n = int(y.sum())
    return float((ranks[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def _column(values: pd.Series[Any], source: str, name: str) -> Guess:
    given = values.dropna()
    missing, distinct = float(values.isna().mean()), given.nunique()
    seen = f"{distinct:,} distinct" + (f", {missing:.1%} missing" if missing else "")
    if distinct == 0:
        return Guess(source, name, "ignored", "always empty", missing)
    if distinct == 1:
        return Guess(
            source, name, "ignored", f"always {given.iloc[0][:40]!r}" + (" or empty" if missing else ""), missing
        )
    reading = reading_of(given, source)
    if reading in ("number", "comma", "grouped"):
        return _number(given, reading, Guess(source, name, "float", seen, missing, reading))
    if reading != "text":
        times = converted(given, reading)
        span = f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}" + (f", {missing:.1%} missing" if missing else "")
        return Guess(source, name, "datetime", span, missing, reading)
    if distinct <= _FEW:
        return Guess(
            source, name, "category", f"{_listed(given)}{f', {missing:.1%} missing' if missing else ''}", missing
        )
    kind = "identifier" if given.str.len().max() <= 64 and not given.str.contains(" ").any() else "ignored"
    return Guess(source, name, kind, seen, missing)


def _number(given: pd.Series[Any], reading: str, found: Guess) -> Guess:
    numbers = converted(given, reading)
    if numbers.isna().any():
        words = given[numbers.isna()].iloc[0]
        return replace(found, type="ignored", reading="text", detail=f"numbers and words such as {words[:20]!r}")
    if set(given) <= {"0", "1"}:
        return replace(
            found, type="boolean", detail=f"{numbers.mean():.1%} are 1, {found.detail.partition(', ')[2]}".rstrip(", ")
        )
    whole = bool((numbers % 1 == 0).all()) and reading == "number" and not given.str.contains(".", regex=False).any()
    detail = f"{numbers.min():g} to {numbers.max():g}, {found.detail}"
    if whole and numbers.min() >= 0 and given.nunique() > _FEW and _ENTITY.search(found.source):
        return replace(found, type="identifier", reading="text", detail=detail)
    return replace(found, type="integer" if whole else "float", detail=detail, low=float(numbers.min()))


def _listed(given: pd.Series[Any]) -> str:
    counts = given.value_counts()
    shown = ", ".join(str(v)[:20] for v in counts.index[:4])
    return shown if len(counts) <= 4 else f"{shown}, and {len(counts) - 4} more"
