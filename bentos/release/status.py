"""Who is in office, who serves, what stands in the way: the answer of ``python -m bentos.release status``."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.errors import RegistryUnavailable
from bentos.release.emergency import emergencies
from bentos.usecase.definition import UseCase
from monitoring.policies.change_windows import why_held
from monitoring.store import Store, ThresholdOrder

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRegistry


def status(registry: ModelRegistry, store: Store, usecase: UseCase, model: str, now: datetime) -> dict[str, Any]:
    """Everything that somebody wants to know before acting, also while the registry is away. Machine time."""
    try:
        roles = {role: ref.version for role, ref in registry.roles(model).items()}
        reachable = True
    except RegistryUnavailable:
        roles, reachable = {}, False
    standing = store.orders.standing(model)
    champion = store.decisions.terms(model, "champion")
    lost = {r: v for r, v in standing.holders.items() if r not in roles} if reachable and standing.pin is None else {}
    by_hand = roles.get("champion") not in {None, *standing.explained}
    replicas = store.serving.live(usecase.name)
    return {
        "model": model,
        "registry_reachable": reachable,
        "roles": roles,
        "champion_by_journal": champion[-1][0] if champion else None,
        "in_office_since": champion[-1][1].isoformat() if champion else None,
        "served": {r.replica: {"version": r.version, "seconds_ago": round(r.age, 1)} for r in replicas},
        "lost_by_the_registry": f"{lost}; to give it back: incumbent db repair" if lost else None,
        "barred": dict(store.decisions.barred(model)),
        "unfinished": [f"{o.kind} to {o.to_version}: {o.state}" for o in store.journal.unfinished(model)],
        "pinned": None if standing.pin is None else f"version {standing.pin.version}: {standing.pin.reason}",
        "threshold_order": _order_line(standing.threshold, now),
        "emergencies": [
            f"{e.op_id[:12]} version {e.version}: review {e.state}, due {e.review_by.isoformat()}"
            for e in emergencies(store, usecase.name, model, now)
        ],
        "unexplained_alias": roles.get("champion") if by_hand else None,
        "refused": {r.replica: json.loads(r.detail)["refused"] for r in replicas if "refused" in json.loads(r.detail)},
        "promotions": why_held(usecase.promotion, usecase.zone, now) or "allowed now",
        "audit_problems": store.decisions.verify(),
    }


def _order_line(order: ThresholdOrder | None, now: datetime) -> str | None:
    if order is None or order.until <= now:
        return None
    return f"{order.value} for version {order.version} until {order.until.isoformat()}, by {' and '.join(order.owners)}"


def notices(store: Store, usecase: UseCase, model: str, champion: str | None, now: datetime) -> list[tuple[str, str]]:
    """What stands out of the ordinary, in words: pins, orders, unexplained aliases, reviews, held promotions.

    ``champion`` is the version behind the alias, or none where it is not known; ``now`` is machine time.
    """
    standing = store.orders.standing(model)
    found = []
    if standing.pin is not None:
        found.append(("pinned", f"version {standing.pin.version}, until the registry answers: {standing.pin.reason}"))
    if champion not in {None, *standing.explained} and standing.pin is None:
        found.append(("unexplained", f"@champion names version {champion}, which nobody decided; it is not served"))
    if (order := _order_line(standing.threshold, now)) is not None:
        found.append(("threshold order", order))
    for one in emergencies(store, usecase.name, model, now):
        if one.state in ("open", "overdue"):
            due = f"{one.review_by:%Y-%m-%d %H:%M} UTC"
            word = f"OVERDUE since {due}" if one.state == "overdue" else f"due {due}"
            found.append(("emergency", f"version {one.version}: review {word}, operation {one.op_id[:12]}"))
    if (held := why_held(usecase.promotion, usecase.zone, now)) is not None:
        found.append(("promotions", held))
    return found
