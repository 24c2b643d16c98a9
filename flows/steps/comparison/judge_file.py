"""A verdict on any table of event id, time, two scores, label and label time: no server, no registry, no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.promotion.comparison_plans import amount_of, draft_plan, segments_of
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.steps.comparison.file_decisions import optional_roles, read_actions, read_flags, weigh_rows
from flows.steps.comparison.file_values import parse_labels, parse_numbers, parse_times, separator_hint
from monitoring.comparison.judge import JudgedPlan, judge_plan
from monitoring.comparison.plan import ComparisonPlan
from monitoring.core.durations import format_duration

DEFAULTS: dict[str, tuple[str, ...]] = {
    "event_id": ("event_id", "id"),
    "event_time": ("event_time", "time", "timestamp"),
    "champion_score": ("champion_score", "score_a", "champion"),
    "challenger_score": ("challenger_score", "score_b", "challenger"),
    "label": ("label", "y"),
    "label_time": ("label_time", "observed_at", "labelled_at"),
}
"""Column names that are looked for after the use case's own, in this order."""


@dataclass(frozen=True)
class FileRows:
    """What a file held.

    Attributes:
        rows: matured rows in the form of :func:`monitoring.comparison.paired.compare_paired`.
        columns: role to the column that plays it.
        as_of: business time of the verdict.
        counts: rows read, immature, unscored, without a label, judged.
        thresholds: of champion and challenger; none where the file holds decisions.
        notes: what a reader must know.
    """

    rows: pd.DataFrame
    columns: dict[str, str]
    as_of: datetime
    counts: dict[str, int]
    thresholds: tuple[float, float] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgeOptions:
    """What the caller said about the file; none leaves it to the defaults.

    Attributes:
        columns: role to column name, for the roles of :data:`DEFAULTS` and
            :mod:`flows.steps.comparison.file_decisions`.
        thresholds: of champion and challenger.
        alert_rate: share of matured events to flag, where no thresholds are given.
        as_of: business time; none takes the latest time in the file.
    """

    columns: dict[str, str] = field(default_factory=dict)
    thresholds: tuple[float | None, float | None] = (None, None)
    alert_rate: float | None = None
    as_of: datetime | None = None


def judge_file(usecase: UseCase, file: Path, options: JudgeOptions) -> tuple[JudgedPlan, FileRows, ComparisonPlan]:
    """Read, pair, judge.

    Raises:
        FlowRefused: the file cannot be read or lacks something; the message says what to do.
    """
    file_rows = read_pairs(usecase, file, options)
    if file_rows.rows.empty:
        raise FlowRefused(
            f"no row of {file} has matured by {file_rows.as_of:%Y-%m-%d %H:%M} UTC: labels need "
            f"{format_duration(usecase.label.matures_after)}, and all of its rows that could be judged are younger "
            f"({file_rows.counts['immature']} of {file_rows.counts['rows']}); see --as-of"
        )
    plan = file_plan(usecase, file_rows)
    return judge_rows(file_rows, plan), file_rows, plan


def judge_rows(file_rows: FileRows, plan: ComparisonPlan) -> JudgedPlan:
    """Judge rows that were read."""
    return judge_plan(plan, file_rows.rows, (), as_of=file_rows.as_of)


def read_pairs(usecase: UseCase, file: Path, options: JudgeOptions) -> FileRows:
    """The matured rows of a file, with both decisions and the label as known at ``as_of``."""
    table, column_by_role, extra = read_table(usecase, file, options)
    if table.empty:
        raise FlowRefused(f"{file} holds no rows, only column names; nothing can be judged")
    frame = _frame(usecase, table, column_by_role, extra, file)
    as_of = options.as_of or _latest(frame)
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    matured = frame[(frame["event_time"] < end).to_numpy()]
    unscored = matured["score_a"].isna() | matured["score_b"].isna()
    rows, has_label = _add_labels(matured[~unscored.to_numpy()], as_of)
    unknown = int((~has_label).sum())
    blocks = usecase.intervention.blocks_flagged
    if usecase.label.absent_after_maturity == "unknown" and not blocks:
        rows = rows[has_label]
    thresholds, notes = (None, ()) if "flag_a" in rows else _thresholds(usecase, rows, options)
    if thresholds is not None:
        rows = rows.assign(flag_a=rows["score_a"] >= thresholds[0], flag_b=rows["score_b"] >= thresholds[1])
    if blocks:
        rows, weight_notes = weigh_rows(usecase, rows, has_label)
        notes = (*notes, *weight_notes)
    rows = rows.assign(day=usecase.calendar.days_of(rows["event_time"])).reset_index(drop=True)
    counts = {
        "rows": len(table), "immature": len(frame) - len(matured),
        "unscored": int(unscored.sum()), "unlabelled": unknown, "judged": len(rows),
    }  # fmt: skip
    if unscored.any():
        notes = (*notes, f"{int(unscored.sum())} matured rows lack a score of one model and are left out")
    return FileRows(rows, column_by_role, as_of, counts, thresholds, notes)


def read_table(
    usecase: UseCase, file: Path, options: JudgeOptions
) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """The columns that matter, as the file has them; which plays which role; and further ones by our name.

    Raises:
        FlowRefused: the file cannot be read or lacks a column.
    """
    names = _column_names(file)
    column_by_role = _assign_columns(usecase, names, options.columns, file)
    extra = {
        name: column
        for name in _extra_columns(usecase)
        if (column := _find_column(usecase, name, names, column_by_role)) is not None
    }
    return _read(file, [*column_by_role.values(), *extra.values()], column_by_role), column_by_role, extra


def _find_column(usecase: UseCase, name: str, names: Sequence[str], column_by_role: dict[str, str]) -> str | None:
    """How the file calls a declared column, by our name or by that of its source; none where it plays a role."""
    candidates = (name, usecase.column(name).external_name)
    return next(
        (candidate for candidate in candidates if candidate in names and candidate not in column_by_role.values()), None
    )


def _column_names(file: Path) -> list[str]:
    import pyarrow as pa

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            return list(pq.read_schema(file).names)
        import pyarrow.csv as pc

        with pc.open_csv(file) as reader:
            return list(reader.schema.names)
    except FileNotFoundError as exc:
        raise FlowRefused(f"{file}: no such file") from exc
    except (pa.ArrowInvalid, OSError) as exc:
        raise FlowRefused(f"{file} is neither readable CSV nor Parquet: {str(exc).splitlines()[0]}") from exc


def _assign_columns(usecase: UseCase, names: Sequence[str], overrides: dict[str, str], file: Path) -> dict[str, str]:
    """Which column plays which role; label time may be missing."""
    label = usecase.label
    own_names = {
        "event_id": (usecase.event_id, usecase.column(usecase.event_id).external_name),
        "event_time": (usecase.event_time, usecase.column(usecase.event_time).external_name),
        "label": (label.column, *((label.source_name,) if label.source_name else ())),
        "label_time": (label.observed_at,) if label.observed_at else (),
    }
    column_by_role: dict[str, str] = {}
    for role, default_names in (DEFAULTS | optional_roles(usecase)).items():
        candidates = (overrides[role],) if role in overrides else (*own_names.get(role, ()), *default_names)
        column = next((name for name in candidates if name in names), None)
        if column is not None:
            column_by_role[role] = column
        elif role in overrides or role in DEFAULTS.keys() - {"label_time"}:
            option = f"--{role.replace('_', '-')}"
            raise FlowRefused(
                f"{file} has no column {' or '.join(dict.fromkeys(candidates))}; name it with {option} "
                f"(the file has: {', '.join(names)})" + separator_hint(names)
            )
    return column_by_role


def _extra_columns(usecase: UseCase) -> list[str]:
    cost_column = usecase.cost.false_negative
    names = [cost_column if isinstance(cost_column, str) else None, usecase.evaluation.entity, amount_of(usecase)]
    return list(dict.fromkeys(name for name in (*names, *segments_of(usecase)) if name is not None))


def _read(file: Path, columns: list[str], column_by_role: dict[str, str]) -> pd.DataFrame:
    import pyarrow as pa

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            table = pq.read_table(file, columns=columns)
        else:
            import pyarrow.csv as pc

            # An id such as 007 is text, whatever it looks like.
            options = pc.ConvertOptions(include_columns=columns, column_types={column_by_role["event_id"]: pa.string()})
            table = pc.read_csv(file, convert_options=options)
    except (pa.ArrowInvalid, OSError) as exc:
        raise FlowRefused(f"{file} cannot be read: {str(exc).splitlines()[0]}") from exc
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _frame(
    usecase: UseCase, table: pd.DataFrame, column_by_role: dict[str, str], extra: dict[str, str], file: Path
) -> pd.DataFrame:
    """The table in our names and types.

    Raises:
        FlowRefused: a value is of another kind, a time is missing, an id repeats.
    """
    frame = pd.DataFrame(
        {
            "event_id": table[column_by_role["event_id"]].astype(object),
            "event_time": parse_times(usecase, table[column_by_role["event_time"]], column_by_role["event_time"], file),
            "score_a": parse_numbers(table[column_by_role["champion_score"]], column_by_role["champion_score"], file),
            "score_b": parse_numbers(
                table[column_by_role["challenger_score"]], column_by_role["challenger_score"], file
            ),
            "label": parse_labels(table[column_by_role["label"]], column_by_role["label"], file),
        }
    )
    if frame["event_time"].isna().any():
        raise FlowRefused(f"{int(frame['event_time'].isna().sum())} rows of {file} have no event time")
    if "label_time" in column_by_role:
        frame["observed_at"] = parse_times(
            usecase, table[column_by_role["label_time"]], column_by_role["label_time"], file
        )
    else:
        default_time = frame["event_time"] + usecase.label.matures_after
        frame["observed_at"] = default_time.where(frame["label"].notna())
    decisions = (read_flags(table, column_by_role, file) or {}) | read_actions(table, column_by_role, file)
    frame = frame.assign(**decisions)
    amounts = {amount_of(usecase), usecase.cost.false_negative}
    for name, column in extra.items():
        frame[name] = parse_numbers(table[column], column, file) if name in amounts else table[column].to_numpy()
    repeat_count = int(frame["event_id"].duplicated().sum())
    if repeat_count:
        raise FlowRefused(f"{repeat_count} rows of {file} repeat an event id; keep one row for each event")
    return frame


def _latest(frame: pd.DataFrame) -> datetime:
    """The latest time in the file: nothing later can be known from it."""
    last = max(frame["event_time"].max(), frame["observed_at"].max()) if frame["observed_at"].notna().any() else None
    latest: datetime = (frame["event_time"].max() if last is None else last).to_pydatetime()
    return latest


def _add_labels(rows: pd.DataFrame, as_of: datetime) -> tuple[pd.DataFrame, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Rows with their label as known at ``as_of``, 0 where there is none, and whether there is one."""
    has_label = rows["label"].notna() & ~(rows["observed_at"] > as_of)
    y = rows["label"].where(has_label, 0.0).fillna(0.0).to_numpy().astype(np.int8)
    return rows.assign(y=y, observed_at=rows["observed_at"].where(has_label)), has_label.to_numpy()


def _thresholds(
    usecase: UseCase, rows: pd.DataFrame, options: JudgeOptions
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Those that were given, else the scores that flag the wanted share of the matured rows."""
    first, second = options.thresholds
    if first is not None and second is not None:
        return (first, second), ()
    if options.alert_rate is None and usecase.capacity.alerts_per_day is None:
        raise FlowRefused(
            "which scores are flagged? Give --champion-threshold and --challenger-threshold, or --alert-rate; "
            "the use case declares no capacity"
        )
    days = max(1, int(usecase.calendar.days_of(rows["event_time"]).nunique()))
    budget = usecase.capacity.alerts_per_day or 0
    rate = options.alert_rate if options.alert_rate is not None else min(1.0, budget * days / max(1, len(rows)))
    capacity_thresholds = [_capacity_threshold(rows[f"score_{side}"].to_numpy(), rate) for side in "ab"]
    thresholds = (
        first if first is not None else capacity_thresholds[0],
        second if second is not None else capacity_thresholds[1],
    )
    note = f"thresholds were read from these scores, so that {rate:.3%} are flagged: they were not promoted beforehand"
    return thresholds, (note, *_tie_notes(rows, thresholds, rate, options))


def _tie_notes(rows: pd.DataFrame, thresholds: tuple[float, float], rate: float, options: JudgeOptions) -> list[str]:
    """Where equal scores leave a model with far fewer flags than the share: it is judged by that."""
    notes = []
    for name, side, threshold, option in zip(
        ("champion", "challenger"), "ab", thresholds, options.thresholds, strict=True
    ):
        flagged = float((rows[f"score_{side}"] >= threshold).mean()) if len(rows) else 0.0
        if option is None and len(rows) * rate >= 1.0 and flagged < rate / 2.0:
            notes.append(
                f"many scores of the {name} are equal, so only {flagged:.3%} are flagged: "
                f"a lower cut would flag more than {rate:.3%}"
            )
    return notes


def _capacity_threshold(score: np.ndarray[Any, Any], rate: float) -> float:
    """The lowest score that flags at most that share."""
    from monitoring.performance.thresholds import capacity_cut

    return float(capacity_cut(score, int(rate * len(score)))) if len(score) else float("inf")


def file_plan(usecase: UseCase, file_rows: FileRows) -> ComparisonPlan:
    """A plan of the use case's policies, for the columns that the file has."""
    rows, cost_column = file_rows.rows, usecase.cost.false_negative
    cap = None
    if isinstance(cost_column, str):
        if cost_column not in rows.columns:
            raise FlowRefused(f"the cost of a miss is the column {cost_column}, which the file lacks")
        cap = float(rows[cost_column].quantile(usecase.promotion.cost_cap_quantile))
    first = rows["day"].min().date()
    names = (file_rows.columns["champion_score"], file_rows.columns["challenger_score"])
    plan = draft_plan(usecase, "file", *names, first, cost_cap=cap)
    column_names = set(rows.columns)
    return replace(
        plan,
        entity=plan.entity if plan.entity in column_names else None,
        amount=plan.amount if plan.amount in column_names else None,
        segments=tuple(name for name in plan.segments if name in column_names),
    )
