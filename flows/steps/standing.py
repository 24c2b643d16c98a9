"""Who is in office and how it goes, in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.roles import ModelRegistry
from bentos.usecase import UseCase

if TYPE_CHECKING:
    from monitoring.store import Store


@dataclass(frozen=True)
class Standing:
    """The state of one model.

    Attributes:
        model: name in the registry.
        roles: role to version, and since when by the journal (business time).
        served: replica to version, by the replicas' own word.
        log: events in the database, first and last event time.
        reports: newest report of each kind: as_of and outcome.
        runs: newest runs: flow, state, message.
    """

    model: str
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: dict[str, str | None] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        names = ("model", "roles", "served", "log", "reports", "runs")
        return {name: getattr(self, name) for name in names}

    def lines(self) -> list[tuple[str, str]]:
        """What people read: name and text."""
        lines = [(f"@{role}", f"version {v['version']}{_since(v['since'])}") for role, v in self.roles.items()]
        lines = lines or [("office", "vacant: train a first model")]
        lines += [("served", f"{version or 'nothing'} by {replica}") for replica, version in self.served.items()]
        lines.append(("log", f"{self.log['events']} events, the last at {self.log['last']}" if self.log else "empty"))
        lines += [(kind, f"{r['outcome']} as of {r['as_of']:%Y-%m-%d %H:%M}") for kind, r in self.reports.items()]
        lines += [(f"run {r['flow']}", f"{r['state']} {r['message']}".strip()[:100]) for r in self.runs]
        return lines


def standing(
    store: Store, registry: ModelRegistry, usecase: UseCase, model: str, as_of: datetime, runs: int = 5
) -> Standing:
    """Look everything up; nothing is computed."""
    span = store.log.span(usecase.name)
    held: dict[str, dict[str, Any]] = {}
    for role, ref in registry.roles(model).items():
        since = [at for version, at, _ in store.decisions.terms(model, role) if version == ref.version]
        held[role] = {"version": ref.version, "since": since[-1] if since else None}
    latest = {k: store.reports.latest(usecase.name, k, as_of=as_of) for k in ("drift", "comparison", "training")}
    return Standing(
        model=model,
        roles=held,
        served={replica.replica: replica.version for replica in store.serving.live(usecase.name)},
        log={} if span is None else {"events": span[0], "first": span[1], "last": span[2]},
        reports={k: {"as_of": r.as_of, "outcome": r.outcome} for k, r in latest.items() if r is not None},
        runs=[
            {"flow": r.flow, "state": r.state, "message": r.message, "started_at": r.started_at}
            for r in store.runs.recent(usecase.name, runs)
        ],
    )


def _since(at: datetime | None) -> str:
    return "" if at is None else f" since {at:%Y-%m-%d %H:%M}"
