"""Reports: what a flow found, as JSON, for any day it looked at. The newest for a day counts."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import desc, insert, select

from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.errors import RowRefused
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import EPOCH, fetch, from_us, to_us
from monitoring.store.database.tables import reports

ReportKind = Literal["drift", "performance", "evaluation", "comparison", "retraining", "skew", "training"]


@dataclass(frozen=True)
class Report:
    """One finding.

    Attributes:
        usecase: name of the use case.
        kind: what was looked at.
        as_of: business time that it was looked at for.
        outcome: one word, for example ``stable``, ``severe``, ``promote``, ``pass``, ``insufficient_data``.
        payload: the whole result as JSON without NaN.
        model, challenger: labels of the versions it is about.
        html: path of the page beside it.
        run_id: the flow run that made it.
        report_id, digest, stored_at: set by the store.
    """

    usecase: str
    kind: ReportKind
    as_of: datetime
    outcome: str
    payload: Mapping[str, Any]
    model: str | None = None
    challenger: str | None = None
    html: str | None = None
    run_id: str | None = None
    report_id: int = 0
    digest: str = ""
    stored_at: datetime = field(default=EPOCH)


class Reports:
    """Reads and writes of reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, report: Report) -> Report:
        """Store a report; returns it with its id and digest.

        Raises:
            RowRefused: the payload is not JSON without NaN.
        """
        try:
            payload = canonical_json(dict(report.payload))
        except (TypeError, ValueError) as exc:
            raise RowRefused(f"a report's payload must be JSON without NaN: {exc}") from exc
        plain = ("usecase", "kind", "model", "challenger", "outcome", "html", "run_id")
        row: dict[str, Any] = {name: getattr(report, name) for name in plain}
        row |= {"as_of": to_us(report.as_of), "payload": payload.decode(), "digest": sha256_hex(payload)}
        with self._database.write() as connection:
            row["stored_at"] = self._database.now(connection)
            made = connection.execute(insert(reports).values(row).returning(reports.c.report_id)).scalar_one()
        return _report({**row, "report_id": made})

    def latest(
        self,
        usecase: str,
        kind: ReportKind,
        model: str | None = None,
        challenger: str | None = None,
        as_of: datetime | None = None,
    ) -> Report | None:
        """The report with the greatest ``as_of`` (not after the given one), newest first among equals."""
        c = reports.c
        query = select(reports).where(c.usecase == usecase, c.kind == kind)
        if model is not None:
            query = query.where(c.model == model)
        if challenger is not None:
            query = query.where(c.challenger == challenger)
        if as_of is not None:
            query = query.where(c.as_of <= to_us(as_of))
        found = self._rows(query.order_by(desc(c.as_of), desc(c.report_id)).limit(1))
        return found[0] if found else None

    def list(
        self,
        usecase: str,
        kind: ReportKind | None = None,
        since: datetime | None = None,
        limit: int = 1000,
        until: datetime | None = None,
    ) -> builtins.list[Report]:
        """Reports from ``since`` up to ``until`` in the order of ``as_of``, then of storage; the newest ``limit``."""
        c = reports.c
        query = select(reports).where(c.usecase == usecase)
        if kind is not None:
            query = query.where(c.kind == kind)
        if since is not None:
            query = query.where(c.as_of >= to_us(since))
        if until is not None:
            query = query.where(c.as_of <= to_us(until))
        return self._rows(query.order_by(desc(c.as_of), desc(c.report_id)).limit(limit))[::-1]

    def _rows(self, query: Any) -> builtins.list[Report]:
        names = [column.name for column in reports.columns]
        with self._database.read() as connection:
            return [_report(dict(zip(names, row, strict=True))) for row in fetch(connection, query)]


def _report(row: Mapping[str, Any]) -> Report:
    values = dict(row)
    values["payload"] = json.loads(values["payload"])
    return Report(**values | {"as_of": from_us(values["as_of"]), "stored_at": from_us(values["stored_at"])})
