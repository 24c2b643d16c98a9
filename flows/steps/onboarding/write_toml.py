"""A first use case as a file to be read: one line a column, and a comment wherever something was guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from flows.sources.foreign_table import ROW_ID, conversion_note, convert_texts
from flows.steps.onboarding.profile_table import SUSPECT_AUC, ColumnGuess, TableProfile

_FEATURES = ("float", "integer", "boolean", "category")
_COLUMN, _WIDTH = 41, 90


def write_toml(name: str, profile: TableProfile, kind: str, file: str, original: str = "") -> str:
    """The text of the use-case file.

    Args:
        name: of the use case.
        profile: what the table suggests.
        kind: ``csv`` or ``parquet``.
        file: the table that is read from now on.
        original: the table that was looked at, where ``file`` is a copy of it.
    """
    header = f"# First use case from {_plain(original or file)}: {profile.rows:,} rows, {_outcomes(profile)}."
    legend = "# Lines marked 'guess' were guessed from the data. Look at each, and take the mark away."
    description = f'description = "{name}: say here what is decided, and for whom."'
    lines = [header, legend, "", f"name = {_q(name)}", description, *_identity(profile), "", "columns = ["]
    used_columns = [c for c in profile.columns if c.type != "ignored"]
    id_entry = (f'  {{name = "{ROW_ID}", type = "identifier"}},', "the table has no id; the copy counts its rows")
    entries = [id_entry] if profile.made_id else []
    entries += [(f"  {{{', '.join(_column(c, profile))}}},", _plain(c.detail)) for c in used_columns]
    lines += _aligned(entries)
    lines += ["]", *_left_out(profile), "", *_features(profile, used_columns), "", *_label(profile), ""]
    lines += [
        "[source]",
        f"kind = {_q(kind)}",
        f"path = {_q(file)}",
        *_changes(profile, original),
        "",
        *_policies(profile),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def sample_event(profile: TableProfile, table: pd.DataFrame) -> dict[str, Any]:
    """The body of a request: the fullest of the first rows, in the names and types of the use case."""
    sources = [c.source for c in profile.columns if c.type != "ignored"]
    row = table.loc[table[sources].head(100).notna().sum(axis=1).idxmax()] if sources else table.iloc[0]
    body = {ROW_ID: "r-00000001"} if profile.made_id else {}
    return body | {c.name: _value(row[c.source], c) for c in profile.columns if c.type != "ignored"}


def _value(text: Any, column: ColumnGuess) -> Any:
    if text is None or pd.isna(text):
        return None
    value = convert_texts(pd.Series([text], dtype=object), column.reading).iloc[0]
    if column.type == "datetime":
        return value.isoformat() if value.tzinfo else f"{value.isoformat()}Z"
    if column.type in ("float", "integer", "boolean"):
        number = float(value)
        return bool(number) if column.type == "boolean" else int(number) if column.type == "integer" else number
    return str(text)


def _outcomes(profile: TableProfile) -> str:
    return f"{profile.share:.1%} positive" if profile.kind == "binary" else f"a {profile.kind} target"


def _identity(profile: TableProfile) -> list[str]:
    id_note = "made for the copy; a request needs an id of your own" if profile.made_id else "guess: it never repeats"
    lines = [_line(f"event_id = {_q(profile.event_id)}", id_note)]
    if profile.timed:
        lines.append(_line(f"event_time = {_q(profile.event_time or '')}", f"guess: spans {profile.days:,.0f} days"))
        return [*lines, _line('timezone = "UTC"', "guess: of times without an offset, and where a day begins")]
    reason = (
        "no column is a time in every row"
        if profile.event_time is None
        else f"{profile.event_time} spans {profile.days:.0f} days only"
    )
    return [*lines, _line('time = "none"', f"guess: {reason}; models are judged by cross-validation")]


def _column(column: ColumnGuess, profile: TableProfile) -> list[str]:
    parts = [f"name = {_q(column.name)}"]
    parts += [f"source_name = {_q(column.source)}"] if column.source != column.name else []
    parts.append(f"type = {_q(column.type)}")
    return parts + (["nullable = true"] if column.missing and column.name != profile.event_id else [])


def _left_out(profile: TableProfile) -> list[str]:
    ignored = [c for c in profile.columns if c.type == "ignored"]
    return ["# Not used:", *(f"#   {_plain(c.source)}: {_plain(c.detail)}" for c in ignored)] if ignored else []


def _features(profile: TableProfile, columns: Sequence[ColumnGuess]) -> list[str]:
    lines = [_line("features = [", "what the model sees; remove what is known only afterwards")]
    for c in columns:
        if c.type in _FEATURES:
            line = f'{{name = {_q(c.name)}, kind = "column", column = {_q(c.name)}}},'
            reason = f"guess: left out, it tells the target almost perfectly (AUC {c.tells:.3f})" if c.suspect else ""
            lines.append(_line(f"  # {line}" if c.suspect else f"  {line}", reason))
    entity = next((c for c in columns if c.type == "identifier" and c.name != profile.event_id), None)
    if profile.timed and entity is not None:
        keys = f'name = "{entity.name}_count_7d", kind = "window", entity = "{entity.name}", agg = "count", over = "7d"'
        lines += ["  # A window looks at earlier events of the same entity, for example:", f"  # {{{keys}}},"]
    return [*lines, "]"]


def _label(profile: TableProfile) -> list[str]:
    note = f"guess; also two values: {', '.join(map(_plain, profile.others[:8]))}" if profile.others else "guess"
    lines = ["[label]", 'column = "target"', _line(f"source_name = {_q(profile.target)}", note)]
    counts = ", ".join(f"{_plain(value)} {n:,}" for value, n in profile.values[:6])
    if profile.kind != "binary":
        reason = f"{counts}{', ...' if len(profile.values) > 6 else ''}: only a binary target can be trained"
        lines.append(_line(f"kind = {_q(profile.kind)}", reason))
    elif profile.positive is not None:
        lines.append(
            _line(f"positive = {_q(profile.positive)}", f"guess: what the score is the probability of; {counts}")
        )
    else:
        lines.append(f"# 1 is positive ({counts})." + _inversion_hint(profile))
    if profile.unlabelled:
        lines.append(f"# {profile.unlabelled:,} rows have no target and are not trained on.")
    return [*lines, _line('matures_after = "30d"', "guess: how long until the outcome of an event is known")]


def _inversion_hint(profile: TableProfile) -> str:
    return ' guess: if 0 is what you look for, write positive = "0".' if profile.share > 0.5 else ""


def _changes(profile: TableProfile, original: str) -> list[str]:
    """What the copy has that the table had not."""
    if not original:
        return []
    lines = [f"# A copy of {_plain(original)}, which could not be read as it is. In the copy:"]
    lines += [f"#   {_plain(c.source)}: {words}" for c in profile.columns if (words := conversion_note(c.reading))]
    lines += [f"#   {ROW_ID} counts the rows, because no column names each row"] if profile.made_id else []
    return [*lines, "# Later files need the same before they can be read."]


def _policies(profile: TableProfile) -> list[str]:
    # At this price an event is flagged once it is likelier to be positive than the average one.
    price = max(1, min(100, round((1.0 - profile.share) / max(profile.share, 0.001))))
    lines = ["[cost]", _line(f"false_negative = {price}", "guess: a missed positive costs so many false alarms")]
    lines += [
        "false_positive = 1",
        "",
        "[gates]                                   # what a model must reach to get into the champion's role",
    ]
    chance = float(f"{min(0.9, max(profile.share, 0.0001)):.2g}")
    lines += [_line(f"min_average_precision = {chance}", "guess: what chance would reach; raise it")]
    lines += [_line("min_recall = 0.3", "guess"), _line("max_calibration_error = 0.1", "guess")]
    lines += [_line(f"min_matured_rows = {min(1000, max(1, profile.rows // 4))}", "guess: fewer rows judge nobody")]
    lines += [_line("min_baseline_gain = -0.05", "guess: may be a little worse than logistic regression"), ""]
    lines += ["[retrain]", _line('cooldown = "30d"', "guess: at most one retraining in this time"), ""]
    if profile.timed:
        fold = max(2, int((profile.days - 60) * 0.2))
        lines += [
            "[split]                                   # guess: folds that fit into the table, in the order of time"
        ]
        lines += [f'train = "{2 * fold}d"', f'calibration = "{fold}d"', f'test = "{fold}d"', ""]
    return lines


def suspect_note(profile: TableProfile) -> str:
    """A sentence on columns that tell too much; empty without any."""
    names = [c.source for c in profile.columns if c.suspect]
    if not names:
        return ""
    return (
        f"left out, because alone they tell the target (AUC of {SUSPECT_AUC} and more): {', '.join(map(_plain, names))}"
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
