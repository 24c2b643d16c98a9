"""Who is active and how it goes, in a few lines.

Who held which role on a past day comes from the chain of decisions, not from today's aliases. What is known of now
only (replicas, routing, runs) is left out of a look at a past day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from bentos.errors import RoutingError
from bentos.registry.ports import ROLES, ModelRef, ModelRegistry, Role
from bentos.registry.routing_policy import RoutingPolicy
from bentos.usecase.definition import UseCase
from flows.steps.comparison.arm_figures import arm_report
from flows.steps.reports.replica_status import replica_line, replica_states
from monitoring.store.decisions.role_terms import terms_between

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitoring.store import Store

_DAY = timedelta(days=1)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
LOST = ", by the journal; the registry has lost it: incumbent db repair"
"""Added to a role whose alias or version was deleted outside; see :mod:`flows.steps.operations.repairs`."""


@dataclass(frozen=True)
class ModelStatus:
    """The state of one model.

    Attributes:
        model: name in the registry.
        roles: role to version, and since when by the journal (business time); ``lost`` where the registry has lost it.
        served: replica to version, by the replicas' own word.
        log: events in the database before ``as_of``, first and last event time.
        reports: newest report of each kind: as_of and outcome.
        runs: newest runs: flow, state, message.
        replicas: alias against served and the routing that is applied; see
            :func:`flows.steps.reports.replica_status.replica_states`.
        routing: the routing policy, and the sample-ratio check of its arms.
        past: whether ``as_of`` is a past day: the log goes on for a day or more, or a role changed hands afterwards.
            Then ``served``, ``runs``, ``replicas`` and ``routing`` are empty.
    """

    model: str
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    served: dict[str, str | None] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    replicas: list[dict[str, Any]] = field(default_factory=list)
    routing: dict[str, Any] = field(default_factory=dict)
    past: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        names = ("model", "roles", "served", "log", "reports", "runs", "replicas", "routing", "past")
        return {name: getattr(self, name) for name in names}

    def lines(self) -> list[tuple[str, str]]:
        """What people read: name and text."""
        lines = [
            (f"@{role}", f"version {v['version']}{_since(v['since'])}{LOST if 'lost' in v else ''}")
            for role, v in self.roles.items()
        ]
        vacant = "vacant" if self.past else "vacant: train a first model"
        lines = lines or [("champion", vacant)]
        lines += [("routing", _routing_line(self.routing))] if self.routing else []
        lines += [replica_line(replica) for replica in self.replicas]
        lines.append(("log", f"{self.log['events']} events, the last at {self.log['last']}" if self.log else "empty"))
        lines += [(kind, f"{r['outcome']} as of {r['as_of']:%Y-%m-%d %H:%M}") for kind, r in self.reports.items()]
        lines += [
            (f"run {r['flow']}", shorten(f"{r['state']} {r['message']}", 240, placeholder=" ...")) for r in self.runs
        ]
        return lines


def model_status(
    store: Store, registry: ModelRegistry, usecase: UseCase, model: str, as_of: datetime, runs: int = 5
) -> ModelStatus:
    """Look everything up; nothing is computed."""
    roles_view = registry.look(model)
    reports = {k: store.reports.latest(usecase.name, k, as_of=as_of) for k in ("drift", "comparison", "training")}
    span = store.log.span(usecase.name)
    past = span is not None and span[2] >= as_of + _DAY
    past = past or any(_changed_later(store, model, role, as_of) for role in ROLES)
    span = store.log.span(usecase.name, before=as_of) if past else span
    status = ModelStatus(
        model=model,
        roles=_roles_at(store, usecase, model, roles_view.roles, as_of),
        log={} if span is None else {"events": span[0], "first": span[1], "last": span[2]},
        reports={k: {"as_of": r.as_of, "outcome": r.outcome} for k, r in reports.items() if r is not None},
        past=past,
    )
    if status.past:
        return status
    policy, routing = _routing(store, usecase, model, roles_view.routing)
    return replace(
        status,
        served={replica.replica: replica.version for replica in store.serving.live(usecase.name)},
        runs=[
            {"flow": r.flow, "state": r.state, "message": r.message, "started_at": r.started_at}
            for r in store.runs.recent(usecase.name, runs)
        ],
        replicas=replica_states(store, usecase.name, model, roles_view.roles, policy, datetime.now(UTC)),
        routing=routing,
    )


def business_now(store: Store, usecase: UseCase, model: str, now: datetime) -> datetime:
    """The present of a model's business time: the clock, or what is newest where simulated time runs ahead of it."""
    span = store.log.span(usecase.name)
    changes = [at for role in ROLES for _, at, _ in store.decisions.terms(model, role)]
    return max([now, *changes, *([] if span is None else [span[2]])])


def _roles_at(
    store: Store, usecase: UseCase, model: str, now: Mapping[Role, ModelRef], as_of: datetime
) -> dict[str, dict[str, Any]]:
    """Role to version and since when, at ``as_of``; an alias that no decision names stands for its whole past."""
    roles: dict[str, dict[str, Any]] = {}
    overrides = store.orders.standing(model)
    journal_rules = overrides.pin is None and not usecase.promotion.hand_edits
    terms = terms_between(store.database, model, as_of, _LAST)
    for role in ROLES:
        ref, role_terms = now.get(role), [term for term in terms if term.role == role and term.since <= as_of]
        is_lost = ref is None and journal_rules and role in overrides.holders
        version = overrides.holders[role] if is_lost else None if ref is None else ref.version
        if _changed_later(store, model, role, as_of) or any(term.until is not None for term in role_terms):
            version, is_lost = (role_terms[-1].version if role_terms else None), False
        if version is not None:
            since = [term.since for term in role_terms if term.version == version]
            roles[role] = {"version": version, "since": since[-1] if since else None} | (
                {"lost": True} if is_lost else {}
            )
    return roles


def _changed_later(store: Store, model: str, role: Role, as_of: datetime) -> bool:
    """Whether the role changed hands after ``as_of``."""
    return any(since > as_of for _, since, _ in store.decisions.terms(model, role))


def _routing(
    store: Store, usecase: UseCase, model: str, text: str | None
) -> tuple[RoutingPolicy | None, dict[str, Any]]:
    """The policy that the registry's text says, and what is shown of it."""
    if text is None:
        return None, {}
    try:
        policy = RoutingPolicy.from_text(text)
    except RoutingError as exc:
        return None, {"problem": str(exc)}
    report = arm_report(store, usecase, model, policy)
    summary: dict[str, Any] = {"mode": policy.mode, "share": policy.share, "set_at": policy.created_at}
    summary |= {"champion": policy.champion, "challenger": policy.challenger, "actor": policy.actor}
    return policy, summary | report.to_json()


def _routing_line(routing: dict[str, Any]) -> str:
    if "problem" in routing:
        return f"the champion answers all: {routing['problem']}"
    text = f"{routing['mode']}, challenger {routing['challenger']} at {routing['share']:.0%}"
    text += f" since {routing['set_at']:%Y-%m-%d %H:%M} by {routing['actor']}"
    if routing["sample_ratio"]["mismatch"]:
        text += "; ALARM: sample-ratio mismatch, see incumbent canary status"
    return text


def _since(at: datetime | None) -> str:
    return "" if at is None else f" since {at:%Y-%m-%d %H:%M}"
