"""Who is active, who serves, what stands in the way: the answer of ``python -m bentos.release status``."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.errors import RegistryUnavailable
from bentos.release.emergency import emergencies
from bentos.usecase.definition import UseCase
from monitoring.policies.change_windows import hold_reason
from monitoring.store import Store, ThresholdOrder

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRegistry


def status(registry: ModelRegistry, store: Store, usecase: UseCase, model: str, now: datetime) -> dict[str, Any]:
    """Everything that somebody wants to know before acting, also while the registry is away. Machine time."""
    try:
        roles = {role: ref.version for role, ref in registry.roles(model).items()}
        is_reachable = True
    except RegistryUnavailable:
        roles, is_reachable = {}, False
    overrides = store.orders.standing(model)
    champion = store.decisions.terms(model, "champion")
    lost_roles = (
        {r: v for r, v in overrides.holders.items() if r not in roles} if is_reachable and overrides.pin is None else {}
    )
    is_unexplained = roles.get("champion") not in {None, *overrides.explained}
    replicas = store.serving.live(usecase.name)
    return {
        "model": model,
        "registry_reachable": is_reachable,
        "roles": roles,
        "champion_by_journal": champion[-1][0] if champion else None,
        "in_office_since": champion[-1][1].isoformat() if champion else None,
        "served": {r.replica: {"version": r.version, "seconds_ago": round(r.age, 1)} for r in replicas},
        "lost_by_the_registry": f"{lost_roles}; to give it back: incumbent db repair" if lost_roles else None,
        "barred": dict(store.decisions.barred(model)),
        "unfinished": [f"{o.kind} to {o.to_version}: {o.state}" for o in store.journal.unfinished(model)],
        "pinned": None if overrides.pin is None else f"version {overrides.pin.version}: {overrides.pin.reason}",
        "threshold_order": _order_line(overrides.threshold, now),
        "emergencies": [
            f"{e.op_id[:12]} version {e.version}: review {e.state}, due {e.review_by.isoformat()}"
            for e in emergencies(store, usecase.name, model, now)
        ],
        "unexplained_alias": roles.get("champion") if is_unexplained else None,
        "refused": {r.replica: json.loads(r.detail)["refused"] for r in replicas if "refused" in json.loads(r.detail)},
        "promotions": hold_reason(usecase.promotion, usecase.zone, now) or "allowed now",
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
    overrides = store.orders.standing(model)
    rows = []
    if overrides.pin is not None:
        rows.append(("pinned", f"version {overrides.pin.version}, until the registry answers: {overrides.pin.reason}"))
    if champion not in {None, *overrides.explained} and overrides.pin is None:
        rows.append(("unexplained", f"@champion names version {champion}, which nobody decided; it is not served"))
    if (order := _order_line(overrides.threshold, now)) is not None:
        rows.append(("threshold order", order))
    for emergency in emergencies(store, usecase.name, model, now):
        if emergency.state in ("open", "overdue"):
            due = f"{emergency.review_by:%Y-%m-%d %H:%M} UTC"
            due_text = f"OVERDUE since {due}" if emergency.state == "overdue" else f"due {due}"
            rows.append(
                ("emergency", f"version {emergency.version}: review {due_text}, operation {emergency.op_id[:12]}")
            )
    if (freeze_reason := hold_reason(usecase.promotion, usecase.zone, now)) is not None:
        rows.append(("promotions", freeze_reason))
    return rows
