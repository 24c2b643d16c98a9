"""Data versions: what a snapshot holds, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.schema.column_types import NUMBER_TYPES
from bentos.usecase.definition import UseCase
from flows.errors import SnapshotError, SnapshotMissing
from flows.snapshots.format import column_digests
from flows.snapshots.store import Snapshot, SnapshotRef, SnapshotStore
from flows.sources.base import ABSENT, SourceRead
from flows.sources.labels import as_table
from monitoring.drift.feature_drift import DriftReport, compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy

FEWEST_DIGITS = 6


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a snapshot: pandas type, share of missing values, distinct values, SHA-256."""

    name: str
    type: str
    missing_share: float
    distinct: int
    digest: str


@dataclass(frozen=True)
class LabelChanges:
    """Labels of the events that both snapshots hold."""

    gained: int
    lost: int
    changed: int


@dataclass(frozen=True)
class SnapshotDiff:
    """How a second snapshot differs from a first.

    Attributes:
        first, second: digests.
        added_columns, removed_columns: names.
        retyped_columns: in both, of another type.
        added, removed: events that only the second, or only the first, holds.
        common: events of both.
        changed: common events of which any shared column differs.
        changed_columns: shared column to how many common events differ in it, zeros left out.
        labels: what became of the labels of the common events.
        positive_rate: positives among the labelled events of the first and of the second; none
            without labels.
        drift: the second against the first as reference; raw columns, not features.
    """

    first: str
    second: str
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    retyped_columns: tuple[str, ...]
    added: int
    removed: int
    common: int
    changed: int
    changed_columns: dict[str, int]
    labels: LabelChanges
    positive_rate: tuple[float | None, float | None]
    drift: DriftReport | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``drift`` as a drift report, or none where no column can be compared."""
        drift = None if self.drift is None else self.drift.to_json()
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "labels": asdict(self.labels),
            "drift": drift,
        }


def find_snapshot(stores: Sequence[SnapshotStore], prefix: str) -> tuple[SnapshotStore, SnapshotRef]:
    """The one snapshot whose digest starts so.

    Raises:
        SnapshotError: the prefix is short or names several.
        SnapshotMissing: it names none.
    """
    if len(prefix) < FEWEST_DIGITS:
        raise SnapshotError(f"{prefix!r} is short; give at least {FEWEST_DIGITS} digits of a digest, see: data list")
    matches = {ref.digest: (store, ref) for store in stores for ref in store.find(prefix)}
    if not matches:
        raise SnapshotMissing(f"no snapshot starts with {prefix!r}; see: data list")
    if len(matches) > 1:
        raise SnapshotError(f"{prefix!r} names {len(matches)} snapshots; give more digits")
    return next(iter(matches.values()))


def columns_of(events: pd.DataFrame) -> tuple[ColumnFacts, ...]:
    """What each column of an events frame holds; no value of it is shown."""
    digests = column_digests(events)
    return tuple(
        ColumnFacts(
            str(name), str(events[name].dtype), float(events[name].isna().mean()) if len(events) else 0.0,
            int(events[name].nunique()), digests[str(name)],
        )
        for name in events
    )  # fmt: skip


def compare(first: Snapshot, second: Snapshot, usecase: UseCase) -> SnapshotDiff:
    """Compare by event id; missing equals missing, and the order of columns and rows is no difference."""
    a, b = (s.events.set_index(usecase.event_id, drop=False) for s in (first, second))
    shared = [c for c in a if c in b]
    common = a.index.intersection(b.index, sort=False)
    unequal = _unequal(a.loc[common, shared], b.loc[common, shared])
    counts = {str(c): int(flags.sum()) for c, flags in unequal.items() if flags.any()}
    changed_rows = np.any(list(unequal.values()), axis=0) if unequal else np.zeros(len(common), bool)
    return SnapshotDiff(
        first=first.ref.digest,
        second=second.ref.digest,
        added_columns=tuple(str(c) for c in b if c not in a),
        removed_columns=tuple(str(c) for c in a if c not in b),
        retyped_columns=tuple(str(c) for c in shared if a[c].dtype != b[c].dtype),
        added=len(b) - len(common),
        removed=len(a) - len(common),
        common=len(common),
        changed=int(changed_rows.sum()),
        changed_columns=counts,
        labels=_label_changes(first.labels, second.labels, common),
        positive_rate=(_rate(first.labels), _rate(second.labels)),
        drift=drift_between(first.events, second.events, usecase, usecase.drift),
    )


def drift_between(
    first: pd.DataFrame, second: pd.DataFrame, usecase: UseCase, policy: DriftPolicy
) -> DriftReport | None:
    """The second frame against the first: numbers, booleans and categories that both hold.

    Identifiers and times are left out: they drift by their nature. None where nothing is left.
    """
    types: dict[str, str] = {column.name: column.type for column in usecase.columns}
    names = [str(c) for c in first if c in second and types.get(str(c)) in (*NUMBER_TYPES, "boolean", "category")]
    if not names or first.empty or second.empty:
        return None
    a, b = (_plain(frame[names], types) for frame in (first, second))
    return compare_profile(ReferenceProfile.fit(a, None, policy), b, policy)


def write_table(snapshot: Snapshot, usecase: UseCase, out: Path) -> int:
    """Write events and labels as one table that every file source reads, ``.parquet`` or ``.csv``; says the rows.

    A label that nobody gave (the absence counted as negative) is left empty, so that reading the table
    again decides it by the policy, as the first reading did.

    Raises:
        SnapshotError: another ending, or the disk refuses the file.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise SnapshotError(f"{out}: write a .parquet or a .csv file")
    labels = snapshot.labels[snapshot.labels["source"] != ABSENT].reset_index(drop=True)
    ref = snapshot.ref
    frame = as_table(SourceRead(snapshot.events, labels, pd.DataFrame(), ref.window, ref.source, ref.as_of), usecase)
    partial = out.with_name(f".{out.name}.partial{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(partial, index=False) if out.suffix == ".csv" else frame.to_parquet(partial, index=False)
        partial.replace(out)
    except OSError as exc:
        raise SnapshotError(f"{out}: cannot be written ({exc.strerror})") from exc
    finally:
        partial.unlink(missing_ok=True)
    return len(frame)


def _unequal(a: pd.DataFrame, b: pd.DataFrame) -> dict[Any, np.ndarray[Any, np.dtype[np.bool_]]]:
    flags = {}
    for name in a:
        x, y = a[name], b[name]
        if x.dtype != y.dtype:
            x, y = x.astype(object), y.astype(object)
        both_missing = x.isna().to_numpy() & y.isna().to_numpy()
        flags[name] = (x.to_numpy() != y.to_numpy()) & ~both_missing
    return flags


def _label_changes(first: pd.DataFrame, second: pd.DataFrame, common: pd.Index[Any]) -> LabelChanges:
    before = first.set_index("event_id")["y"].reindex(common)
    after = second.set_index("event_id")["y"].reindex(common)
    had, has = before.notna(), after.notna()
    return LabelChanges(int((~had & has).sum()), int((had & ~has).sum()), int((had & has & (before != after)).sum()))


def _rate(labels: pd.DataFrame) -> float | None:
    return float((labels["y"] == 1).mean()) if len(labels) else None


def _plain(frame: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    """Numbers and booleans as float32, categories as text."""
    texts = {c: frame[c] for c in frame if types[str(c)] == "category"}
    numbers = {c: frame[c].astype(np.float32) for c in frame if c not in texts}
    return pd.DataFrame(numbers | texts, index=frame.index)
