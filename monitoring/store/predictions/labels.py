"""Labels as statements: who said what about which event, and since when it was known.

Nothing is overwritten. What counts at a time ``as_of`` is worked out when it is read: statements
observed later are not there yet, the strongest source wins, and where that source says both 0 and 1
the event is in conflict and counts for neither. A source that the policy does not rank is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Select, distinct, func, select

from monitoring.core.calendar import TimeWindow
from monitoring.errors import RowRefused
from monitoring.policies import LabelPolicy
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, fetch, from_us, texts, times, to_us
from monitoring.store.database.records import LabelRecord, LabelResult, StoredLabel
from monitoring.store.database.tables import event_ids, labels

if TYPE_CHECKING:
    import pandas as pd

_FIELDS: Final = LabelRecord.__struct_fields__
_COLUMNS: Final = (*_FIELDS, "stored_at")
_ROW: Final = attrgetter(*_FIELDS)
_STORED_LABEL: Final = [labels.c[name] for name in StoredLabel.__struct_fields__]
_LABEL_LOCK: Final = 4_823_002
_IN_LIST: Final = 1_000
FRAME_COLUMNS: Final = ("event_id", "y", "observed_at", "source")


class Labels:
    """Reads and writes of the labels. ``as_of`` is business time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[LabelRecord], policy: LabelPolicy) -> LabelResult:
        """Store statements; one that is known word for word changes nothing.

        Raises:
            RowRefused: a source is not ranked, or ``y`` is not 0 or 1; nothing was stored.
            StoreUnavailable: nothing was stored; try again.
        """
        with self._database.write() as connection:
            return insert_labels(self._database, connection, records, policy)

    def known(
        self, usecase: str, as_of: datetime, policy: LabelPolicy, window: TimeWindow | None = None
    ) -> pd.DataFrame:
        """The labels frame (event_id, y, observed_at, source) as known at ``as_of``, without conflicts.

        With a window only labels of logged events in that span of event time, which is much faster.
        """
        found = self.resolved_labels(usecase, as_of, policy, window)
        return found.loc[~found["conflict"], list(FRAME_COLUMNS)].reset_index(drop=True)

    def conflicts(self, usecase: str, as_of: datetime, policy: LabelPolicy) -> pd.DataFrame:
        """Events whose strongest source says both things: event_id, source, observed_at (of the first)."""
        found = self.resolved_labels(usecase, as_of, policy, None)
        return found.loc[found["conflict"], ["event_id", "source", "observed_at"]].reset_index(drop=True)

    def resolved_labels(
        self, usecase: str, as_of: datetime, policy: LabelPolicy, window: TimeWindow | None = None
    ) -> pd.DataFrame:
        """What counts of each event at ``as_of``, conflicts included: event_id, y, observed_at, source, conflict."""
        bounds = None if window is None else (to_us(window.start), to_us(window.end))
        with self._database.read() as connection:
            return labels_at(connection, usecase, to_us(as_of), policy, bounds)

    def history(self, usecase: str, as_of: datetime | None = None) -> pd.DataFrame:
        """Every statement as a labels frame in the order of ``observed_at``: what features are built from."""
        c = labels.c
        query = select(c.event_id, c.y, c.observed_at, c.source).where(c.usecase == usecase)
        if as_of is not None:
            query = query.where(c.observed_at <= to_us(as_of))
        with self._database.read() as connection:
            return _statements(fetch(connection, query.order_by(c.observed_at, c.label_id)))

    def newest(self, usecase: str, as_of: datetime) -> datetime | None:
        """When the newest statement known at ``as_of`` became known; none without any."""
        c = labels.c
        query = select(func.max(c.observed_at)).where(c.usecase == usecase, c.observed_at <= to_us(as_of))
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else from_us(int(found))

    def tail(self, usecase: str, after_id: int, limit: int = 10_000) -> tuple[list[StoredLabel], int]:
        """Statements stored after ``after_id`` in the order of storage, and the id to go on from."""
        c = labels.c
        query = select(*_STORED_LABEL).where(c.usecase == usecase, c.label_id > after_id)
        with self._database.read() as connection:
            rows = fetch(connection, query.order_by(c.label_id).limit(limit))
        return [StoredLabel(*row) for row in rows], rows[-1][0] if rows else after_id

    def before_latest(self, usecase: str, count: int) -> int:
        """The id after which the ``count`` latest statements are stored; 0 where there are no more than that."""
        c = labels.c
        query = select(c.label_id).where(c.usecase == usecase).order_by(c.label_id.desc()).offset(count).limit(1)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    def of_events(self, usecase: str, event_ids: Sequence[str]) -> list[StoredLabel]:
        """All statements about these events."""
        c = labels.c
        found: list[StoredLabel] = []
        with self._database.read() as connection:
            for part in _chunks(event_ids):
                query = select(*_STORED_LABEL).where(c.usecase == usecase, c.event_id.in_(part)).order_by(c.label_id)
                found += [StoredLabel(*row) for row in fetch(connection, query)]
        return found

    def parked(self, usecase: str) -> int:
        """Statements about events that the log does not hold; they count once the event arrives."""
        c, p = labels.c, event_ids(self._database.is_sqlite).c
        event = select(p.event_id).where(p.usecase == c.usecase, p.event_id == c.event_id).exists()
        query = select(func.count()).select_from(labels).where(c.usecase == usecase, ~event)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def insert_labels(
    database: Database, connection: Connection, records: Sequence[LabelRecord], policy: LabelPolicy
) -> LabelResult:
    """Insert within a transaction of the caller."""
    for record in records:
        if record.source not in policy.sources:
            raise RowRefused(f"a label's source is not ranked; allowed: {', '.join(policy.sources)}")
    database.lock(connection, _LABEL_LOCK)
    now = database.now(connection)
    stored_count = database.insert_new(connection, labels, _COLUMNS, [(*_ROW(record), now) for record in records])
    return LabelResult(
        stored=stored_count,
        duplicates=len(records) - stored_count,
        conflicts=_count_conflicts(connection, records),
        parked=_count_parked(connection, records),
    )


def labels_at(
    connection: Connection, usecase: str, as_of: int, policy: LabelPolicy, bounds: tuple[int, int] | None
) -> pd.DataFrame:
    """What counts at ``as_of``: event_id, y, observed_at, source, conflict; one row an event.

    ``bounds`` keeps only labels of logged events with start <= event time < end (microseconds).
    """
    c = labels.c
    query: Select[Any] = select(c.event_id, c.y, c.observed_at, c.source)
    if bounds is not None:
        events = event_ids(connection.dialect.name == "sqlite")
        p = events.c
        query = query.join(events, (p.usecase == c.usecase) & (p.event_id == c.event_id))
        query = query.where(p.event_time >= bounds[0], p.event_time < bounds[1])
    query = query.where(c.usecase == usecase, c.observed_at <= as_of, c.source.in_(policy.sources))
    return resolve_labels(_statements(fetch(connection, query)), policy)


def resolve_labels(statements: pd.DataFrame, policy: LabelPolicy) -> pd.DataFrame:
    """One row an event: the strongest source's word, since when it said so, and whether it says both.

    Args:
        statements: a labels frame; an event may recur. All sources must be ranked.
        policy: ranks of sources.

    Returns:
        event_id, y, observed_at, source, conflict (bool); in the order of first appearance.
    """
    import numpy as np
    import pandas as pd

    codes, events = pd.factorize(statements["event_id"])
    rank = statements["source"].map(policy.sources.index).to_numpy(dtype=np.int64)
    strongest = np.full(len(events), len(policy.sources))
    np.minimum.at(strongest, codes, rank)
    is_strongest = rank == strongest[codes]
    codes, y = codes[is_strongest], statements["y"].to_numpy()[is_strongest]
    observed_us = statements["observed_at"].to_numpy(dtype="datetime64[us]").view(np.int64)[is_strongest]
    first_observed_us = np.full(len(events), np.iinfo(np.int64).max)
    np.minimum.at(first_observed_us, codes, observed_us)
    says_one = np.bincount(codes, weights=y == 1, minlength=len(events)) > 0
    says_zero = np.bincount(codes, weights=y == 0, minlength=len(events)) > 0
    return pd.DataFrame(
        {
            "event_id": texts(events),
            "y": says_one.astype(np.int8),
            "observed_at": times(first_observed_us.tolist()),
            "source": texts([policy.sources[r] for r in strongest]),
            "conflict": says_one & says_zero,
        }
    )


def _statements(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    ids, y, observed_at, source = columns_of(rows, 4)
    data = {"event_id": texts(ids), "y": np.array(y, dtype=np.int8), "observed_at": times(observed_at)}
    return pd.DataFrame(data | {"source": texts(source)})


def _count_conflicts(connection: Connection, records: Sequence[LabelRecord]) -> int:
    c = labels.c
    conflicting_ids: set[str] = set()
    for usecase in {r.usecase for r in records}:
        for ids in _chunks([r.event_id for r in records if r.usecase == usecase]):
            query = select(c.event_id).where(c.usecase == usecase, c.event_id.in_(ids))
            query = query.group_by(c.event_id, c.source).having(func.count(distinct(c.y)) > 1)
            conflicting_ids |= {row[0] for row in fetch(connection, query)}
    return len(conflicting_ids)


def _count_parked(connection: Connection, records: Sequence[LabelRecord]) -> int:
    p = event_ids(connection.dialect.name == "sqlite").c
    parked = 0
    for usecase in {r.usecase for r in records}:
        for ids in _chunks([r.event_id for r in records if r.usecase == usecase]):
            query = select(func.count()).where(p.usecase == usecase, p.event_id.in_(ids))
            parked += len(ids) - int(connection.execute(query).scalar_one())
    return parked


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(dict.fromkeys(values))
    while chunk := list(islice(remaining, _IN_LIST)):
        yield chunk
