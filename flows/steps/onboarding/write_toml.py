"""A first use case as a file to be read: one line a column, and a comment wherever something was guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from flows.sources.foreign_table import MADE_ID, converted, told
from flows.steps.onboarding.profile_table import TELLS_ALL, FirstFile, Guess

_FEATURES = ("float", "integer", "boolean", "category")
_COLUMN, _WIDTH = 41, 90


def write_toml(name: str, found: FirstFile, kind: str, file: str, original: str = "") -> str:
    """The text of the use-case file.

    Args:
        name: of the use case.
        found: what the table suggests.
        kind: ``csv`` or ``parquet``.
        file: the table that is read from now on.
        original: the table that was looked at, where ``file`` is a copy of it.
    """
    about = f"# First use case from {_plain(original or file)}: {found.rows:,} rows, {_outcomes(found)}."
    mark = "# Lines marked 'guess' were guessed from the data. Look at each, and take the mark away."
    described = f'description = "{name}: say here what is decided, and for whom."'
    lines = [about, mark, "", f"name = {_q(name)}", described, *_identity(found), "", "columns = ["]
    used = [c for c in found.columns if c.type != "ignored"]
    made = (f'  {{name = "{MADE_ID}", type = "identifier"}},', "the table has no id; the copy counts its rows")
    entries = [made] if found.made_id else []
    entries += [(f"  {{{', '.join(_column(c, found))}}},", _plain(c.detail)) for c in used]
    lines += _aligned(entries)
    lines += ["]", *_left_out(found), "", *_features(found, used), "", *_label(found), ""]
    lines += ["[source]", f"kind = {_q(kind)}", f"path = {_q(file)}", *_changes(found, original), "", *_policies(found)]
    return "\n".join(lines).rstrip("\n") + "\n"


def sample_event(found: FirstFile, table: pd.DataFrame) -> dict[str, Any]:
    """The body of a request: the fullest of the first rows, in the names and types of the use case."""
    sources = [c.source for c in found.columns if c.type != "ignored"]
    row = table.loc[table[sources].head(100).notna().sum(axis=1).idxmax()] if sources else table.iloc[0]
    body = {MADE_ID: "r-00000001"} if found.made_id else {}
    return body | {c.name: _value(row[c.source], c) for c in found.columns if c.type != "ignored"}


def _value(text: Any, column: Guess) -> Any:
    if text is None or pd.isna(text):
        return None
    made = converted(pd.Series([text], dtype=object), column.reading).iloc[0]
    if column.type == "datetime":
        return made.isoformat() if made.tzinfo else f"{made.isoformat()}Z"
    if column.type in ("float", "integer", "boolean"):
        number = float(made)
        return bool(number) if column.type == "boolean" else int(number) if column.type == "integer" else number
    return str(text)


def _outcomes(found: FirstFile) -> str:
    return f"{found.share:.1%} positive" if found.kind == "binary" else f"a {found.kind} target"


def _identity(found: FirstFile) -> list[str]:
    made = "made for the copy; a request needs an id of your own" if found.made_id else "guess: it never repeats"
    lines = [_line(f"event_id = {_q(found.event_id)}", made)]
    if found.timed:
        lines.append(_line(f"event_time = {_q(found.event_time or '')}", f"guess: spans {found.days:,.0f} days"))
        return [*lines, _line('timezone = "UTC"', "guess: of times without an offset, and where a day begins")]
    why = (
        "no column is a time in every row"
        if found.event_time is None
        else f"{found.event_time} spans {found.days:.0f} days only"
    )
    return [*lines, _line('time = "none"', f"guess: {why}; models are judged by cross-validation")]


def _column(column: Guess, found: FirstFile) -> list[str]:
    parts = [f"name = {_q(column.name)}"]
    parts += [f"source_name = {_q(column.source)}"] if column.source != column.name else []
    parts.append(f"type = {_q(column.type)}")
    return parts + (["nullable = true"] if column.missing and column.name != found.event_id else [])


def _left_out(found: FirstFile) -> list[str]:
    ignored = [c for c in found.columns if c.type == "ignored"]
    return ["# Not used:", *(f"#   {_plain(c.source)}: {_plain(c.detail)}" for c in ignored)] if ignored else []


def _features(found: FirstFile, used: Sequence[Guess]) -> list[str]:
    lines = [_line("features = [", "what the model sees; remove what is known only afterwards")]
    for c in used:
        if c.type in _FEATURES:
            line = f'{{name = {_q(c.name)}, kind = "column", column = {_q(c.name)}}},'
            why = f"guess: left out, it tells the target almost perfectly (AUC {c.tells:.3f})" if c.suspect else ""
            lines.append(_line(f"  # {line}" if c.suspect else f"  {line}", why))
    entity = next((c for c in used if c.type == "identifier" and c.name != found.event_id), None)
    if found.timed and entity is not None:
        keys = f'name = "{entity.name}_count_7d", kind = "window", entity = "{entity.name}", agg = "count", over = "7d"'
        lines += ["  # A window looks at earlier events of the same entity, for example:", f"  # {{{keys}}},"]
    return [*lines, "]"]


def _label(found: FirstFile) -> list[str]:
    choice = f"guess; also two values: {', '.join(map(_plain, found.others[:8]))}" if found.others else "guess"
    lines = ["[label]", 'column = "target"', _line(f"source_name = {_q(found.target)}", choice)]
    counts = ", ".join(f"{_plain(value)} {n:,}" for value, n in found.values[:6])
    if found.kind != "binary":
        why = f"{counts}{', ...' if len(found.values) > 6 else ''}: only a binary target can be trained"
        lines.append(_line(f"kind = {_q(found.kind)}", why))
    elif found.positive is not None:
        lines.append(
            _line(f"positive = {_q(found.positive)}", f"guess: what the score is the probability of; {counts}")
        )
    else:
        lines.append(f"# 1 is positive ({counts})." + _turned(found))
    if found.unlabelled:
        lines.append(f"# {found.unlabelled:,} rows have no target and are not trained on.")
    return [*lines, _line('matures_after = "30d"', "guess: how long until the outcome of an event is known")]


def _turned(found: FirstFile) -> str:
    return ' guess: if 0 is what you look for, write positive = "0".' if found.share > 0.5 else ""


def _changes(found: FirstFile, original: str) -> list[str]:
    """What the copy has that the table had not."""
    if not original:
        return []
    lines = [f"# A copy of {_plain(original)}, which could not be read as it is. In the copy:"]
    lines += [f"#   {_plain(c.source)}: {words}" for c in found.columns if (words := told(c.reading))]
    lines += [f"#   {MADE_ID} counts the rows, because no column names each row"] if found.made_id else []
    return [*lines, "# Later files need the same before they can be read."]


def _policies(found: FirstFile) -> list[str]:
    # At this price an event is flagged once it is likelier to be positive than the average one.
    price = max(1, min(100, round((1.0 - found.share) / max(found.share, 0.001))))
    lines = ["[cost]", _line(f"false_negative = {price}", "guess: a missed positive costs so many false alarms")]
    lines += [
        "false_positive = 1",
        "",
        "[gates]                                   # what a model must reach to get into office",
    ]
    chance = float(f"{min(0.9, max(found.share, 0.0001)):.2g}")
    lines += [_line(f"min_average_precision = {chance}", "guess: what chance would reach; raise it")]
    lines += [_line("min_recall = 0.3", "guess"), _line("max_calibration_error = 0.1", "guess")]
    lines += [_line(f"min_matured_rows = {min(1000, max(1, found.rows // 4))}", "guess: fewer rows judge nobody")]
    lines += [_line("min_baseline_gain = -0.05", "guess: may be a little worse than logistic regression"), ""]
    lines += ["[retrain]", _line('cooldown = "30d"', "guess: at most one retraining in this time"), ""]
    if found.timed:
        fold = max(2, int((found.days - 60) * 0.2))
        lines += [
            "[split]                                   # guess: folds that fit into the table, in the order of time"
        ]
        lines += [f'train = "{2 * fold}d"', f'calibration = "{fold}d"', f'test = "{fold}d"', ""]
    return lines


def suspects(found: FirstFile) -> str:
    """A sentence on columns that tell too much; empty without any."""
    names = [c.source for c in found.columns if c.suspect]
    if not names:
        return ""
    return (
        f"left out, because alone they tell the target (AUC of {TELLS_ALL} and more): {', '.join(map(_plain, names))}"
    )


def _line(text: str, comment: str) -> str:
    return f"{text.ljust(_COLUMN)} # {comment}" if comment else text


def _aligned(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Lines whose comments stand below each other; a very long line does not push all others out."""
    width = max((len(text) for text, _ in entries if len(text) <= _WIDTH), default=0)
    return [f"{text.ljust(width)}  # {comment}" for text, comment in entries]


def _plain(text: str) -> str:
    """A text that stays on its line."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _q(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
