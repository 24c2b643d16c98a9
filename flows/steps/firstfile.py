"""A first use-case file from a table: types, ranges, and guesses at id, time and target, as comments to be judged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

_TARGET = re.compile(r"fraud|churn|default|label|target|outcome|lapsed|bad|risk|claim|cancel", re.IGNORECASE)
_ID = re.compile(r"(^|[^a-z])(id|nr|no|number|key|ref|uuid)($|[^a-z])|id$", re.IGNORECASE)
_POSITIVE = ("yes", "y", "true", "1", "bad", "default", "fraud", "churned", "positive")
_FEW = 50


@dataclass(frozen=True)
class Guess:
    """One column of the table.

    Attributes:
        source: its name in the table.
        name: its name in the use case.
        type: the type of column that fits, or ``ignored``.
        detail: what was seen: distinct values, range, missing share.
        missing: share of missing values.
    """

    source: str
    name: str
    type: str
    detail: str
    missing: float


@dataclass(frozen=True)
class FirstFile:
    """What a table suggests; ``event_time`` is none where it has no usable time.

    Attributes:
        columns: every column but the target.
        event_id: the id by its name in the use case.
        event_time: the time, or none.
        target: the target's name in the table.
        positive: the text that means positive, or none where the target is 0 and 1.
        share: share of positives.
        rows: rows that were looked at.
        days: days between the first and the last time.
    """

    columns: tuple[Guess, ...]
    event_id: str
    event_time: str | None
    target: str
    positive: str | None
    share: float
    rows: int
    days: float


def guess(table: pd.DataFrame, target: str | None = None) -> FirstFile:
    """Look at a table whose cells are text.

    Args:
        table: rows as read with ``dtype=str``; blanks are missing.
        target: the target's column, where it is known.

    Raises:
        ValueError: no column can be the target or the id; the message says what to give.
    """
    clean = table.apply(lambda column: column.str.strip().replace("", None))
    chosen = target or _target(clean)
    names = _names([str(c) for c in clean.columns if c != chosen])
    columns = tuple(_column(clean[source], source, name) for source, name in names.items())
    event_id = _event_id(clean, columns)
    times = [c for c in columns if c.type == "datetime" and c.missing == 0.0]
    time = times[0] if times else None
    span = _times(clean[time.source]) if time else None
    days = 0.0 if span is None else (span.max() - span.min()) / pd.Timedelta(days=1)
    values = clean[chosen].dropna()
    positive = None if set(values) <= {"0", "1"} else _positive(values)
    share = float((values == (positive or "1")).mean())
    columns = tuple(
        c if c.name != event_id else Guess(c.source, c.name, "identifier", c.detail, c.missing) for c in columns
    )
    return FirstFile(columns, event_id, time.name if time else None, chosen, positive, share, len(clean), float(days))


def write_toml(name: str, found: FirstFile, kind: str, file: str) -> str:
    """The use-case file of a ``csv`` or ``parquet`` file, with a comment wherever something was guessed."""
    timed = found.event_time is not None and found.days >= 60
    used = [c for c in found.columns if c.type != "ignored"]
    lines = [
        f"# First use case from {file}: {found.rows:,} rows, {found.share:.1%} positive.",
        "# Check every line marked 'guess'.",
        "", f"name = {_q(name)}", f'description = "{name}: say here what is decided, and for whom."',
        f"event_id = {_q(found.event_id)}                  # guess: distinct in every row",
    ]  # fmt: skip
    if timed:
        lines.append(f"event_time = {_q(found.event_time or '')}                # guess: {found.days:.0f} days")
    else:
        lines.append('time = "none"                           # guess: too little time; judged by cross-validation')
    lines += ["", "[label]", 'column = "target"', f"source_name = {_q(found.target)}                 # guess"]
    if found.positive is not None:
        lines.append(
            f"positive = {_q(found.positive)}                    # guess: the rarer, or the worse, of two values"
        )
    lines += ['matures_after = "30d"                   # guess: how long until the outcome of an event is known', ""]
    for c in used:
        lines += ["[[columns]]", f"name = {_q(c.name)}                           # {c.detail}"]
        lines += [f"source_name = {_q(c.source)}"] if c.source != c.name else []
        lines += [f"type = {_q(c.type)}"]
        if c.missing and c.name != found.event_id:
            lines.append("nullable = true")
        lines.append("")
    ignored = [c.source for c in found.columns if c.type == "ignored"]
    if ignored:
        lines += [f"# Not used (free text or constant): {', '.join(ignored)}", ""]
    for c in used:
        if c.type in ("float", "integer", "boolean", "category"):
            lines += ["[[features]]", f"name = {_q(c.name)}", 'kind = "column"', f"column = {_q(c.name)}", ""]
    lines += _window_hint(used, timed)
    lines += ["[source]", f"kind = {_q(kind)}", f"path = {_q(file)}", "", *_policies(found, timed)]
    return "\n".join(lines) + "\n"


def _policies(found: FirstFile, timed: bool) -> list[str]:
    lines = ["[cost]", "false_negative = 10                     # guess: a missed positive, in false alarms"]
    lines += ["false_positive = 1", "", "[gates]"]
    lines.append(
        f"min_average_precision = {round(min(0.9, found.share), 2)}            # what chance would reach: raise it"
    )
    lines += ["min_recall = 0.3", "max_calibration_error = 0.1", f"min_matured_rows = {max(1, found.rows // 4)}"]
    lines += ["min_baseline_gain = -0.05               # small tables favour simple models", ""]
    lines += ["[retrain]", 'cooldown = "30d"', ""]
    if timed:
        fold = max(2, int((found.days - 60) * 0.2))
        lines += ["[split]", f'train = "{2 * fold}d"', f'calibration = "{fold}d"', f'test = "{fold}d"', ""]
    return lines


def _window_hint(used: list[Guess], timed: bool) -> list[str]:
    entity = next((c for c in used if c.type == "identifier" and "distinct" in c.detail), None)
    if not timed or entity is None:
        return []
    hint = [f"# A window over an entity's earlier events, for example of {entity.name}:", "# [[features]]"]
    keys = ('name = "count_7d"', 'kind = "window"', f'entity = "{entity.name}"', 'agg = "count"', 'over = "7d"')
    return [*hint, *(f"# {line}" for line in keys), ""]


def _q(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _names(sources: list[str]) -> dict[str, str]:
    """A short plain name for each column, distinct."""
    made: dict[str, str] = {}
    for source in sources:
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", source)
        name = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")[:50] or "column"
        name = name if name[0].isalpha() else f"c_{name}"
        while name in made.values() or name == "target":
            name += "_2"
        made[source] = name
    return made


def _target(table: pd.DataFrame) -> str:
    binary = [str(c) for c in table.columns if table[c].dropna().nunique() == 2]
    named = [c for c in binary if _TARGET.search(c)]
    if named or binary:
        return (named or binary[-1:])[0]
    raise ValueError("no column has exactly two values; name the target with --target (it must be binary)")


def _event_id(table: pd.DataFrame, columns: tuple[Guess, ...]) -> str:
    unique = [c for c in columns if c.type not in ("datetime", "float") and table[c.source].is_unique and not c.missing]
    named = [c for c in unique if _ID.search(c.source)]
    if named or unique:
        return (named or unique)[0].name
    raise ValueError("no column names each row: add one with a distinct id in every row")


def _positive(values: pd.Series[Any]) -> str:
    counts = values.value_counts()
    known = [str(v) for v in counts.index if str(v).lower() in _POSITIVE]
    return known[0] if known else str(counts.index[-1])


def _times(values: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(values, format="ISO8601", errors="coerce", utc=True)


def _column(values: pd.Series[Any], source: str, name: str) -> Guess:
    given = values.dropna()
    missing, distinct = float(values.isna().mean()), given.nunique()
    told = f"{distinct} distinct" + (f", {missing:.1%} missing" if missing else "")
    numbers = pd.to_numeric(given, errors="coerce")
    if distinct <= 1:
        return Guess(source, name, "ignored", told, missing)
    if numbers.notna().all():
        whole = bool((numbers % 1 == 0).all())
        if set(given) <= {"0", "1"}:
            return Guess(source, name, "boolean", told, missing)
        return Guess(
            source, name, "integer" if whole else "float", f"{numbers.min():g} to {numbers.max():g}, {told}", missing
        )
    if given.str.match(r"\d{4}-\d\d-\d\d").all() and _times(given).notna().all():
        return Guess(source, name, "datetime", f"{given.min()} to {given.max()}", missing)
    if distinct <= _FEW:
        return Guess(source, name, "category", told, missing)
    kind = "identifier" if given.str.len().max() <= 64 and not given.str.contains(" ").any() else "ignored"
    return Guess(source, name, kind, told, missing)
